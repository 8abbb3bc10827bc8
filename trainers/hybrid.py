"""The hybrid: a model's score fused with what can be counted, with an interval, and with doubts that call a human.

A transformer that reads 512 tokens misses what stands behind them and hardly sees length; a ridge on words and surface
features sees both and no meaning. Late fusion, fitted on validation, takes what each knows. The same counts tell an essay
that is unlike the graded ones. A raw transformers pipeline gives the model's score alone, without any of this.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file
from scipy.stats import norm
from sklearn.linear_model import RidgeCV

from .calibration import FEW, own_or_all, to_scale, variance_match
from .essay_features import EssayFeatures, PromptRidge
from .intervals import conformal_radius

ARRAYS, FACTS = "hybrid.safetensors", "hybrid.json"
LEVEL = 0.9
"""Share of human scores that an interval is to cover."""
DIFFICULTY_ALPHAS = (1.0, 10.0, 100.0, 1000.0)
RARE = 0.01
"""Share of honest essays that a doubt about topic or about language may send to a human, each."""
MOST_COPIED = 0.3
"""Essays that repeat more of themselves than this go to a human."""
DIFFICULTY_RANGE = (0.5, 2.5)


@dataclass
class Reading:
    """What the hybrid makes of essays.

    Attributes:
        scores: Float array (essays, scores), scaled to 0..1, calibrated, not rounded.
        radius: Float array (essays, scores), half the width of the interval on the same scale; inf where there is none.
        certainty: Float array (essays,), 0 to 1, how likely the rounded score is the human's, for errors as large as the
            interval says; of several scores the least certain.
        doubts: For each essay why a human should read it, '' where nothing speaks for that.
    """

    scores: np.ndarray
    radius: np.ndarray
    certainty: np.ndarray
    doubts: np.ndarray


@dataclass
class Hybrid:
    """Fusion, calibration, intervals and doubts; a prompt each.

    Attributes:
        ridges: prompt_id -> words and surface features, fitted on train.
        steps: prompt_id -> float64 array (scores,), distance of neighbouring scores where the rubric is 0..1.
        fused: Whether scores are fused; else they are the model's own, and only intervals and doubts are added.
        weight: prompt_id -> float64 array (scores,), 0 to 1: that of the model; the ridge has the rest.
        difficulty: float64 array (4 + 1,), how the size of the error depends on what is counted; for all prompts.
        lines: prompt_id -> float64 array (scores, 2), slope and intercept, fitted on calibration.
        radius: prompt_id -> float64 array (scores,), conformal radius at difficulty 1.
        least: prompt_id -> float64 array (3,): on topic, familiar language and certainty below which an essay goes to a human.
    """

    ridges: dict[str, PromptRidge]
    steps: dict[str, np.ndarray]
    fused: bool = True
    weight: dict[str, np.ndarray] = field(default_factory=dict)
    difficulty: np.ndarray = field(default_factory=lambda: np.append(np.zeros(len(SIGNS)), 1.0))
    lines: dict[str, np.ndarray] = field(default_factory=dict)
    radius: dict[str, np.ndarray] = field(default_factory=dict)
    least: dict[str, np.ndarray] = field(default_factory=dict)

    def fit(
        self,
        read: dict[str, dict[str, dict[str, np.ndarray]]],
        model: dict[str, np.ndarray],
        human: dict[str, np.ndarray],
        prompt_ids: dict[str, Sequence[str]],
        human_share: float,
    ) -> Hybrid:
        """Fuse on validation; calibrate and measure errors on calibration, which nothing else has seen.

        Args:
            read: prompt_id -> split -> what its ridge read, for "validation" and "calibration".
            model: Split -> float array (rows, scores), the model's scores scaled to 0..1.
            human: Split -> float array (rows, scores), likewise, nan where missing.
            prompt_ids: Split -> the prompt of each row.
            human_share: Share of essays, the least certain of each prompt, that go to a human, 0 to 1.
        """
        rows = {s: {p: np.asarray(prompt_ids[s]) == p for p in self.ridges} for s in ("validation", "calibration")}
        read = {s: {p: read[p][s] for p, here in rows[s].items() if here.any()} for s in rows}
        self._fit_weight(read["validation"], model["validation"], human["validation"], rows["validation"])
        self._fit_difficulty(read["validation"], model["validation"], human["validation"], rows["validation"])
        read, rows, model, human = read["calibration"], rows["calibration"], model["calibration"], human["calibration"]
        self._fit_lines_and_radius(read, model, human, rows)
        self._fit_least(read, model, rows, human_share)
        return self

    def _fit_weight(self, read: dict, model: np.ndarray, human: np.ndarray, rows: dict[str, np.ndarray]) -> None:
        ridge = np.full(human.shape, np.nan)
        for prompt, counted in read.items():
            ridge[rows[prompt]] = counted["ridge"]
        for prompt, here in rows.items():
            weights = []
            for m, r, y in zip(model.T, ridge.T, human.T, strict=True):
                own = own_or_all(here, y)
                weights.append(minimal_variance_weight(m[own], r[own], y[own]))
            self.weight[prompt] = np.array(weights)

    def _fit_difficulty(self, read: dict, model: np.ndarray, human: np.ndarray, rows: dict[str, np.ndarray]) -> None:
        """Errors, each divided by the mean of its prompt, by what is counted; one fit for all prompts."""
        x, y = [], []
        for prompt, counted in read.items():
            here = rows[prompt]
            gaps = np.abs(self._fuse(prompt, model[here], counted) - human[here])
            known = ~np.isnan(gaps).all(axis=1)
            errors = np.nanmean(gaps[known], axis=1)
            if len(errors) > 1 and errors.mean() > 0:
                x.append(signs(model[here], counted)[known])
                y.append(errors / errors.mean())
        if sum(map(len, y)) >= FEW:
            fitted = RidgeCV(DIFFICULTY_ALPHAS).fit(np.concatenate(x), np.concatenate(y))
            self.difficulty = np.append(fitted.coef_, fitted.intercept_)

    def _fit_lines_and_radius(self, read: dict, model: np.ndarray, human: np.ndarray, rows: dict[str, np.ndarray]) -> None:
        """Variance matching, and the conformal radius from errors at difficulty 1.

        Each error is that to a line fitted without its row, so that the line does not flatter the errors.
        """
        fused, difficult = np.full(human.shape, np.nan), np.ones(len(human))
        for prompt, counted in read.items():
            here = rows[prompt]
            fused[here] = self._fuse(prompt, model[here], counted)
            difficult[here] = self._difficulty(model[here], counted)
        for prompt, here in rows.items():
            lines, radius = [], []
            for f, y in zip(fused.T, human.T, strict=True):
                own = np.flatnonzero(own_or_all(here, y) & ~np.isnan(y))
                lines.append(variance_match(f[own], y[own]))
                errors = np.empty(len(own))
                for k, row in enumerate(own):
                    others = np.delete(own, k)
                    slope, intercept = variance_match(f[others], y[others])
                    errors[k] = abs(slope * f[row] + intercept - y[row]) / difficult[row]
                radius.append(conformal_radius(errors, LEVEL))
            self.lines[prompt], self.radius[prompt] = np.array(lines, float), np.array(radius, float)

    def _fit_least(self, read: dict, model: np.ndarray, rows: dict[str, np.ndarray], human_share: float) -> None:
        """Thresholds of doubt, from essays that were written in earnest."""
        certainty = {p: self._score(p, model[rows[p]], counted)[2] for p, counted in read.items()}
        every = np.concatenate(list(certainty.values()))
        for prompt in self.ridges:
            own = certainty.get(prompt, every[:0])
            own = own if len(own) >= FEW else every
            # where calibration is too small for an interval nothing is certain, and every essay goes to a human
            least = np.quantile(own, human_share) if own.max() > 0 else 1.0
            on_topic, familiar = -1.0, 0.0
            if prompt in read:
                seen = np.array([read[prompt][n] for n in ("on_topic", "familiar")])
                on_topic, familiar = np.quantile(seen, RARE, axis=1, method="lower")
            self.least[prompt] = np.array([on_topic, familiar, least if human_share > 0 else 0.0])

    def add_prompt(self, prompt: str, like: str, of: Hybrid | None = None) -> None:
        """Treat a new prompt like another, of this or of another hybrid; its `steps` stay where they are known."""
        own_steps = self.steps.get(prompt)
        for table in ("ridges", *TABLES):
            getattr(self, table)[prompt] = getattr(of or self, table)[like]
        if own_steps is not None:
            self.steps[prompt] = own_steps

    # ---- reading essays -----------------------------------------------------------------------------------------------

    def read(self, texts: Sequence[str], prompt_ids: Sequence[str], model: np.ndarray) -> Reading:
        """Score essays.

        Args:
            texts: The essays.
            prompt_ids: The prompt of each.
            model: Float array (essays, scores), the model's scores scaled to 0..1.
        """
        prompts = np.asarray(prompt_ids)
        counted = {
            p: self.ridges[p].read([t for t, q in zip(texts, prompts, strict=True) if q == p]) for p in set(prompts.tolist())
        }
        return self.read_counted(counted, prompt_ids, model)

    def read_counted(self, counted: dict[str, dict], prompt_ids: Sequence[str], model: np.ndarray) -> Reading:
        """As `read`, for essays that the ridges have read; `counted`: prompt_id -> what its ridge read."""
        prompts, rows = np.asarray(prompt_ids), len(model)
        scores, radius = np.zeros(model.shape), np.zeros(model.shape)
        certainty, doubts = np.zeros(rows), np.full(rows, "", dtype=object)
        for prompt, own in counted.items():
            here = prompts == prompt
            scores[here], radius[here], certainty[here] = self._score(prompt, model[here], own)
            doubts[here] = self._doubts(prompt, own, certainty[here])
        return Reading(scores, radius, certainty, doubts)

    def _fuse(self, prompt: str, model: np.ndarray, counted: dict) -> np.ndarray:
        if not self.fused:
            return model
        weight = self.weight[prompt]
        return weight * model + (1 - weight) * counted["ridge"]

    def _difficulty(self, model: np.ndarray, counted: dict) -> np.ndarray:
        return np.clip(signs(model, counted) @ self.difficulty[:-1] + self.difficulty[-1], *DIFFICULTY_RANGE)

    def _score(self, prompt: str, model: np.ndarray, counted: dict) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Calibrated scores, radius, certainty."""
        line = self.lines[prompt]
        scores = line[:, 0] * self._fuse(prompt, model, counted) + line[:, 1]
        scores[counted["empty"]] = 0.0  # an empty essay earns the lowest score, whatever a model says
        radius = self._difficulty(model, counted)[:, None] * self.radius[prompt]
        return scores, radius, certainty_of(scores, radius, self.steps[prompt]).min(axis=1)

    def _doubts(self, prompt: str, counted: dict, certainty: np.ndarray) -> np.ndarray:
        least_on_topic, least_familiar, least_certain = self.least[prompt]
        reasons = (
            ("empty", counted["empty"]),
            ("copied within itself", counted["copied"] > MOST_COPIED),
            ("off topic", counted["on_topic"] < least_on_topic),
            ("unfamiliar language", counted["familiar"] < least_familiar),
            ("uncertain", certainty < least_certain),
        )
        doubts = np.full(len(certainty), "", dtype=object)
        for name, applies in reversed(reasons):  # the first reason stays
            doubts[applies] = name
        return doubts

    # ---- files --------------------------------------------------------------------------------------------------------

    def save(self, folder: Path) -> None:
        """hybrid.safetensors with the arrays, hybrid.json with the rest."""
        arrays = {"difficulty": self.difficulty}
        for i, (prompt, ridge) in enumerate(self.ridges.items()):
            own = {**vars(ridge.features), "weights": ridge.weights, "bias": ridge.bias}
            own |= {name: getattr(self, name)[prompt] for name in TABLES}
            arrays |= {f"{i}.{name}": np.ascontiguousarray(value) for name, value in own.items()}
        save_file(arrays, folder / ARRAYS)
        facts = {"prompts": list(self.ridges), "fused": self.fused, "level": LEVEL}
        (folder / FACTS).write_text(json.dumps(facts, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, arrays_file: Path, facts_file: Path) -> Hybrid:
        """What `save` wrote."""
        facts, arrays = json.loads(facts_file.read_text(encoding="utf-8")), load_file(arrays_file)
        hybrid = cls({}, {}, facts["fused"], difficulty=arrays["difficulty"])
        for i, prompt in enumerate(facts["prompts"]):
            own = {name.split(".", 1)[1]: value for name, value in arrays.items() if name.startswith(f"{i}.")}
            features = EssayFeatures(**{f.name: own[f.name] for f in fields(EssayFeatures)})
            hybrid.ridges[prompt] = PromptRidge(features, own["weights"], own["bias"])
            for name in TABLES:
                getattr(hybrid, name)[prompt] = own[name]
        return hybrid


TABLES = ("steps", "weight", "lines", "radius", "least")
SIGNS = ("gap", "score", "score_squared", "words")
"""What the size of an error depends on."""


def signs(model: np.ndarray, counted: dict[str, np.ndarray]) -> np.ndarray:
    """Model and ridge apart, the score between them and its distance from the middle, the length; float array (essays, 4)."""
    score = np.nanmean((model + counted["ridge"]) / 2, axis=1)
    gap = np.abs(model - counted["ridge"]).mean(axis=1)
    return np.stack([10 * gap, score, 4 * (score - 0.5) ** 2, counted["surface"][:, 3]], axis=1)


def certainty_of(scores: np.ndarray, radius: np.ndarray, step: np.ndarray) -> np.ndarray:
    """How likely the rounded score is the human's, for normal errors of which `LEVEL` lie within the radius.

    Args:
        scores: Float array (rows, scores), scaled to 0..1.
        radius: Likewise, half the width of the interval; inf gives 0.
        step: Float array (scores,), distance of neighbouring scores.
    """
    sd = np.maximum(radius, 1e-9) / norm.ppf((1 + LEVEL) / 2)
    rounded = to_scale(scores, 0.0, 1.0, step)
    above = np.where(rounded > 1 - step / 2, np.inf, rounded + step / 2 - scores)
    below = np.where(rounded < step / 2, -np.inf, rounded - step / 2 - scores)
    with np.errstate(invalid="ignore"):
        likely = norm.cdf(above / sd) - norm.cdf(below / sd)
    return np.where(np.isfinite(radius), likely, 0.0)


def minimal_variance_weight(model: np.ndarray, ridge: np.ndarray, human: np.ndarray) -> float:
    """The weight of the model in weight * model + (1 - weight) * ridge with the least squared error (Bates and Granger 1969).

    One number a prompt: with a hundred rows, more would fit their noise (recipes/RESULTS.md has what was tried).

    Args:
        model, ridge, human: Float arrays (rows,) on one scale; human is nan where missing.

    Returns:
        0 to 1; 0.5 where there are no rows, or nothing tells the two apart.
    """
    known = ~np.isnan(human)
    gap, error = (model - ridge)[known], (human - ridge)[known]
    return float(np.clip(gap @ error / (gap @ gap), 0, 1)) if (gap @ gap) > 0 else 0.5

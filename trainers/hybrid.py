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
from sklearn.linear_model import RidgeCV

from .calibration import FEW, own_or_all, variance_match
from .essay_features import EssayFeatures, PromptRidge
from .intervals import conformal_radius

ARRAYS, FACTS = "hybrid.safetensors", "hybrid.json"
LEVEL = 0.9
"""Share of human scores that an interval is to cover."""
DIFFICULTY_ALPHAS = (1.0, 10.0, 100.0, 1000.0)
RARE = 0.01
"""Share of honest essays that a doubt about similarity or about common words may send to a human."""
MOST_COPIED = 0.3
"""Essays that repeat more of themselves than this go to a human."""
DIFFICULTY_RANGE = (0.5, 2.5)


@dataclass
class Reading:
    """What the hybrid makes of essays.

    Attributes:
        scores: Float array (essays, scores), scaled to 0..1, calibrated, not rounded.
        radius: Float array (essays, scores), half the width of the interval on the same scale; inf where there is none.
        doubts: For each essay why a human should read it, '' where nothing speaks for that.
    """

    scores: np.ndarray
    radius: np.ndarray
    doubts: np.ndarray


@dataclass
class Hybrid:
    """Fusion, calibration, intervals and doubts; a prompt each.

    Attributes:
        ridges: prompt_id -> words and surface features, fitted on train.
        fused: Whether scores are fused; else they are the model's own, and only intervals and doubts are added.
        weight: prompt_id -> float64 array (scores,), 0 to 1: that of the model; the ridge has the rest.
        difficulty: float64 array (4 + 1,), how the size of the error depends on what is counted; for all prompts.
        lines: prompt_id -> float64 array (scores, 2), slope and intercept, fitted on calibration.
        radius: prompt_id -> float64 array (scores,), conformal radius at difficulty 1.
        least: prompt_id -> float64 array (2,), similarity and share of common words that `RARE` of honest essays fall below.
        widest: Radius above which an essay goes to a human; inf for none.
    """

    ridges: dict[str, PromptRidge]
    fused: bool = True
    weight: dict[str, np.ndarray] = field(default_factory=dict)
    difficulty: np.ndarray = field(default_factory=lambda: np.zeros(5))
    lines: dict[str, np.ndarray] = field(default_factory=dict)
    radius: dict[str, np.ndarray] = field(default_factory=dict)
    least: dict[str, np.ndarray] = field(default_factory=dict)
    widest: float = np.inf

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
            human_share: Share of essays with the widest intervals that go to a human, 0 to 1.
        """
        rows = {s: {p: np.asarray(prompt_ids[s]) == p for p in self.ridges} for s in ("validation", "calibration")}
        ridge = np.full(human["validation"].shape, np.nan)
        for prompt, here in rows["validation"].items():
            if here.any():
                ridge[here] = read[prompt]["validation"]["ridge"]
        for prompt, here in rows["validation"].items():
            columns = zip(model["validation"].T, ridge.T, human["validation"].T, strict=True)
            columns = [(own_or_all(here, y), m, r, y) for m, r, y in columns]
            self.weight[prompt] = np.array([minimal_variance_weight(m[own], r[own], y[own]) for own, m, r, y in columns])
        self._fit_difficulty(read, model, human, rows)
        fused = {s: np.full(human[s].shape, np.nan) for s in rows}
        for prompt in self.ridges:
            for split, counted in read[prompt].items():
                if split in rows:
                    here = rows[split][prompt]
                    fused[split][here] = self._fuse(prompt, model[split][here], counted)
        self._fit_lines(fused["calibration"], human["calibration"], rows["calibration"])
        self._fit_radius(read, fused["calibration"], model["calibration"], human["calibration"], rows["calibration"])
        widths = []
        for prompt in self.ridges:
            honest = [read[prompt][s] for s in rows if s in read[prompt]]
            both = np.array([np.concatenate([c[n] for c in honest]) for n in ("similarity", "common")]) if honest else None
            self.least[prompt] = np.quantile(both, RARE, axis=1, method="lower") if honest else np.zeros(2)
            if "calibration" in read[prompt]:
                here = rows["calibration"][prompt]
                widths.append(self._radius(prompt, model["calibration"][here], read[prompt]["calibration"]).max(axis=1))
        widths = np.concatenate(widths)
        known = widths[np.isfinite(widths)]  # where calibration is too small for an interval, every essay is uncertain
        self.widest = float(np.quantile(known, 1 - human_share)) if len(known) else 0.0
        if human_share == 0:
            self.widest = np.inf
        return self

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
        prompts = np.asarray(prompt_ids)
        reading = Reading(np.zeros(model.shape), np.zeros(model.shape), np.full(len(model), "", dtype=object))
        for prompt, read in counted.items():
            here = prompts == prompt
            line = self.lines[prompt]
            reading.scores[here] = line[:, 0] * self._fuse(prompt, model[here], read) + line[:, 1]
            reading.radius[here] = self._radius(prompt, model[here], read)
            reading.doubts[here] = self._doubts(prompt, read, reading.radius[here])
            empty = here.copy()
            empty[here] = read["empty"]
            reading.scores[empty] = 0.0  # an empty essay earns the lowest score, whatever a model says
        return reading

    def add_prompt(self, prompt: str, like: str) -> None:
        """Treat a new prompt like another."""
        for table in (self.ridges, self.weight, self.lines, self.radius, self.least):
            table[prompt] = table[like]

    def _fuse(self, prompt: str, model: np.ndarray, counted: dict) -> np.ndarray:
        if not self.fused:
            return model
        weight = self.weight[prompt]
        return weight * model + (1 - weight) * counted["ridge"]

    def _fit_lines(self, fused: np.ndarray, human: np.ndarray, rows: dict[str, np.ndarray]) -> None:
        for prompt, here in rows.items():
            chosen = [own_or_all(here, column) for column in human.T]
            self.lines[prompt] = np.array([variance_match(fused[r, s], human[r, s]) for s, r in enumerate(chosen)])

    def _fit_radius(self, read, fused, model, human, rows) -> None:
        """Conformal radius of each prompt and score from the errors on calibration, each divided by its difficulty."""
        difficult = np.ones(len(human))
        for prompt, here in rows.items():
            if here.any():
                difficult[here] = self._difficulty(model[here], read[prompt]["calibration"])
        errors = np.full(human.shape, np.nan)
        for prompt, here in rows.items():
            line = self.lines[prompt]
            errors[here] = np.abs(line[:, 0] * fused[here] + line[:, 1] - human[here]) / difficult[here, None]
        for prompt, here in rows.items():
            radius = [conformal_radius(errors[own_or_all(here, human[:, s]), s], LEVEL) for s in range(human.shape[1])]
            self.radius[prompt] = np.array(radius)

    def _fit_difficulty(self, read, model, human, rows) -> None:
        """Errors on validation, each divided by the mean of its prompt, by what is counted; one fit for all prompts."""
        x, y = [], []
        for prompt, here in rows["validation"].items():
            if here.any():
                counted, target = read[prompt]["validation"], human["validation"][here]
                errors = np.nanmean(np.abs(self._fuse(prompt, model["validation"][here], counted) - target), axis=1)
                known = ~np.isnan(errors)
                if known.sum() > 1 and errors[known].mean() > 0:
                    x.append(signs(model["validation"][here], counted)[known])
                    y.append(errors[known] / errors[known].mean())
        if x and sum(map(len, y)) >= FEW:
            fitted = RidgeCV(DIFFICULTY_ALPHAS).fit(np.concatenate(x), np.concatenate(y))
            self.difficulty = np.append(fitted.coef_, fitted.intercept_)
        else:
            self.difficulty = np.append(np.zeros(len(SIGNS)), 1.0)

    def _difficulty(self, model: np.ndarray, counted: dict) -> np.ndarray:
        return np.clip(signs(model, counted) @ self.difficulty[:-1] + self.difficulty[-1], *DIFFICULTY_RANGE)

    def _radius(self, prompt: str, model: np.ndarray, counted: dict) -> np.ndarray:
        return self._difficulty(model, counted)[:, None] * self.radius[prompt]

    def _doubts(self, prompt: str, counted: dict, radius: np.ndarray) -> np.ndarray:
        least_similar, least_common = self.least[prompt]
        reasons = (
            ("empty", counted["empty"]),
            ("copied within itself", counted["copied"] > MOST_COPIED),
            ("off topic", counted["similarity"] < least_similar),
            ("no common language", counted["common"] < least_common),
            ("uncertain", (radius > self.widest).any(axis=1)),
        )
        doubts = np.full(len(radius), "", dtype=object)
        for name, applies in reversed(reasons):  # the first reason stays
            doubts[applies] = name
        return doubts

    # ---- files --------------------------------------------------------------------------------------------------------

    def save(self, folder: Path) -> None:
        """hybrid.safetensors with the arrays, hybrid.json with the rest."""
        arrays = {"difficulty": self.difficulty}
        for i, prompt in enumerate(self.ridges):
            ridge = self.ridges[prompt]
            own = {**vars(ridge.features), "weights": ridge.weights, "bias": ridge.bias, "weight": self.weight[prompt]}
            own |= {"lines": self.lines[prompt], "radius": self.radius[prompt], "least": self.least[prompt]}
            arrays |= {f"{i}.{name}": np.ascontiguousarray(value) for name, value in own.items()}
        save_file(arrays, folder / ARRAYS)
        widest = self.widest if np.isfinite(self.widest) else None
        facts = {"prompts": list(self.ridges), "fused": self.fused, "level": LEVEL, "widest": widest}
        (folder / FACTS).write_text(json.dumps(facts, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, arrays_file: Path, facts_file: Path) -> Hybrid:
        """What `save` wrote."""
        facts, arrays = json.loads(facts_file.read_text(encoding="utf-8")), load_file(arrays_file)
        hybrid = cls({}, facts["fused"], difficulty=arrays["difficulty"])
        hybrid.widest = np.inf if facts["widest"] is None else facts["widest"]
        for i, prompt in enumerate(facts["prompts"]):
            own = {name.split(".", 1)[1]: value for name, value in arrays.items() if name.startswith(f"{i}.")}
            features = EssayFeatures(**{f.name: own[f.name] for f in fields(EssayFeatures)})
            hybrid.ridges[prompt] = PromptRidge(features, own["weights"], own["bias"])
            for name in ("weight", "lines", "radius", "least"):
                getattr(hybrid, name)[prompt] = own[name]
        return hybrid


SIGNS = ("gap", "score", "score_squared", "words")
"""What the size of an error depends on."""


def signs(model: np.ndarray, counted: dict[str, np.ndarray]) -> np.ndarray:
    """Model and ridge apart, the score between them and its distance from the middle, the length; float array (essays, 4)."""
    score = np.nanmean((model + counted["ridge"]) / 2, axis=1)
    gap = np.abs(model - counted["ridge"]).mean(axis=1)
    return np.stack([10 * gap, score, 4 * (score - 0.5) ** 2, counted["surface"][:, 3]], axis=1)


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

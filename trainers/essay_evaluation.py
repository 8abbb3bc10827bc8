"""How well essays were scored: agreement by prompt, human agreement, the gate, groups, and what a school may automate."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from datasets import Dataset

from .acceptance import acceptance
from .columns import column_array
from .essay_settings import EssaySettings
from .fairness import standardized_differences
from .intervals import bootstrap_counts, interval_of
from .metrics.agreement import agreement
from .metrics.quadratic_weighted_kappa import quadratic_weighted_kappa

AUTOMATED_SHARES = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2)


def agreement_by_prompt(
    scores: np.ndarray, human: np.ndarray, prompt_ids: Sequence[str], settings: EssaySettings, on_grid: bool = True
) -> dict[str, dict]:
    """Agreement for each prompt, and its plain mean over prompts and scores.

    Scores of different prompts are never pooled: on pooled rows a constant a prompt reaches a kappa of 0.96 on ASAP.

    Args:
        scores: Float array (rows, scores), rounded, in rubric units.
        human: Likewise, nan where missing.
        prompt_ids: The prompt of each row.
        settings: Ranges and step.
        on_grid: Refuse scores that the rubric cannot give.

    Returns:
        {"mean": {metric: value}, "prompts": {prompt_id: {score name: {metric: value}}}}; metrics are
        quadratic_weighted_kappa and those of `metrics.agreement`.
    """
    prompts, by_prompt, every = np.asarray(prompt_ids), {}, []
    for prompt in settings.prompt_ids:
        by_prompt[prompt] = {}
        for s, (name, (low, high)) in enumerate(zip(settings.score_names, settings.score_ranges[prompt], strict=True)):
            here = (prompts == prompt) & ~np.isnan(human[:, s]) & ~np.isnan(scores[:, s])
            if not here.any():
                continue
            a, b = scores[here, s], human[here, s]
            kappa = quadratic_weighted_kappa(a, b, *((low, high, settings.score_step) if on_grid else ()))
            by_prompt[prompt][name] = {"quadratic_weighted_kappa": kappa, **agreement(a, b, settings.score_step)}
            every.append(by_prompt[prompt][name])
    mean = {k: float(np.mean([e[k] for e in every])) for k in every[0]} if every else {}
    if every:  # differences of both signs would cancel in a mean
        mean["standardized_mean_difference"] = float(np.mean([abs(e["standardized_mean_difference"]) for e in every]))
        # the mean of Fisher's z, the rule of the ASAP competition; 0.999 keeps a perfect prompt finite
        z = np.arctanh(np.clip([e["quadratic_weighted_kappa"] for e in every], -0.999, 0.999))
        mean["quadratic_weighted_kappa_fisher"] = float(np.tanh(z.mean()))
    return {"mean": mean, "prompts": by_prompt}


def human_agreement(
    rater1: np.ndarray, rater2: np.ndarray, prompt_ids: Sequence[str], settings: EssaySettings
) -> dict[str, dict] | None:
    """Rater against rater, on the scale of one rater (where the score is their sum, that is another than the score's).

    Args:
        rater1: Float array (rows, scores), nan where unknown.
        rater2: Likewise.

    Returns:
        As `agreement_by_prompt`; None where no essay has two ratings.
    """
    both = ~np.isnan(rater1) & ~np.isnan(rater2)
    if not both.any():
        return None
    known = (np.where(both, rater, np.nan) for rater in (rater1, rater2))
    return agreement_by_prompt(*known, prompt_ids, settings, on_grid=False)


def kappa_intervals(
    systems: dict[str, np.ndarray], human: np.ndarray, prompt_ids: Sequence[str], groups: Sequence[str],
    settings: EssaySettings, ours: str,
) -> dict[str, dict[str, list[float]]]:  # fmt: skip
    """95% bootstrap intervals of mean kappa, and of what one system is above each other, on the same draws.

    Args:
        systems: Name -> float array (rows, scores), rounded, in rubric units.
        human: Likewise, nan where missing.
        prompt_ids: The prompt of each row.
        groups: What is drawn: the learner or, where unknown, the essay of each row.
        settings: Ranges and step.
        ours: The system that the others are compared with.

    Returns:
        System -> {"interval": [lower, upper]} and, but for `ours`, "behind": [lower, upper], ours minus it.
    """
    prompts = np.asarray(prompt_ids)
    counts = bootstrap_counts([g or f"row {i}" for i, g in enumerate(groups)])
    kappas = {}
    for name, scores in systems.items():
        cells = []
        for prompt in settings.prompt_ids:
            for s in range(len(settings.score_names)):
                here = (prompts == prompt) & ~np.isnan(human[:, s]) & ~np.isnan(scores[:, s])
                if here.any():
                    cells.append(kappa_of_draws(scores[here, s], human[here, s], counts[:, here]))
        kappas[name] = np.nanmean(cells, axis=0)
    table = {name: {"interval": list(interval_of(values))} for name, values in kappas.items()}
    for name in set(systems) - {ours}:
        table[name]["behind"] = list(interval_of(kappas[ours] - kappas[name]))
    return table


def kappa_of_draws(scores: np.ndarray, human: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Quadratic weighted kappa of each bootstrap sample.

    Args:
        scores, human: Float arrays (rows,).
        counts: Float array (draws, rows), how often each row was drawn.

    Returns:
        Float array (draws,); 0 where both are one constant, nan where no row was drawn.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        total = counts.sum(axis=1)
        sums = counts @ np.stack([scores, human, scores**2, human**2, (scores - human) ** 2], axis=1) / total[:, None]
        a, b, a2, b2, gap = sums.T
        expected = (a2 - a**2) + (b2 - b**2) + (a - b) ** 2
        kappa = 1 - gap / expected
    return np.where(total == 0, np.nan, np.where(expected > 1e-12, kappa, 0.0))


def gate(scores: np.ndarray, test: Dataset, settings: EssaySettings) -> dict[str, dict[str, dict]]:
    """`acceptance.acceptance` for each prompt and score.

    Args:
        scores: Float array (rows, scores), rounded, in rubric units.
        test: Columns prompt_id, scores, rater1_scores, rater2_scores.
    """
    human, *raters = (np.array(test[c], float) for c in ("scores", "rater1_scores", "rater2_scores"))
    prompts, table = np.array(test["prompt_id"]), {}
    for prompt in settings.prompt_ids:
        for s, (name, (low, high)) in enumerate(zip(settings.score_names, settings.score_ranges[prompt], strict=True)):
            here = (prompts == prompt) & ~np.isnan(human[:, s])
            if here.sum() > 1:
                rows = (scores[here, s], human[here, s], raters[0][here, s], raters[1][here, s])
                table.setdefault(prompt, {})[name] = acceptance(*rows, low, high, settings.score_step)
    return table


def subgroup_differences(scores: np.ndarray, test: Dataset, columns: Sequence[str]) -> dict[str, dict[str, dict]]:
    """`fairness.standardized_differences` for each subgroup column, of the first score.

    Args:
        scores: Float array (rows, scores), not rounded: rounding would add noise to small groups.
        test: Columns prompt_id, scores, subgroups, group_id, essay_id.
        columns: Names of the entries of `subgroups`.
    """
    units = [g or e or str(i) for i, (g, e) in enumerate(zip(test["group_id"], test["essay_id"], strict=True))]
    human = np.array(test["scores"], float)[:, 0]
    return {
        column: standardized_differences(scores[:, 0], human, [row[c] for row in test["subgroups"]], test["prompt_id"], units)
        for c, column in enumerate(columns)
    }


def coverage_by_prompt(
    unrounded: np.ndarray, radius: np.ndarray, human: np.ndarray, prompt_ids: Sequence[str], settings: EssaySettings
) -> dict[str, dict[str, float]]:
    """Share of human scores inside their interval, and the width of the intervals as a share of the scale.

    Args:
        unrounded: Float array (rows, scores), in rubric units.
        radius: Likewise, half the width.
        human: Likewise, nan where missing.

    Returns:
        prompt_id -> coverage, width, both 0 to 1; and "all" of all rows together.
    """
    low, high = settings.bounds(prompt_ids)
    inside = np.where(np.isnan(human), np.nan, np.abs(unrounded - human) <= radius)
    width = (np.minimum(unrounded + radius, high) - np.maximum(unrounded - radius, low)) / (high - low)
    prompts, table = np.asarray(prompt_ids), {}
    for name, rows in {**{p: prompts == p for p in settings.prompt_ids}, "all": np.ones(len(prompts), bool)}.items():
        if rows.any() and not np.isnan(inside[rows]).all():
            table[name] = {"coverage": float(np.nanmean(inside[rows])), "width": float(np.mean(width[rows]))}
    return table


def automation_curve(
    scores: np.ndarray, unrounded: np.ndarray, radius: np.ndarray, certainty: np.ndarray, human: np.ndarray,
    prompt_ids: Sequence[str], settings: EssaySettings,
) -> list[dict[str, float]]:  # fmt: skip
    """What a school gets when only the essays that the machine is most certain of are scored by it.

    Within each prompt the essays are taken from the most certain on, so that no prompt is automated away. Kappa alone may
    fall with the share, since the essays that are left differ less in their scores; agreement shows what is gained.

    Args:
        scores: Float array (rows, scores), rounded, in rubric units; unrounded, radius and human likewise.
        certainty: Float array (rows,), see `hybrid.Reading`.
        prompt_ids: The prompt of each row.
        settings: Ranges and step.

    Returns:
        For each share scored automatically: share, quadratic_weighted_kappa, exact_agreement, adjacent_agreement (means
        over prompts, of the automated essays), coverage (of all of them), and quadratic_weighted_kappa_together: machine
        for these, human for the others, against the human score.
    """
    prompts = np.asarray(prompt_ids)
    rank = np.zeros(len(prompts))
    for prompt in set(prompts.tolist()):
        here = np.flatnonzero(prompts == prompt)
        rank[here[np.argsort(-certainty[here], kind="stable")]] = (np.arange(len(here)) + 0.5) / len(here)
    curve = []
    for share in AUTOMATED_SHARES:
        auto = rank <= share
        if not auto.any():
            continue
        mean = agreement_by_prompt(scores[auto], human[auto], prompts[auto], settings)["mean"]
        together = agreement_by_prompt(np.where(auto[:, None], scores, human), human, prompts, settings)["mean"]
        inside = np.abs(unrounded[auto] - human[auto]) <= radius[auto]
        curve.append(
            {
                "share": share,
                **{m: mean[m] for m in ("quadratic_weighted_kappa", "exact_agreement", "adjacent_agreement")},
                "coverage": float(np.mean(inside[~np.isnan(human[auto])])),
                "quadratic_weighted_kappa_together": together["quadratic_weighted_kappa"],
            }
        )
    return curve


def truncation_report(dataset: Dataset) -> dict[str, float]:
    """Share of essays that were shortened, and of tokens that were left out, 0 to 1, of an encoded data set."""
    left_out, kept = column_array(dataset, "truncated"), column_array(dataset, "length")
    return {
        "essays_shortened": round(float(np.mean(left_out > 0)), 4),
        "tokens_left_out": round(float(left_out.sum() / (left_out.sum() + kept.sum())), 4),
    }

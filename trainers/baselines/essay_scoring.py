"""What an essay scorer must beat: people, the mean, length, surface features, word counts.

Each baseline is fitted on the same training rows, calibrated on the same calibration rows in the same way as the model,
and scored on the same test rows.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from datasets import Dataset
from sklearn.linear_model import RidgeCV

from ..essay_features import RIDGE_ALPHAS, SURFACE, PromptRidge, hashed_words

MOST_POOLED = 3000
"""Essays of all prompts that a ridge for a prompt without training essays is fitted on."""
LENGTH = [SURFACE.index(name) for name in ("words", "square_root_of_words", "fourth_root_of_words")]
STRONGEST = "tf-idf + surface, ridge"


def essay_baselines(
    splits: dict[str, Dataset], targets: dict[str, np.ndarray], new_prompts: Sequence[str] = ()
) -> tuple[dict[str, dict[str, np.ndarray]], dict[str, PromptRidge], dict[str, dict[str, dict[str, np.ndarray]]]]:
    """Raw scores of every baseline, and the strongest of them as it was fitted.

    Args:
        splits: train and others, with the columns prompt_id and text.
        targets: For each split, float array (rows, scores), each score scaled to 0..1 by its prompt's range; nan missing.
        new_prompts: Names under which to fit a ridge on essays of all prompts, beside those of the splits.

    Returns:
        Three tables. Baseline -> {split: array (rows, scores)} for all splits but train, scaled as the targets and not
        calibrated; a prompt without training essays gets what was fitted on all prompts. Prompt -> its ridge. Prompt ->
        split -> what the ridge read (`PromptRidge.read`).
    """
    shape = {s: t.shape for s, t in targets.items() if s != "train"}
    names = ("prompt mean", "length, ridge", "surface features, ridge", STRONGEST)
    raw = {name: {s: np.full(shape[s], np.nan) for s in shape} for name in names}
    prompts = {s: np.array(d["prompt_id"]) for s, d in splits.items()}
    texts = {s: np.array(d["text"], dtype=object) for s, d in splits.items()}
    ridges, read = {}, {}
    every = set().union(*(p.tolist() for p in prompts.values()), new_prompts)
    pooled = np.random.default_rng(0).permutation(len(prompts["train"]))[:MOST_POOLED]
    pooled_words = hashed_words(texts["train"][pooled].tolist())  # once, not once for each prompt
    for prompt in sorted(every):
        here = {s: prompts[s] == prompt for s in splits if (prompts[s] == prompt).any()}
        rows = np.flatnonzero(here["train"]) if "train" in here else pooled
        essays, y = texts["train"][rows].tolist(), targets["train"][rows]
        others = pooled_words[~np.isin(pooled, rows)] if "train" in here else None
        ridges[prompt] = ridge = PromptRidge.fit(essays, y, others)
        read[prompt] = {s: ridge.read(texts[s][rows].tolist()) for s, rows in here.items() if s != "train"}
        train = ridge.features.surface(essays)
        for split, counted in read[prompt].items():
            rows = here[split]
            raw[STRONGEST][split][rows] = counted["ridge"]
            for score in range(y.shape[1]):
                known = ~np.isnan(y[:, score])
                if not known.any():
                    continue
                raw["prompt mean"][split][rows, score] = y[known, score].mean()
                for name, columns in (("length, ridge", LENGTH), ("surface features, ridge", slice(None))):
                    fitted = RidgeCV(RIDGE_ALPHAS).fit(train[known][:, columns], y[known, score])
                    raw[name][split][rows, score] = fitted.predict(counted["surface"][:, columns])
    return raw, ridges, read

"""What a scorer does with essays that were written to fool it.

Bars: an essay pasted twice must not gain (mean shift of at most 0.15 standard deviations of the human scores); shuffled
sentences must lose; off-topic, stuffed and foreign texts must go to a human (80%); an empty one gets the lowest score and
goes to a human.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from .essay_text import sentences

MAX_DOUBLING_SHIFT = 0.15
MIN_SENT_TO_HUMAN = 0.8
STUFFED_WORDS = 150


def gaming_texts() -> dict[str, list[str]]:
    """Texts of this repository: off_topic, fluent and about something no prompt asks for; other_language."""
    texts = json.loads((Path(__file__).parent / "gaming_texts.json").read_text(encoding="utf-8"))
    return {kind: [t["text"] for t in rows] for kind, rows in texts.items()}


def attacks(texts: Sequence[str], prompt_ids: Sequence[str], seed: int = 0) -> dict[str, tuple[np.ndarray, list[str]]]:
    """The essays, turned into attempts to fool a scorer.

    Args:
        texts: Essays.
        prompt_ids: The prompt of each.
        seed: Of what is drawn.

    Returns:
        Attack -> (row of the essay it comes from, int64 array; attacking texts). "another prompt's essay" is there where
        there are several prompts; "shuffled sentences" leaves out essays of fewer than three.
    """
    rng = np.random.default_rng(seed)
    prompts, rows, ours = np.asarray(prompt_ids), np.arange(len(texts)), gaming_texts()
    several = np.array([len(sentences(t)) > 2 for t in texts], bool)
    made = {
        "doubled": (rows, [f"{t.strip()} {t}" for t in texts]),
        "shuffled sentences": (rows[several], [_shuffled(texts[i], rng) for i in rows[several]]),
        "keyword stuffing": (rows, _stuffed(texts, prompts, rng)),
        "off-topic text": (rows, [ours["off_topic"][i] for i in rng.integers(len(ours["off_topic"]), size=len(rows))]),
        "another language": (
            rows, [ours["other_language"][i] for i in rng.integers(len(ours["other_language"]), size=len(rows))],
        ),
        "empty": (rows, [""] * len(rows)),
    }  # fmt: skip
    if len(set(prompts)) > 1:
        others = [rng.choice(rows[prompts != p]) for p in prompts]
        made["another prompt's essay"] = (rows, [texts[i] for i in others])
    return made


def _shuffled(text: str, rng: np.random.Generator) -> str:
    parts = [p if p[-1].isspace() else p + " " for p in sentences(text)]
    order = rng.permutation(len(parts))
    while (order == np.arange(len(parts))).all():
        order = rng.permutation(len(parts))
    return "".join(parts[i] for i in order).strip()


def _stuffed(texts: Sequence[str], prompts: np.ndarray, rng: np.random.Generator) -> list[str]:
    """For each essay, words typical of its prompt in no order."""
    words = [re.findall(r"[^\W\d_]{4,}", t.lower()) for t in texts]
    everywhere = Counter(w for ws in words for w in set(ws))
    typical = {}
    for prompt in set(prompts.tolist()):
        here = Counter(w for ws, p in zip(words, prompts, strict=True) if p == prompt for w in set(ws))
        best = sorted(here, key=lambda w: (-(here[w] ** 2) / everywhere[w], w))[:40]
        typical[prompt] = best or ["essay"]
    return [" ".join(rng.choice(typical[p], size=STUFFED_WORDS)) for p in prompts]


def gaming_report(
    score: Callable[[list[str], list[str]], tuple[np.ndarray, np.ndarray]],
    texts: Sequence[str],
    prompt_ids: Sequence[str],
    human_sd: dict[str, float],
    lowest: dict[str, float],
    seed: int = 0,
) -> dict[str, dict[str, float | bool | str]]:
    """Score essays before and after each attack.

    Args:
        score: Texts and prompts to (unrounded scores, sent to a human), float and bool arrays (rows,), in rubric units.
        texts: Essays that were used for nothing but testing.
        prompt_ids: The prompt of each.
        human_sd: prompt -> standard deviation of the human scores, in rubric units.
        lowest: prompt -> the lowest score of the rubric.
        seed: Of the attacks.

    Returns:
        Attack -> essays; shift: mean change of the score in human standard deviations; sent_to_human: share, 0 to 1; bar:
        what is asked, in words; passed. "none" has the share of untouched essays that go to a human.
    """
    prompts = list(prompt_ids)
    before, asked = score(list(texts), prompts)
    report: dict = {"none": _row(len(texts), 0.0, float(np.mean(asked)), "", True)}
    for attack, (rows, changed) in attacks(texts, prompts, seed).items():
        if len(rows) == 0:
            continue
        own = [prompts[i] for i in rows]
        after, sent = score(changed, own)
        shift = float(np.mean((after - before[rows]) / np.array([human_sd[p] for p in own])))
        share = float(np.mean(sent))
        if attack == "doubled":
            bar, passed = f"shift at most {MAX_DOUBLING_SHIFT}", shift <= MAX_DOUBLING_SHIFT
        elif attack == "shuffled sentences":
            bar, passed = "shift below 0", shift < 0
        elif attack == "empty":
            bar = "lowest score, to a human"
            passed = share == 1 and bool(np.all(after == np.array([lowest[p] for p in own])))
        else:
            bar, passed = f"{MIN_SENT_TO_HUMAN:.0%} to a human", share >= MIN_SENT_TO_HUMAN
        report[attack] = _row(len(rows), shift, share, bar, bool(passed))
    return report


def _row(essays: int, shift: float, sent_to_human: float, bar: str, passed: bool) -> dict[str, float | bool | str]:
    return {"essays": essays, "shift": shift, "sent_to_human": sent_to_human, "bar": bar, "passed": passed}

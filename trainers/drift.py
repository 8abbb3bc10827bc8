"""Does a new term look like the one a model was tested on? Its inputs, what the model says of them and, with labels, how well.

What is kept of the test split is a few counts a signal (reference.json in the model's folder): bins of numbers, categories, which
of 65,536 hashed buckets hold a training word. No text, no id. Each signal of the new data is compared with them in a table of
counts: Pearson's chi-squared, whose distribution under no change is found by drawing tables with the same margins, so that few
rows make no false alarms; the p-values of all signals are corrected together (Benjamini and Hochberg 1995). Where nothing has
changed, then, a term in twenty raises an alarm, at most.
"""

from __future__ import annotations

import base64
import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import false_discovery_control, random_table
from sklearn.feature_extraction.text import HashingVectorizer

from .comparison import LOWER_IS_BETTER, judge_run
from .essay_features import SURFACE, WORD, surface_features
from .essay_text import without_copies
from .intervals import interval_of
from .parser import ConfigurationError
from .report import SHORT, write_json

FILE_NAME = "reference.json"
BINS = 10
ROWS_A_BIN = 8  # of the reference, at least
BUCKETS = 2**16
FEW = 5  # a category of fewer rows is counted among the others, and not named
METRIC_DRAWS = 500
MISSING, OTHER, NEW = "missing", "others", "new"
Signals = dict[str, np.ndarray]
"""Name -> float array, nan where missing, or array of categories; a row each."""


# ---- what is looked at ----------------------------------------------------------------------------------------------


def words_in_buckets(texts: Sequence[str]) -> Any:
    """Counts of words by hashed bucket, sparse (texts, `BUCKETS`)."""
    hasher = HashingVectorizer(n_features=BUCKETS, token_pattern=WORD, alternate_sign=False, norm=None)
    return hasher.transform([without_copies(text) for text in texts]).tocsr()


def vocabulary_of(texts: Sequence[str]) -> np.ndarray:
    """Which buckets hold a word of these texts, bool (`BUCKETS`,)."""
    return np.asarray(words_in_buckets(texts).sum(axis=0)).ravel() > 0


def essay_signals(settings: Any, inputs: Mapping, columns: Mapping, vocabulary: np.ndarray | None) -> Signals:
    """Length and style, words that training had not, the prompt, the scores, and why essays go to a human."""
    texts, prompts = inputs["texts"], np.array([str(p) for p in inputs["prompt_ids"]], object)
    surface = dict(zip(SURFACE, surface_features(texts).T, strict=True))
    signals = {name: surface[name] for name in ("words", "mean_word_length", "words_a_sentence", "type_token_ratio")}
    if vocabulary is not None:
        counts = words_in_buckets(texts)
        whole, known = (np.asarray(c.sum(axis=1)).ravel() for c in (counts, counts[:, np.flatnonzero(vocabulary)]))
        signals["words_not_in_training"] = np.where(whole > 0, 1 - known / np.maximum(whole, 1), np.nan)
    if len(settings.prompt_ids) > 1:
        signals["prompt"] = prompts
    low, high = settings.bounds(prompts)
    for s, name in enumerate(settings.score_names):
        scores = np.asarray(columns[f"{name}_unrounded"], float)
        signals[f"predicted {name}, share of the scale"] = (scores - low[:, s]) / (high[:, s] - low[:, s])
    signals["to a human because"] = np.array([str(r) or "no" for r in columns["reason"]], object)
    return signals


def outcome_signals(settings: Any, inputs: Mapping, columns: Mapping, vocabulary: None) -> Signals:
    """Each column of the records, what is predicted, and how sure the model is."""
    numbers = np.array([[math.nan if v is None else float(v) for v in row] for row in inputs["numbers"]], float)
    signals: Signals = {name: numbers[:, i] for i, name in enumerate(settings.number_columns)}
    for i, (name, values) in enumerate(zip(settings.category_columns, settings.category_values, strict=True)):
        seen = set(values)
        cells = [row[i] for row in inputs["categories"]]
        signals[name] = np.array([MISSING if not c else c if c in seen else NEW for c in cells], object)
    if not settings.classes:
        return signals | {"predicted": np.asarray(columns["predicted"], float)}
    table = np.stack([np.asarray(columns[f"probability_{name}"], float) for name in settings.classes], axis=1)
    signals[f"probability of {settings.classes[settings.positive]}"] = table[:, settings.positive]
    return signals | ({"highest probability": table.max(axis=1)} if len(settings.classes) > 2 else {})


def tracing_signals(settings: Any, inputs: Mapping, columns: Mapping, vocabulary: None) -> Signals:
    """A row a learner: how many answers, how many right, how fast, what is unknown to the model, and how much it is surprised."""
    lengths = [len(row) for row in inputs["correct"]]
    ends = np.cumsum(lengths)[:-1]
    predicted = np.split(np.asarray(columns["probability"], float), ends)
    unknown = np.split(np.asarray(columns.get("unknown_concepts", np.zeros(sum(lengths))), float), ends)
    pauses = []
    for times in inputs["times"]:
        gaps = np.diff(np.array([math.nan if t is None else t for t in times], float))
        known = gaps[~np.isnan(gaps)]
        pauses.append(float(np.median(known)) if len(known) else math.nan)
    signals = {
        "answers": np.array(lengths, float),
        "concepts": np.array([len({c for cs in row for c in cs}) for row in inputs["concepts"]], float),
        "share correct": np.array([np.mean(row) for row in inputs["correct"]]),
        "median seconds between answers": np.array(pauses),
        "share of concepts not in training": np.array([u.mean() for u in unknown]),
        "mean predicted probability": np.array([p.mean() for p in predicted]),
        "mean error of the probability": np.array(
            [np.abs(np.asarray(c) - p).mean() for c, p in zip(inputs["correct"], predicted, strict=True)]
        ),
    }
    if settings.questions:
        signals["share of questions not in training"] = np.array([np.mean(np.asarray(q) == 0) for q in inputs["questions"]])
    return {name: values for name, values in signals.items() if not np.isnan(values).all()}


SIGNALS: dict[str, Callable[..., Signals]] = {
    "essay_scoring": essay_signals, "outcome_prediction": outcome_signals, "knowledge_tracing": tracing_signals,
}  # fmt: skip


def signals_of(
    task: str, settings: Any, inputs: Mapping[str, Sequence], columns: Mapping[str, Sequence],
    vocabulary: np.ndarray | None = None, seed: int = 0,
) -> Signals:  # fmt: skip
    """The signals of one row of each learner, where learners are known: rows of one learner are alike, and would count as news.

    Args:
        task: A key of `SIGNALS`.
        settings: The model's.
        inputs: What `predict_columns` takes.
        columns: What it gives, and group_id where known.
        vocabulary: See `vocabulary_of`; of essays.
        seed: Of the choice of rows.

    Raises:
        ConfigurationError: Models of this recipe are not looked after.
    """
    if task not in SIGNALS:
        raise ConfigurationError(f"there is no drift check for models of {task}; there is one for {', '.join(SIGNALS)}.")
    signals = SIGNALS[task](settings, inputs, columns, vocabulary)
    units = np.array([str(u) or f"row {i}" for i, u in enumerate(columns.get("group_id", ()))], object)
    if task == "knowledge_tracing" or not len(units):
        return signals
    order = np.random.default_rng(seed).permutation(len(units))
    chosen = np.sort(order[np.unique(units[order].astype(str), return_index=True)[1]])
    return {name: values[chosen] for name, values in signals.items()}


# ---- what is kept of a term -----------------------------------------------------------------------------------------


def summarize(signals: Signals) -> dict[str, dict[str, Any]]:
    """Counts of each signal.

    Returns:
        Of numbers: edges (the rows are in [edge, next edge), the first and last bin are open), counts (one more than edges),
        missing, median; of categories: counts by category, the rare ones under `OTHER`.
    """
    summary: dict[str, dict[str, Any]] = {}
    for name, values in signals.items():
        if values.dtype.kind == "f":
            known = values[~np.isnan(values)]
            edges = _edges(known)
            summary[name] = {
                "edges": edges, "counts": _binned(known, edges), "missing": int(len(values) - len(known)),
                "median": float(f"{np.median(known):.4g}") if len(known) else None,
            }  # fmt: skip
        else:
            counts = Counter(values.tolist())
            named = {v: n for v, n in sorted(counts.items()) if n >= FEW or v in (MISSING, NEW)}
            summary[name] = {"counts": named | {OTHER: len(values) - sum(named.values())}}
    return summary


def _edges(values: np.ndarray) -> list[float]:
    """Borders between bins: around each value where there are few different ones, else quantiles."""
    different = np.unique(values)
    if len(different) <= BINS:  # what is new lies between
        return [float(edge) for v in different for edge in (v, np.nextafter(v, math.inf))]
    bins = max(min(BINS, len(values) // ROWS_A_BIN), 2)
    return np.unique([float(f"{q:.6g}") for q in np.quantile(values, np.arange(1, bins) / bins)]).tolist()


def _binned(values: np.ndarray, edges: Sequence[float]) -> list[int]:
    return np.bincount(np.searchsorted(edges, values, side="right"), minlength=len(edges) + 1).tolist()


def make_reference(
    task: str, settings: Any, inputs: Mapping[str, Sequence], columns: Mapping[str, Sequence], judged: bool = True,
    vocabulary: np.ndarray | None = None, seed: int = 0,
) -> dict[str, Any]:  # fmt: skip
    """What is kept of a term: see `summarize`; and of the leading metric its value and bootstrapped values, where `judged`.

    Args:
        task, settings, inputs, vocabulary, seed: See `signals_of`.
        columns: Of predictions.csv; with the truth where `judged`.
        judged: Whether the truth is there.
    """
    signals = signals_of(task, settings, inputs, columns, vocabulary, seed)
    reference: dict[str, Any] = {"task": task, "rows": len(next(iter(signals.values()))), "signals": summarize(signals)}
    if judged:
        run = judge_run(task, columns)
        metric = next(iter(run.statistics))
        drawn = run.statistics[metric](run.counts(METRIC_DRAWS, seed))
        values = [round(v, 6) for v in drawn[~np.isnan(drawn)].tolist()]
        reference["metric"] = {"name": metric, "value": run.values()[metric], "draws": values, "unit": run.unit}
    if vocabulary is not None:
        reference["vocabulary"] = base64.b64encode(np.packbits(vocabulary).tobytes()).decode()
    return reference


def write_reference(folder: Path, *args: Any, **kwargs: Any) -> None:
    """`make_reference`, written into a model's folder; it stays on this machine when the model is published."""
    write_json(folder / FILE_NAME, make_reference(*args, **kwargs))


def read_reference(path: Path, task: str) -> dict[str, Any]:
    """What `write_reference` wrote, with the vocabulary as an array.

    Raises:
        ConfigurationError: There is none, or it is damaged or another recipe's.
    """
    if not path.is_file():
        raise ConfigurationError(
            f"the model has no {FILE_NAME}: it was trained by an older version, or comes from the Hub, where such counts do not "
            "go. Name last term's file with --reference_file."
        )
    try:
        reference = json.loads(path.read_text(encoding="utf-8"))
        if reference["task"] != task or not reference["signals"]:
            raise KeyError("task")
        if "vocabulary" in reference:
            reference["vocabulary"] = vocabulary_from(reference["vocabulary"])
        return reference
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(f"{FILE_NAME} is damaged, or of another model ({type(error).__name__}).") from error


def vocabulary_from(text: str) -> np.ndarray:
    """The array that `make_reference` packed."""
    return np.unpackbits(np.frombuffer(base64.b64decode(text), np.uint8)).astype(bool)


# ---- comparing ------------------------------------------------------------------------------------------------------


@dataclass
class Change:
    """A signal then and now.

    Attributes:
        signal: Its name.
        before, now: Its median, or the category that changed most with its share.
        moved: Share of the rows that would have to be elsewhere for both to look alike, 0 to 1 (total variation); above 0 by
            chance alone.
        p: Of no change.
        corrected: The same, corrected for the number of signals.
    """

    signal: str
    before: str
    now: str
    moved: float
    p: float
    corrected: float = 1.0


def compare_signals(reference: dict[str, Any], signals: Signals, tables: int = 9999, seed: int = 0) -> list[Change]:
    """Each signal of new data beside the reference, the likeliest change first.

    Args:
        reference: See `make_reference`.
        signals: Of the new data.
        tables: So many tables are drawn for a p-value, which is 1 / (tables + 1) at least.
        seed: Of the draws.

    Raises:
        ConfigurationError: They have no signal in common.
    """
    rng, changes = np.random.default_rng(seed), []
    for name, old in reference["signals"].items():
        if name not in signals:
            continue
        new = summarize_like(old, signals[name])
        names = list(new)
        table = np.array([[_counts(old).get(n, 0) for n in names], [new[n] for n in names]])
        if table.sum(axis=1).min() == 0:
            continue
        shares = table / table.sum(axis=1, keepdims=True)
        gap = shares[1] - shares[0]
        p = independence(table, tables, rng)
        most = int(np.abs(gap).argmax())
        if "edges" in old and names[most] != MISSING and old["median"] is not None:
            before, now = f"{old['median']:.4g}", f"{np.nanmedian(signals[name]):.4g}"
        else:
            before, now = (f"{names[most]} {100 * share[most]:.0f}%" for share in shares)
        changes.append(Change(name, before, now, float(np.abs(gap).sum() / 2), p))
    if not changes:
        raise ConfigurationError("the reference and the new data have no signal in common.")
    for change, corrected in zip(changes, false_discovery_control([c.p for c in changes]), strict=True):
        change.corrected = float(corrected)
    return sorted(changes, key=lambda c: (c.corrected, -c.moved))


def _counts(summary: dict[str, Any]) -> dict[str, int]:
    if "edges" not in summary:
        return summary["counts"]
    return {f"bin {i}": n for i, n in enumerate(summary["counts"])} | {MISSING: summary["missing"]}


def summarize_like(old: dict[str, Any], values: np.ndarray) -> dict[str, int]:
    """Counts of new values in the bins, or the categories, of a summary."""
    if "edges" in old:
        values = np.asarray(values, float)
        known = values[~np.isnan(values)]
        return {f"bin {i}": n for i, n in enumerate(_binned(known, old["edges"]))} | {MISSING: len(values) - len(known)}
    counts = Counter(v if v in old["counts"] else OTHER for v in values.tolist())
    return {name: counts.get(name, 0) for name in old["counts"]}


def independence(table: np.ndarray, tables: int, rng: np.random.Generator) -> float:
    """How likely a table of counts is that differs so much between its rows, if they do not differ: chi-squared, by drawing.

    Args:
        table: Int array (2, cells).
        tables: How many are drawn, all with the margins of this one.
        rng: Draws.
    """
    table = table[:, table.sum(axis=0) > 0]
    if table.shape[1] < 2:
        return 1.0
    rows, cells = table.sum(axis=1), table.sum(axis=0)
    expected = np.outer(rows, cells) / rows.sum()

    def statistic(counts: np.ndarray) -> np.ndarray:
        return ((counts - expected) ** 2 / expected).sum(axis=(-2, -1))

    drawn = statistic(random_table(rows, cells, seed=rng).rvs(tables))
    return float((1 + np.sum(drawn >= statistic(table) * (1 - 1e-12))) / (tables + 1))


def changes_table(changes: Sequence[Change], alpha: float) -> list[list[str]]:
    """A line a signal for `report.as_text`; the first is the header."""
    lines = [["", "before", "now", "moved", "p", "corrected p", ""]]
    for c in changes:
        told = "CHANGED" if c.corrected <= alpha else ""
        lines.append([c.signal, c.before, c.now, f"{100 * c.moved:.0f}%", f"{c.p:.4f}", f"{c.corrected:.4f}", told])
    return lines


@dataclass
class Drop:
    """The leading metric then and now, and the interval of now minus then."""

    metric: str
    before: float
    now: float
    interval: tuple[float, float]
    rows: int
    unit: str

    def facts(self) -> dict[str, Any]:
        """All of it, as json holds it."""
        return {**asdict(self), "interval": list(self.interval), "worse": self.worse}

    @property
    def worse(self) -> bool:
        """Whether the model has become worse, beyond chance."""
        low, high = self.interval
        return bool(low > 0 if self.metric in LOWER_IS_BETTER else high < 0)

    def sentence(self) -> str:
        """In words."""
        low, high = self.interval
        told = "The model has become worse" if self.worse else "That the model has become worse is not shown"
        return (
            f"{told}: {SHORT.get(self.metric, self.metric.replace('_', ' '))} {self.now:.3f} now, {self.before:.3f} before, "
            f"{self.now - self.before:+.3f} (95% interval {low:+.3f} to {high:+.3f}; {self.rows:,} rows, drawn by {self.unit})."
        )


def measure_drop(reference: dict[str, Any], task: str, columns: Mapping[str, Sequence], seed: int = 1) -> Drop | None:
    """How the metric of the reference is on new data with labels; None where the reference knows of none.

    Args:
        reference: See `make_reference`.
        task: The recipe.
        columns: Of the new data, as in predictions.csv, with the truth.
        seed: Of the draws.
    """
    kept = reference.get("metric")
    run = judge_run(task, columns)
    if not kept or not kept["draws"] or kept["name"] not in run.statistics:
        return None
    then = np.random.default_rng(seed).permutation(np.array(kept["draws"], float))
    now = run.statistics[kept["name"]](run.counts(len(then), seed))
    both = min(len(then), len(now))
    interval = interval_of(now[:both] - then[:both])
    return Drop(kept["name"], float(kept["value"]), run.values()[kept["name"]], interval, len(run.keys), run.unit)

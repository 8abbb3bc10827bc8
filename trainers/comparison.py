"""Two runs on the same test rows: which one is better, and may that be chance? From the columns of their predictions.csv.

Each metric is a function of how often each row was drawn (`intervals.bootstrap_counts`), so that the value over all rows and
the values of a thousand bootstrap samples come from the same code, and both runs are judged on the same samples.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from .essay_evaluation import kappa_of_draws
from .intervals import bootstrap_counts, interval_of
from .metrics.answers import answer_scores
from .metrics.probabilities import auc_draws
from .metrics.ranking import DEPTH, ranking_metrics
from .parser import ConfigurationError
from .report import ERRORS, SHORT

Columns = Mapping[str, Sequence]
Statistic = Callable[[np.ndarray], np.ndarray]
"""From how often each row was drawn, float array (draws, rows), to a value of each draw, float array (draws,)."""
MOST_CELLS = 50_000_000  # draws x rows that are held in memory: 400 MB
FEWEST_DRAWS = 100


# ---- what each recipe's predictions.csv holds -------------------------------------------------------------------------


@dataclass(frozen=True)
class Layout:
    """How to read the predictions.csv of a recipe.

    Attributes:
        marks: Columns by which it is known.
        ids: Columns that together name a row.
        unit: The column with what the split did not cut, which intervals draw; '' stands for the row alone.
        unit_name: What that is called.
        statistics: From the columns to its metrics, the leading one first.
        truth: Columns that must be the same in both runs; one that ends in * stands for all that begin so.
        rows: What makes rows of what the file holds; None where its rows are the rows.
    """

    marks: tuple[str, ...]
    ids: tuple[str, ...]
    unit: str
    unit_name: str
    statistics: Callable[[Columns], dict[str, Statistic]]
    truth: tuple[str, ...] = ()
    rows: Callable[[Columns], Columns] | None = None


def numbers(values: Sequence) -> np.ndarray:
    """Cells as floats, nan where empty."""
    return np.array([math.nan if v is None or v == "" else float(v) for v in values], float)


def mean_of(values: Sequence[float]) -> Statistic:
    """The mean over the rows whose value is known."""
    values = np.asarray(values, float)
    known = ~np.isnan(values)

    def statistic(counts: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore"):  # a draw without such a row is left out
            return counts[:, known] @ values[known] / counts[:, known].sum(axis=1)

    return statistic


def root_mean_square_of(errors: Sequence[float]) -> Statistic:
    """The root of the mean square over the rows whose error is known."""
    squared = mean_of(np.asarray(errors, float) ** 2)
    return lambda counts: np.sqrt(squared(counts))


def essay_statistics(columns: Columns) -> dict[str, Statistic]:
    """Means over prompts and scores, never over rows of several prompts, as `essay_evaluation.agreement_by_prompt`."""
    names = [name.removeprefix("human_") for name in columns if name.startswith("human_")]
    prompts, cells = np.asarray(columns["prompt_id"]).astype(str), []
    for name in names:
        scores, human = numbers(columns[name]), numbers(columns[f"human_{name}"])
        for prompt in sorted(set(prompts.tolist())):
            here = (prompts == prompt) & ~np.isnan(scores) & ~np.isnan(human)
            if here.any():
                cells.append((here, scores[here], human[here]))

    def over_prompts(of_cell: Callable[[np.ndarray, np.ndarray], Statistic]) -> Statistic:
        each = [(here, of_cell(scores, human)) for here, scores, human in cells]
        return lambda counts: np.nanmean([statistic(counts[:, here]) for here, statistic in each], axis=0)

    return {
        "quadratic_weighted_kappa": over_prompts(lambda scores, human: lambda counts: kappa_of_draws(scores, human, counts)),
        "exact_agreement": over_prompts(lambda scores, human: mean_of(np.abs(scores - human) < 1e-6)),
        "mean_absolute_error": over_prompts(lambda scores, human: mean_of(np.abs(scores - human))),
        "root_mean_squared_error": over_prompts(lambda scores, human: root_mean_square_of(scores - human)),
    }


def outcome_statistics(columns: Columns) -> dict[str, Statistic]:
    """Of classes AUC (where there are two), log loss, Brier score and accuracy; of values the error."""
    names = [name.removeprefix("probability_") for name in columns if name.startswith("probability_")]
    if not names:
        error = numbers(columns["predicted"]) - numbers(columns["outcome"])
        return {
            "root_mean_squared_error": root_mean_square_of(error),
            "mean_absolute_error": mean_of(np.abs(error)),
        }
    outcome = np.array([str(v) for v in columns["outcome"]])
    table = np.stack([numbers(columns[f"probability_{name}"]) for name in names], axis=1)
    if strange := sorted(set(outcome.tolist()) - set(names)):
        raise ConfigurationError(f"the column outcome holds {strange[0]!r}, for which there is no probability.")
    hit = outcome[:, None] == np.array(names)
    own = np.clip(table[hit], 1e-7, 1)
    statistics: dict[str, Statistic] = {}
    if len(names) == 2:  # the AUC and the Brier score of one class are those of the other
        statistics["roc_auc"] = lambda counts: auc_draws(table[:, 1], hit[:, 1].astype(int), counts)
        statistics["brier_score"] = mean_of((table[:, 1] - hit[:, 1]) ** 2)
    return statistics | {
        "log_loss": mean_of(-np.log(own)),
        "accuracy": mean_of(np.array([str(v) for v in columns["predicted"]]) == outcome),
    }


def tracing_statistics(columns: Columns) -> dict[str, Statistic]:
    """Over all answers but each learner's first, as the recipe counts."""
    later = numbers(columns["step"]) > 1
    p, y = numbers(columns["probability"])[later], numbers(columns["correct"])[later].astype(int)
    inside = np.clip(p, 1e-7, 1 - 1e-7)
    rows = {
        "log_loss": mean_of(-np.where(y == 1, np.log(inside), np.log(1 - inside))),
        "brier_score": mean_of((p - y) ** 2), "accuracy": mean_of((p >= 0.5) == y),
    }  # fmt: skip
    return {"roc_auc": lambda counts: auc_draws(p, y, counts[:, later])} | {
        name: lambda counts, statistic=statistic: statistic(counts[:, later]) for name, statistic in rows.items()
    }


def answer_statistics(columns: Columns) -> dict[str, Statistic]:
    """Means of the scores of each question; `references` may stand in their place, the answers of people."""
    names = ("rouge_l", "f1", "exact_match")
    scored = columns if "references" not in columns else answer_scores(columns["answer"], columns["references"])
    return {name: mean_of(numbers(scored[name])) for name in names}


def ranking_rows(columns: Columns) -> Columns:
    """A row a query, with the metrics of its list, from a row a place."""
    if "relevant_resources" not in columns:
        raise ConfigurationError(
            "resource_recommendation: the predictions have no column relevant_resources; they were written by an older version. "
            "Run the recipe again."
        )
    table: dict[str, list] = {"query": [], "group_id": [], "ndcg_at_10": [], "mrr": []}
    places: dict[str, list[int]] = {}
    for row, query in enumerate(columns["query"]):
        places.setdefault(str(query), []).append(row)
    for query, rows in places.items():
        relevant = int(columns["relevant_resources"][rows[0]])
        found = [int(columns["rank"][row]) for row in rows if int(columns["relevant"][row])]
        found = [rank for rank in found if rank <= DEPTH]
        # what is not in the list stands behind it, at a place that no metric of the first ten sees
        ranks = np.array(sorted(found) + [10**9 + i for i in range(relevant - len(found))])
        values = ranking_metrics([ranks])
        table["query"].append(query)
        table["group_id"].append(columns["group_id"][rows[0]] if "group_id" in columns else "")
        for name in ("ndcg_at_10", "mrr"):
            table[name].append(float(values[name][0]))
    return table


def ranking_statistics(columns: Columns) -> dict[str, Statistic]:
    """Of the first ten of each list."""
    return {"ndcg_at_10": mean_of(columns["ndcg_at_10"]), "mrr_at_10": mean_of(columns["mrr"])}


def tutoring_statistics(columns: Columns) -> dict[str, Statistic]:
    """Whether the move is one that people made there, and whether the reply gives the answer away."""
    known = [[m for m in str(v).split(";") if m] for v in columns["moves_of_people"]]
    right = [float(move in moves) if moves else math.nan for move, moves in zip(columns["move"], known, strict=True)]
    gives = [math.nan if v == "" else float(v == "true") for v in columns["gives_away"]]
    return {"right_move": mean_of(right), "gives_away": mean_of(gives)}


def generation_statistics(columns: Columns) -> dict[str, Statistic]:
    """The share of texts whose first question passes the checks, and the mean of each score of it."""
    scores = [name for name in columns if name not in ("question_id", "story_id", "question", "kept", "reason")]
    kept = {"kept": mean_of([float(str(v).lower() == "true") for v in columns["kept"]])}
    return kept | {name: mean_of(numbers(columns[name])) for name in scores}


LAYOUTS = {
    "essay_scoring": Layout(
        ("essay_id", "send_to_human"), ("essay_id",), "group_id", "learner", essay_statistics, ("prompt_id", "human_*")
    ),
    "outcome_prediction": Layout(
        ("record_id", "predicted"), ("record_id",), "group_id", "learner", outcome_statistics, ("outcome",)
    ),
    "knowledge_tracing": Layout(
        ("learner_id", "step", "probability"), ("learner_id", "step"), "learner_id", "learner", tracing_statistics, ("correct",)
    ),
    "question_answering": Layout(("question_id", "answer", "rouge_l"), ("question_id",), "story_id", "story", answer_statistics),
    "resource_recommendation": Layout(
        ("query", "rank", "relevant"), ("query",), "group_id", "topic group or learner", ranking_statistics, (), ranking_rows
    ),
    "qa_tutoring": Layout(
        ("dialogue_id", "turn", "move"), ("dialogue_id", "turn"), "problem_id", "problem", tutoring_statistics,
        ("moves_of_people",),
    ),
    "content_generation": Layout(("question_id", "kept"), ("question_id",), "story_id", "story", generation_statistics),
}  # fmt: skip
LOWER_IS_BETTER = (*ERRORS, "gives_away")


def find_layout(columns: Columns, name: str) -> str:
    """The recipe whose predictions these are.

    Raises:
        ConfigurationError: They are no recipe's, or one's whose test has no rows to compare.
    """
    for task, layout in LAYOUTS.items():
        if set(layout.marks) <= set(columns):
            return task
    raise ConfigurationError(
        f"{name} does not look like the predictions.csv of a recipe: its columns are {', '.join(list(columns)[:12])}. "
        "learning_path writes example paths there, which have no truth to be compared with."
    )


# ---- one run ----------------------------------------------------------------------------------------------------------


@dataclass
class Judged:
    """The rows of a run in order, and its metrics.

    Attributes:
        keys: What names each row.
        units: What is drawn together, one a row.
        unit: What that is called.
        statistics: Metric -> see `Statistic`.
    """

    keys: list[tuple]
    units: list[str]
    unit: str
    statistics: dict[str, Statistic]

    def values(self) -> dict[str, float]:
        """Each metric over all rows."""
        once = np.ones((1, len(self.keys)))
        return {name: float(statistic(once)[0]) for name, statistic in self.statistics.items()}

    def counts(self, draws: int = 1000, seed: int = 0) -> np.ndarray:
        """How often each row is in each bootstrap sample of whole units; fewer samples where there are very many rows."""
        draws = max(min(draws, MOST_CELLS // max(len(self.keys), 1)), FEWEST_DRAWS)
        return bootstrap_counts(self.units, draws, seed)


def judge_run(task: str, columns: Columns, unit_column: str | None = None) -> Judged:
    """Read predictions with their truth.

    Args:
        task: A key of `LAYOUTS`.
        columns: Of its predictions.csv.
        unit_column: Draw the values of this column together, not what the split did not cut.

    Raises:
        ConfigurationError: A column is missing, or a cell is no number.
    """
    layout = LAYOUTS[task]
    return _judge(task, _rows(layout, columns), unit_column)


def _rows(layout: Layout, columns: Columns) -> Columns:
    return layout.rows(columns) if layout.rows else columns


def _judge(task: str, columns: Columns, unit_column: str | None) -> Judged:
    layout = LAYOUTS[task]
    if unit_column is not None and unit_column not in columns:
        raise ConfigurationError(f"--unit_column: there is no column '{unit_column}'; there are {', '.join(columns)}.")
    keys, column = _keys(layout, columns), unit_column or layout.unit
    named = column in columns and any(str(v) for v in columns[column])
    units = [str(u) or f"row {i}" for i, u in enumerate(columns[column] if named else [""] * len(keys))]
    try:
        return Judged(keys, units, unit_column or (layout.unit_name if named else "row"), layout.statistics(columns))
    except (KeyError, ValueError) as error:
        if getattr(error, "exit_code", None):
            raise
        what = f"there is no column {error}" if isinstance(error, KeyError) else "a cell that should hold a number does not"
        raise ConfigurationError(f"the predictions of {task} cannot be read: {what}.") from error


def _keys(layout: Layout, columns: Columns) -> list[tuple]:
    return list(zip(*([str(v) for v in columns[name]] for name in layout.ids), strict=True))


def _check_truths(layout: Layout, first: Columns, second: Columns, names: tuple[str, str]) -> None:
    """Refuse rows of the same name whose truth differs: they are of another data set, or another version of it."""
    for pattern in layout.truth:
        own = [c for c in first if c == pattern or (pattern.endswith("*") and c.startswith(pattern[:-1]))]
        if missing := [c for c in own if c not in second]:
            raise ConfigurationError(f"{names[0]} has a column {missing[0]}, {names[1]} has not: they predict different things.")
        for column in own:
            differ = sum(_cell(a) != _cell(b) for a, b in zip(first[column], second[column], strict=True))
            if differ:
                raise ConfigurationError(
                    f"the truth of {differ:,} of {len(first[column]):,} rows differs (column {column}): the runs were tested on "
                    "different data whose rows have the same names."
                )


def _cell(value: object) -> object:
    """A cell for comparing: 3.0 is 3."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return str(value)
    return "" if math.isnan(number) else number


# ---- two runs ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Difference:
    """A metric of two runs: both values, the second minus the first, and its interval."""

    metric: str
    first: float
    second: float
    interval: tuple[float, float]

    @property
    def difference(self) -> float:
        """The second run minus the first."""
        return self.second - self.first

    def facts(self) -> dict[str, Any]:
        """All of it, as json holds it."""
        return {**asdict(self), "interval": list(self.interval), "difference": self.difference, "verdict": self.verdict()}

    def verdict(self) -> str:
        """'better', 'worse' (the second than the first) or 'may be chance'."""
        low, high = self.interval
        if not (low > 0 or high < 0):  # nan, too
            return "may be chance"
        return "better" if (low > 0) != (self.metric in LOWER_IS_BETTER) else "worse"


@dataclass(frozen=True)
class Comparison:
    """Two runs, metric by metric, on the rows that were paired."""

    task: str
    rows: int
    units: int
    unit: str
    draws: int
    level: float
    left_out: tuple[int, int]
    differences: list[Difference]

    def sentence(self, names: tuple[str, str] = ("A", "B")) -> str:
        """The leading metric in plain words."""
        d, (a, b) = self.differences[0], names
        head = {
            "better": f"{b} is better than {a}", "worse": f"{b} is worse than {a}",
            "may be chance": f"no difference is shown between {a} and {b}: it may be chance",
        }[d.verdict()]  # fmt: skip
        metric, (low, high) = SHORT.get(d.metric, d.metric.replace("_", " ")), d.interval
        return (
            f"{head}. {metric} {d.second:.3f} against {d.first:.3f}, a difference of {d.difference:+.3f} "
            f"({100 * self.level:g}% interval {low:+.3f} to {high:+.3f}; {self.rows:,} rows of {self.units:,} "
            f"{'rows' if self.unit == 'row' else self.unit + 's'}, drawn by {self.unit})."
        )

    def table(self) -> list[list[str]]:
        """A line a metric for `report.as_text`; the first is the header."""
        lines = [["", "A", "B", "B - A", f"{100 * self.level:g}% interval", "B is"]]
        for d in self.differences:
            arrow = " (less is better)" if d.metric in LOWER_IS_BETTER else ""
            name = SHORT.get(d.metric, d.metric.replace("_", " ")) + arrow
            span = "{:+.4f} to {:+.4f}".format(*d.interval)
            lines.append([name, f"{d.first:.4f}", f"{d.second:.4f}", f"{d.difference:+.4f}", span, d.verdict()])
        return lines


def compare_runs(
    first: Columns, second: Columns, unit_column: str | None = None, common_rows: bool = False, draws: int = 1000,
    level: float = 0.95, seed: int = 0, names: tuple[str, str] = ("A", "B"),
) -> Comparison:  # fmt: skip
    """The paired bootstrap of two runs' predictions for the same test rows.

    Args:
        first, second: Columns of two predictions.csv.
        unit_column: See `judge_run`.
        common_rows: Compare on the rows that both have, where they do not have the same.
        draws: Bootstrap samples.
        level: Of the interval.
        seed: Of the draws.
        names: Of the two, for messages.

    Raises:
        ConfigurationError: They are not of one recipe, have other rows, or other truths for the same rows.
    """
    task = find_layout(first, names[0])
    if (other := find_layout(second, names[1])) != task:
        raise ConfigurationError(f"{names[0]} is of {task}, {names[1]} of {other}: only runs of one recipe can be compared.")
    layout = LAYOUTS[task]
    tables = [_rows(layout, columns) for columns in (first, second)]
    keys = [_keys(layout, table) for table in tables]
    for own, name in zip(keys, names, strict=True):
        if len(set(own)) < len(own):
            raise ConfigurationError(
                f"{name}: {len(own) - len(set(own))} rows have the {' and '.join(layout.ids)} of another row, so that rows "
                "cannot be paired. Name a column with an id by --id_column when training."
            )
    at = {key: row for row, key in enumerate(keys[1])}
    pairs = [(row, at[key]) for row, key in enumerate(keys[0]) if key in at]
    left_out = tuple(len(own) - len(pairs) for own in keys)
    if not pairs:
        raise ConfigurationError(
            f"no row of {names[0]} is in {names[1]} ({' and '.join(layout.ids)} are compared): were they tested on the same data?"
        )
    if any(left_out) and not common_rows:
        raise ConfigurationError(
            f"the runs were not tested on the same rows: {len(pairs):,} are in both, {left_out[0]:,} only in {names[0]}, "
            f"{left_out[1]:,} only in {names[1]}. Test both on one split (--split_seed, --test_file), or add --common_rows to "
            "compare on the rows that both have."
        )
    tables = [{name: [values[p[side]] for p in pairs] for name, values in table.items()} for side, table in enumerate(tables)]
    _check_truths(layout, *tables, names)
    judged = [_judge(task, table, unit_column) for table in tables]
    counts, values, differences = judged[0].counts(draws, seed), [run.values() for run in judged], []
    for metric in [m for m in judged[0].statistics if m in judged[1].statistics]:
        drawn = judged[1].statistics[metric](counts) - judged[0].statistics[metric](counts)
        differences.append(Difference(metric, *(own[metric] for own in values), interval_of(drawn, level)))
    units = len(set(judged[0].units))
    return Comparison(task, len(pairs), units, judged[0].unit, len(counts), level, left_out, differences)

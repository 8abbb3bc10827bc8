"""Compare two runs of a recipe on the same test rows: which one is better, and may the difference be chance?

    python recipes/compare.py runs/first runs/second
    python recipes/compare.py runs/first/predictions.csv runs/second/predictions.csv --unit_column learner

Rows are paired by their id, and the paired bootstrap draws whole units (what the split did not cut: learners, stories, topics)
for both runs alike; printed are the recipe's own metrics of both, the second minus the first, its 95% interval, and what that
means in a sentence. Where the files do not say what a row belongs to, rows are drawn, which the output says. --output_file
writes the same as json.
"""

import logging
import sys
from dataclasses import asdict, dataclass, field
from itertools import takewhile
from pathlib import Path

from edu_datasets.files import read_own_table
from trainers import report
from trainers.comparison import Comparison, compare_runs
from trainers.parser import ConfigurationError, RecipeParser, run

FILE = "predictions.csv"


@dataclass
class CompareArguments:
    """How two runs are compared; the two folders, or their predictions.csv, come first."""

    _argument_group_name = "comparison"

    unit_column: str | None = field(default=None, metadata={"help": "draw the values of this column together"})
    common_rows: bool = field(default=False, metadata={"help": "where the rows differ, compare on those that both runs have"})
    draws: int = field(default=1000, metadata={"help": "bootstrap samples"})
    level: float = field(default=0.95, metadata={"help": "of the interval"})
    seed: int = field(default=0, metadata={"help": "of the draws"})
    output_file: str | None = field(default=None, metadata={"help": "also write the result as json"})

    def __post_init__(self):
        if self.draws < 100 or not 0 < self.level < 1:
            raise ConfigurationError("--draws must be 100 or more, and --level between 0 and 1.")


def main(argv: list[str] | None = None) -> Comparison:
    """Compare. Returns the result; raises on error."""
    # 1. The two runs, then the options
    words = list(sys.argv[1:] if argv is None else argv)
    given = list(takewhile(lambda word: not word.startswith("-"), words))
    (args,) = RecipeParser((CompareArguments,), description=__doc__).parse(words[len(given) :])
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if len(given) != 2:
        raise ConfigurationError(f"name two runs, the options behind them; {len(given)} were named. See --help.")
    paths = [Path(name) / FILE if Path(name).is_dir() else Path(name) for name in given]

    # 2. Read, pair, draw
    tables = [read_own_table(path, "utf-8").columns for path in paths]
    compared = compare_runs(
        *tables, unit_column=args.unit_column, common_rows=args.common_rows, draws=args.draws, level=args.level, seed=args.seed,
        names=tuple(given),
    )  # fmt: skip

    # 3. Report
    left = f"; only in A: {compared.left_out[0]:,}, only in B: {compared.left_out[1]:,}" if any(compared.left_out) else ""
    print(
        f"A: {given[0]}\nB: {given[1]}\n{compared.rows:,} rows of {compared.task} were paired{left}; {compared.draws:,} draws\n"
    )
    print(report.as_text(compared.table()), f"\n{compared.sentence()}")
    if args.output_file:
        facts = asdict(compared) | {"differences": [d.facts() for d in compared.differences]}
        report.write_json(args.output_file, facts | {"sentence": compared.sentence()})
    return compared


if __name__ == "__main__":
    run(main)

"""The command `edu-recipes`: list the recipes, copy one to change it, clear the texts of learners that runs have cached.

edu-recipes ls
edu-recipes cp essay_scoring my_recipes --configs
edu-recipes clear-cache --dry_run
"""

from __future__ import annotations

import argparse
import ast
import difflib
import importlib.metadata
import json
import os
import re
import shlex
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from .parser import ConfigurationError, run

ANSWER_COLUMNS = {"learner_id", "group_id", "questions", "concepts", "correct", "times"}
"""The columns of `edu_datasets.schema.RESPONSES`, by which what was cached of answer logs is known."""

CACHED = re.compile(r".*\.(arrow|part|rows)|tmp\w{8}")
"""The files in our own folder; the last are what a stopped `Dataset.map` leaves."""
METRICS = (
    "agreement", "answer_metrics", "probability_metrics", "quadratic_weighted_kappa", "ranking_metrics", "reply_metrics",
)  # fmt: skip
"""Our metrics, as the library evaluate calls their folders."""


def main(argv: Sequence[str] | None = None) -> None:
    """Do what the words say; None takes sys.argv. Raises on error.

    Raises:
        ConfigurationError: There is no such recipe, a file is there already, or a folder cannot be written.
    """
    parser = argparse.ArgumentParser("edu-recipes", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("ls", help="list the recipes, their configurations, and the benchmarks")
    copying = commands.add_parser("cp", help="copy a recipe, to change it")
    copying.add_argument("recipe", help="its name, see ls")
    copying.add_argument("folder", nargs="?", default=".", help="where to; the working folder if not given")
    copying.add_argument("--configs", action="store_true", help="copy its configurations too")
    clearing = commands.add_parser("clear-cache", help="delete what runs have cached of learners' texts and answers")
    clearing.add_argument("--dry_run", action="store_true", help="tell what would be deleted, and delete nothing")
    args = parser.parse_args(argv)
    if args.command == "ls":
        list_recipes(recipes_folder())
    elif args.command == "cp":
        copy_recipe(recipes_folder(), args.recipe, Path(args.folder), args.configs)
    else:
        clear_cache(args.dry_run)


def console() -> None:
    """The program: `main`, with an error as one message and exit code 2."""
    run(main)


# ---- recipes --------------------------------------------------------------------------------------------------------


def recipes_folder() -> Path:
    """Where the recipes lie: in the checkout where this runs from one, else where the wheel has put them.

    Raises:
        ConfigurationError: They are in neither.
    """
    checkout = Path(__file__).parent.parent
    if (checkout / "setup.cfg").is_file() and (checkout / "recipes/predict.py").is_file():
        return checkout / "recipes"
    try:
        installed = importlib.metadata.files("edu-recipes") or []
    except importlib.metadata.PackageNotFoundError:
        installed = []
    for file in installed:
        if file.as_posix().endswith("share/edu-recipes/recipes/predict.py") and (path := Path(file.locate())).is_file():
            return path.resolve().parent
    raise ConfigurationError("the recipes are not installed here; install the wheel, or work in a checkout.")


def list_recipes(folder: Path) -> None:
    """Print each recipe with its first line and its configurations, what works on any recipe's model, and the benchmarks."""
    recipes = {path.stem for path in (folder / "configs").iterdir()}
    print("Recipes, with their configurations")
    for path in sorted(folder.glob("*.py")):
        if path.stem in recipes:
            names = ", ".join(config.stem for config in sorted((folder / "configs" / path.stem).glob("*.yaml")))
            print(f"  {path.stem:24} {first_line(path)}\n  {'':24}   {names}")
    print("\nFor trained models")
    for path in sorted(folder.glob("*.py")):
        if path.stem not in recipes:
            print(f"  {path.stem:24} {first_line(path)}")
    print("\nBenchmarks")
    for path in sorted((folder / "benchmarks").glob("*.py")):
        print(f"  {path.stem:24} {first_line(path)}")
    print(f"\nThey lie in {folder}. To change one: edu-recipes cp essay_scoring")


def first_line(script: Path) -> str:
    """The first line of a script's docstring."""
    return (ast.get_docstring(ast.parse(script.read_text(encoding="utf-8"))) or "").split("\n")[0]


def copy_recipe(folder: Path, name: str, target: Path, configs: bool = False) -> list[Path]:
    """Copy a script of the recipes and what it imports beside it, and tell how to run the copy.

    Args:
        folder: Where the recipes lie.
        name: Of the script, with or without .py.
        target: The folder to copy to; it is made if need be.
        configs: Copy its configurations too, to configs/<name>.

    Returns:
        The files that were written.

    Raises:
        ConfigurationError: There is no such recipe, a file is there already, or the folder cannot be written.
    """
    name = name.removesuffix(".py")
    known = sorted(path.stem for path in folder.glob("*.py"))
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        hint = f" Did you mean '{close[0]}'?" if close else ""
        raise ConfigurationError(f"there is no recipe '{name}'.{hint} Expected one of {', '.join(known)}.")
    files = [folder / f"{name}.py", *imported_beside(folder / f"{name}.py")]
    files += sorted((folder / "configs" / name).glob("*.yaml")) if configs else []
    copies = {path: target / path.relative_to(folder) for path in files}
    if there := [copy for copy in copies.values() if copy.exists() or copy.is_symlink()]:
        raise ConfigurationError(f"{there[0]} is there already, and nothing was copied. Name another folder, or move it away.")
    try:
        for path, copy in copies.items():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
    except OSError as error:
        raise ConfigurationError(f"{target} cannot be written: {error.strerror}.") from error
    print("\n".join(f"copied {copy}" for copy in copies.values()))
    script, options = shlex.quote(str(copies[files[0]])), [c for c in copies.values() if c.suffix == ".yaml"]
    if (folder / "configs" / name).is_dir():
        more = f" --config {shlex.quote(str(options[0]))}" if options else ""
        print(f"\nRun it, and see --help for what it takes: accelerate launch {script}{more}")
    else:
        print(f"\nSee what it takes: python {script} --help")
    return list(copies.values())


def imported_beside(script: Path) -> list[Path]:
    """The files of the packages that a script imports from its own folder."""
    tree = ast.parse(script.read_text(encoding="utf-8"))
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module and not node.level}
    packages = {name.partition(".")[0] for name in names}
    return [path for name in sorted(packages) for path in sorted((script.parent / name).glob("*.py"))]


# ---- what runs have cached ------------------------------------------------------------------------------------------


def clear_cache(dry_run: bool = False) -> int:
    """Delete the Arrow files that runs have cached: rows of learners, and what was made of them.

    Args:
        dry_run: Delete nothing.

    Returns:
        How many bytes they take, which are free now.
    """
    total = 0
    for folder, files in cached_files().items():
        size = sum(path.lstat().st_size for path in files)
        print(f"{folder}: {len(files)} files, {size / 2**20:,.1f} MiB")
        total += size
        if not dry_run:
            for path in files:
                path.unlink(missing_ok=True)
            for place in sorted({parent for path in files for parent in path.parents if folder in parent.parents}, reverse=True):
                if not any(place.iterdir()):
                    place.rmdir()
    print(f"{total / 2**20:,.1f} MiB {'would be' if dry_run else 'are'} free.")
    return total


def cached_files() -> dict[Path, list[Path]]:
    """Folder -> the files in it that our runs have cached.

    In our own folder these are all that `CACHED` says; other files in it are not ours. In those of the libraries datasets and
    evaluate they are answer logs, and what our metrics were given: what other programs cached there stays.
    """
    own, common = os.environ.get("EDU_RECIPES_CACHE"), os.environ.get("XDG_CACHE_HOME")
    ours = Path(own) if own else Path(common or Path.home() / ".cache") / "edu-recipes"
    found = {ours: [path for path in _files(ours) if CACHED.fullmatch(path.name)]}
    import datasets
    import evaluate

    for info in Path(datasets.config.HF_DATASETS_CACHE).glob("generator/**/dataset_info.json"):
        try:
            columns = set(json.loads(info.read_text(encoding="utf-8")).get("features") or ())
        except (OSError, ValueError, AttributeError):  # not written by datasets
            continue
        if columns == ANSWER_COLUMNS:
            found[info.parent] = list(_files(info.parent))
    for name in METRICS:
        folder = Path(evaluate.config.HF_METRICS_CACHE).expanduser() / name
        if files := [path for path in _files(folder) if path.suffix == ".arrow"]:
            found[folder] = files
    return found


def _files(folder: Path) -> Iterator[Path]:
    """All files below a folder; a link is not followed."""
    for place, _, names in os.walk(folder):
        yield from (Path(place) / name for name in names)


if __name__ == "__main__":
    console()

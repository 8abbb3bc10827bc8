"""Options from YAML files and the command line, and the one place where an error becomes a message.

Precedence: code default < first `--config` file < later `--config` file < command line. A key that is unknown, or that
transformers 5 removed, is an error that names the right one.
"""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import json
import logging
import os
import sys
import typing
from collections.abc import Callable, Sequence
from pathlib import Path

import yaml
from transformers import HfArgumentParser

from .failures import in_words

RENAMED = {
    "evaluation_strategy": "eval_strategy",
    "warmup_ratio": "warmup_steps (a number below 1 is a share of the steps)",
    "group_by_length": "nothing: batches are grouped by length already",
    "logging_dir": "the environment variable TENSORBOARD_LOGGING_DIR",
    "overwrite_output_dir": "resume_from_checkpoint (say false to start anew), or another output_dir",
    "save_safetensors": "nothing: weights are always saved as safetensors",
    "no_cuda": "use_cpu",
    "use_mps_device": "use_cpu",
    "include_inputs_for_metrics": "include_for_metrics",
    "gradient_checkpointing": "activation_checkpointing",
    "push_to_hub_model_id": "hub_model_id",
    "push_to_hub_token": "hub_token",
    "push_to_hub_organization": "hub_model_id",
    "torch_dtype": "precision",
    "bf16": "precision",
    "fp16": "precision",
    "use_lora": "use_peft",
    "per_gpu_train_batch_size": "per_device_train_batch_size",
    "per_gpu_eval_batch_size": "per_device_eval_batch_size",
}
"""Option names of transformers 4 or of other trainers, and what to write instead."""


class ConfigurationError(ValueError):
    """An option that cannot be followed. `run` prints it and ends with exit code 2."""

    exit_code = 2


class RecipeParser(HfArgumentParser):
    """HfArgumentParser with `--config file.yaml`, repeatable, and with errors that name the right option.

    Attributes:
        given: After `parse`, the names of the options that a file or the command line gave.
        resolved: After `parse`, the options that differ from the dataclasses' defaults, without tokens; written to a file
            they can be passed back with `--config`.
    """

    def __init__(self, dataclass_types: Sequence[type], **kwargs):
        usage = "%(prog)s [--config FILE.yaml] [--option value ...]"
        super().__init__(dataclass_types, allow_abbrev=False, formatter_class=_HelpFormatter, usage=usage, **kwargs)
        for action in [a for a in self._actions if a.dest in ("bf16", "fp16", "gradient_checkpointing", "debug")]:
            self._remove_action(action)  # other options take their place, see RENAMED
            for group in self._action_groups:
                group._group_actions = [a for a in group._group_actions if a is not action]
            for option in action.option_strings:
                self._option_string_actions.pop(option, None)
        self.add_argument("--debug", dest="show_tracebacks", action="store_true", help="show tracebacks")
        # a switch that is on by default has two actions, --x and --no_x; the first holds its type and default
        self._code_defaults = {
            a.dest: a.type(a.default) if isinstance(a.default, str) and a.type else a.default for a in reversed(self._actions)
        }
        self.given: set[str] = set()
        self.resolved: dict[str, object] = {}
        self.add_argument(
            "--config", action="append", default=argparse.SUPPRESS, metavar="FILE.yaml",
            help="YAML file with options; repeatable, a later one wins",
        )  # fmt: skip

    def parse(self, argv: Sequence[str] | None = None) -> tuple:
        """Parse YAML and command line into one instance of each dataclass.

        Args:
            argv: The words behind the script's name; None takes sys.argv.

        Raises:
            ConfigurationError: An option is unknown, renamed, of the wrong type, or a file cannot be read.
        """
        words = list(sys.argv[1:] if argv is None else argv)
        files = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
        files.add_argument("--config", action="append", default=[])
        try:
            paths, words = files.parse_known_args(words)
        except argparse.ArgumentError as error:
            self.error(str(error))
        actions = {a.dest: a for a in reversed(self._actions) if a.dest not in ("help", "config")}
        for path in paths.config:
            for key, value in read_yaml(path).items():
                if key not in actions:
                    raise ConfigurationError(self._unknown(str(key), Path(path).name))
                actions[key].default = self._checked(actions[key], value, Path(path).name)
                actions[key].required = False
                self.given.add(key)
        self.given |= {w.lstrip("-").split("=")[0].replace("-", "_") for w in words if w.startswith("--")}
        values = vars(self.parse_args(words))
        self.resolved = {k: v for k, v in values.items() if v != self._code_defaults.get(k) and not k.endswith("_token")}
        groups = []
        for group in self.dataclass_types:
            names = {f.name for f in dataclasses.fields(group) if f.init}
            try:
                groups.append(group(**{k: v for k, v in values.items() if k in names}))
            except (ValueError, TypeError, ImportError) as error:
                if getattr(error, "exit_code", None):
                    raise
                raise ConfigurationError(" ".join(str(error).split())) from error
        return tuple(groups)

    def parse_known_args(self, args=None, namespace=None):
        namespace, rest = super().parse_known_args(args, namespace)
        if options := [word for word in rest if word.startswith("-")]:
            raise ConfigurationError(self._unknown(options[0].lstrip("-").split("=")[0].replace("-", "_"), "command line"))
        if rest:
            raise ConfigurationError(f"command line: '{rest[0]}' belongs to no option.")
        return namespace, rest

    def error(self, message: str) -> typing.NoReturn:
        raise ConfigurationError(f"command line: {message}. See --help.")

    def _unknown(self, key: str, where: str) -> str:
        if key in RENAMED:
            return f"{where}: the option '{key}' is gone; use {RENAMED[key]}."
        names = [a.dest for a in self._actions]
        close = difflib.get_close_matches(key, names, n=1, cutoff=0.6)
        return f"{where}: unknown option '{key}'." + (f" Did you mean '{close[0]}'?" if close else " See --help.")

    def _checked(self, action: argparse.Action, value: object, where: str) -> object:
        """A YAML value in the option's type and among its choices (argparse checks neither for defaults)."""
        if value is None and self._code_defaults.get(action.dest) is not None:
            raise ConfigurationError(f"{where}: option '{action.dest}' has no value; leave the line out for the default.")
        values = value if isinstance(value, list) else [value]
        if value is not None and action.type is not None and not isinstance(value, dict):
            try:
                values = [action.type(str(v)) for v in values]
            except (ValueError, TypeError, argparse.ArgumentTypeError) as error:
                raise ConfigurationError(f"{where}: option '{action.dest}' cannot be {value!r}.") from error
        if action.choices and value is not None and any(v not in action.choices for v in values):
            allowed = ", ".join(map(str, action.choices))
            raise ConfigurationError(f"{where}: option '{action.dest}' is {value!r}; expected one of {allowed}.")
        if isinstance(value, dict):
            return json.dumps(value)
        many = action.nargs in ("+", "*")
        if isinstance(value, list) and not many:
            raise ConfigurationError(f"{where}: option '{action.dest}' takes one value, not a list.")
        return values if many and value is not None else values[0]


class _HelpFormatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Defaults in the help, wide enough to read."""

    def __init__(self, prog: str):
        super().__init__(prog, max_help_position=36, width=118)

    def _format_action_invocation(self, action: argparse.Action) -> str:
        """The option once, in its first spelling."""
        if action.nargs == 0 or action.option_strings[0] == "-h":
            return ", ".join(action.option_strings)
        value = "{" + ",".join(map(str, action.choices)) + "}" if action.choices else (action.metavar or "VALUE")
        return f"{action.option_strings[0]} {value}" + (" ..." if action.nargs in ("+", "*") else "")


def options_named(words: Sequence[str], **defaults: str | None) -> argparse.Namespace:
    """Some options before the others are known, since which ones there are depends on them: that of the model, say.

    Args:
        words: The command line.
        defaults: The options that are looked for, and what they are where neither a `--config` file nor a word gives them.

    Raises:
        ConfigurationError: A file cannot be read.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for name, default in defaults.items():
        parser.add_argument(f"--{name}", default=default)
    parser.add_argument("--config", action="append", default=[])
    for path in parser.parse_known_args(words)[0].config:
        parser.set_defaults(**{k: v for k, v in read_yaml(path).items() if k in defaults})
    return parser.parse_known_args(words)[0]


def read_yaml(path: str) -> dict:
    """The options of a `--config` file.

    Raises:
        ConfigurationError: It cannot be read, or is no list of options.
    """
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigurationError(f"there is no configuration file {path}; paths are taken from the working folder.") from error
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise ConfigurationError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content or {}, dict):
        raise ConfigurationError(f"{path} is not a list of 'option: value' lines.")
    return content or {}


def run(main: Callable[[], object]) -> None:
    """Run a recipe's `main` as a program.

    An error that is the user's to mend (it has an `exit_code`, or `failures.in_words` knows it) is printed as one message, of one
    process, without a traceback unless `--debug` is given, and ends the program with that code.
    """
    debug = any(word in ("--debug", "--debug=true") for word in sys.argv[1:])
    first = int(os.environ.get("RANK", 0)) == 0
    try:
        main()
    except KeyboardInterrupt:
        if first:
            print("\nStopped. What was saved is kept; --resume_from_checkpoint auto goes on from there.", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        told = in_words(error)
        if debug or not getattr(told, "exit_code", None):
            raise
        if first or not getattr(told, "of_all", True):
            logging.getLogger(__name__).debug("ended by", exc_info=True)
            print(f"\nerror: {told}", file=sys.stderr)
        sys.exit(told.exit_code)

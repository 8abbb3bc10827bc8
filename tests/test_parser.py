"""YAML and command line: precedence, types, unknown and renamed options, what is written back."""

from dataclasses import dataclass, field

import pytest
import yaml

from trainers.arguments import DataArguments, RecipeTrainingArguments
from trainers.parser import RENAMED, ConfigurationError, RecipeParser, options_named


@dataclass
class Options:
    rate: float = field(default=0.5, metadata={"help": "a number"})
    names: list[str] = field(default_factory=lambda: ["a"], metadata={"help": "words"})
    flag: bool = field(default=False, metadata={"help": "a switch"})
    on: bool = field(default=True, metadata={"help": "a switch that is on"})


def write(path, **options):
    path.write_text(yaml.safe_dump(options))
    return str(path)


def parse(*words):
    parser = RecipeParser((Options, DataArguments))
    return (*parser.parse(list(words)), parser)


def test_the_command_line_wins_over_later_over_earlier_yaml_over_code(tmp_path):
    first = write(tmp_path / "1.yaml", rate=0.1, names=["x", "y"], fold=3)
    second = write(tmp_path / "2.yaml", rate=0.2)
    options, data, _ = parse("--config", first, "--config", second)
    assert (options.rate, options.names, data.fold) == (0.2, ["x", "y"], 3)
    assert parse("--config", first, "--rate", "0.5")[0].rate == 0.5  # also where it equals the code's default
    assert parse(f"--config={first}", "--names", "z")[0].names == ["z"]
    assert parse("--config", write(tmp_path / "3.yaml", flag=True))[0].flag is True
    assert parse("--config", str(tmp_path / "3.yaml"), "--flag", "false")[0].flag is False
    assert parse("--config", write(tmp_path / "4.yaml", on=False))[0].on is False


def test_numbers_in_yaml_1_1_are_read_as_numbers(tmp_path):
    (tmp_path / "c.yaml").write_text("rate: 2e-5\n")  # a string for YAML 1.1
    assert parse("--config", str(tmp_path / "c.yaml"))[0].rate == 2e-5


def test_what_is_written_back_gives_the_same_options(tmp_path):
    *groups, parser = parse("--rate", "0.25", "--names", "p", "q", "--max_train_samples", "7")
    assert parser.resolved == {"rate": 0.25, "names": ["p", "q"], "max_train_samples": 7}
    *again, _ = parse("--config", write(tmp_path / "c.yaml", **parser.resolved))
    assert again == groups


def test_tokens_are_not_written_back(tmp_path):
    parser = RecipeParser((RecipeTrainingArguments,))
    parser.parse(["--hub_token", "hf_canary", "--output_dir", str(tmp_path)])
    assert "hf_canary" not in str(parser.resolved)


@pytest.mark.parametrize("old", sorted(RENAMED))
def test_an_option_of_transformers_4_names_its_successor(old, tmp_path):
    for words in ([f"--{old}", "1"], ["--config", write(tmp_path / "c.yaml", **{old: 1})]):
        with pytest.raises(ConfigurationError, match=f"'{old}' is gone; use {RENAMED[old][:12]}"):
            RecipeParser((RecipeTrainingArguments,)).parse(words)


def test_a_misspelt_option_names_the_right_one(tmp_path):
    for words in (["--max_train_sample", "1"], ["--config", write(tmp_path / "c.yaml", max_train_sample=1)]):
        with pytest.raises(ConfigurationError, match="Did you mean 'max_train_samples'"):
            parse(*words)
    with pytest.raises(ConfigurationError, match="belongs to no option"):
        parse("essays.csv")


def test_precision_fits_the_device(tmp_path):
    (args,) = RecipeParser((RecipeTrainingArguments,)).parse(["--output_dir", str(tmp_path)])
    assert args.precision in ("bf16", "fp32", "fp16") and args.bf16 == (args.precision == "bf16")
    (args,) = RecipeParser((RecipeTrainingArguments,)).parse(["--output_dir", str(tmp_path), "--precision", "fp32"])
    assert not args.bf16 and not args.fp16


def test_some_options_are_known_before_the_others(tmp_path):
    (tmp_path / "own.yaml").write_text("model: runs/mine\noutput_file: out.csv\n")
    named = options_named(["--config", str(tmp_path / "own.yaml"), "--strange", "1"], model=None, model_revision="main")
    assert (named.model, named.model_revision) == ("runs/mine", "main")
    assert options_named(["--config", str(tmp_path / "own.yaml"), "--model", "other"], model=None).model == "other"

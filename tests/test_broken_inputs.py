"""Bad input ends a run with one message: which file, row and column, what was found, what to do. Nothing is lost or told.

A case is a function that writes the broken input into a folder and returns the command line; the words beside it must
stand in the message.
"""

import csv
import json
import os
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from conftest import ROOT
from transformers import AutoModelForSequenceClassification

from edu_datasets import DataError
from trainers.artifact import FILE_NAME, Artifact
from trainers.essay_settings import EssaySettings
from trainers.parser import ConfigurationError

TEXT_CANARY, ID_CANARY = "Xanthippe", "pupil-4711"
"""Stand in every essay and in every id; no message may hold them."""

TRAINING, PREDICTION = [], []


def case(*words, of=TRAINING):
    """Register a function (folder, folder of the tiny model) -> command line; `words` must be in the message."""

    def register(build):
        of.append(pytest.param(build, words, id=build.__name__))
        return build

    return register


def essays(n=30, name="a", **columns) -> list[dict]:
    """Essays with an id of their own, on one prompt, scored 1 to 4; `columns` are set in every row."""
    return [
        {"id": f"{ID_CANARY}-{name}{i}", "prompt": "phones", "text": f"{TEXT_CANARY} wrote essay {name}{i}.", "score": i % 4 + 1}
        | columns
        for i in range(n)
    ]


def changed(row: int, **cells) -> list[dict]:
    """Essays of which the one in spreadsheet row `row` has other cells."""
    rows = essays()
    rows[row - 2].update(cells)
    return rows


def as_csv(path: Path, rows: list[dict]) -> str:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return str(path)


def as_bytes(path: Path, content: bytes | str) -> str:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


def train_on(folder: Path, rows: list[dict], *words) -> list[str]:
    return ["--train_file", as_csv(folder / "essays.csv", rows), *words]


def lines(row: int, text: str) -> str:
    """A csv whose spreadsheet row `row` is `text`."""
    whole = ["text,score", *(f"{TEXT_CANARY} {i},{i % 4}" for i in range(30))]
    whole[row - 1] = text
    return "\n".join(whole) + "\n"


def yaml(folder: Path, content: str) -> list[str]:
    return train_on(folder, essays(), "--config", as_bytes(folder / "run.yaml", content))


# ---- columns ----------------------------------------------------------------------------------------------------------


@case("essays.csv", "no column 'text'", "'essay'", "--text_column")
def missing_column(folder, model):
    return train_on(folder, [{"essay": r["text"], "score": r["score"]} for r in essays()])


@case("essays.csv", "no column 'scor'", "Did you mean 'score'?", "--score_column score")
def misspelt_column(folder, model):
    return train_on(folder, essays(), "--score_column", "scor")


@case("essays.csv", "no column 'class'", "--split_by")
def split_by_a_column_that_is_not_there(folder, model):
    return train_on(folder, essays(), "--split_by", "class")


@case("essays.csv", "no column 'sex'", "--subgroup_columns")
def subgroup_column_that_is_not_there(folder, model):
    return train_on(folder, essays(), "--subgroup_columns", "sex")


@case("essays.csv", "no column 'text'", "--text_column")
def no_header(folder, model):
    rows = [f"{ID_CANARY}-{i},{TEXT_CANARY} wrote this.,{i % 4}" for i in range(30)]
    return ["--train_file", as_bytes(folder / "essays.csv", "\n".join(rows))]


@case("essays.csv", "row 2", "column 'text'", "not a score", "--skip_bad_rows")
def text_column_taken_for_the_score(folder, model):
    return train_on(folder, essays(), "--score_column", "text")


@case("prompt")
def text_column_taken_for_the_prompt(folder, model):
    return train_on(folder, essays(), "--prompt_column", "text")


# ---- scores -----------------------------------------------------------------------------------------------------------


@case("essays.csv", "row 5", "column 'score'", "Found: 'good'", "a number", "--skip_bad_rows")
def score_in_words(folder, model):
    return train_on(folder, changed(5, score="good"))


@case("essays.csv", "row 5", "column 'score'", "Found: '3,5'", "decimal comma as a point")
def decimal_comma(folder, model):
    return train_on(folder, changed(5, score="3,5"))


@case("essays.csv", "row 5", "column 'score'", "Found: 'NaN'", "a number")
def score_nan(folder, model):
    return train_on(folder, changed(5, score="NaN"))


@case("essays.json", "row 4", "column 'score'", "Found: nan", "a number")
def score_nan_in_json(folder, model):
    return ["--train_file", as_bytes(folder / "essays.json", json.dumps(changed(5, score=float("nan"))))]


@case("essays.csv", "row 6", "column 'score'", "Found: 9.0", "1 to 4 in steps of 1", "--score_range")
def score_outside_the_stated_range(folder, model):
    return train_on(folder, changed(6, score=9), "--score_range", "1", "4")


@case("essays.csv", "row 6", "column 'score'", "Found: 2.5", "1 to 4 in steps of 1", "--score_step")
def score_off_the_stated_grid(folder, model):
    return train_on(folder, changed(6, score=2.5), "--score_step", "1")


@case("essays.csv", "row 6", "column 'score'", "Found: 2.3", "1, 0.5 or 0.25", "--score_step")
def score_off_every_grid(folder, model):
    return train_on(folder, changed(6, score=2.3))


@case("same score", "'score'", "Found: 3.0", "at least two different scores")
def one_score_only(folder, model):
    return train_on(folder, essays(score=3))


@case("score range", "Found: [4.0, 1.0]")
def range_upside_down(folder, model):
    return train_on(folder, essays(), "--score_range", "4", "1")


@case("score_step", "-1")
def negative_step(folder, model):
    return train_on(folder, essays(), "--score_step", "-1")


# ---- essays and ids ---------------------------------------------------------------------------------------------------


@case("essays.csv", "row 7", "column 'text'", "the essay is empty", "--skip_bad_rows")
def empty_essay(folder, model):
    return train_on(folder, changed(7, text="  "))


@case("essays.csv", "row 7", "column 'text'", "1,999,999 characters", "at most 100,000", "quote that never closes")
def essay_of_two_megabytes(folder, model):
    return train_on(folder, changed(7, text=(TEXT_CANARY + " ") * 200_000))


@case("essays.jsonl", "row 6", "column 'text'", "zero byte")
def zero_byte(folder, model):
    rows = changed(7, text=f"{TEXT_CANARY}\x00")
    return ["--train_file", as_bytes(folder / "essays.jsonl", "\n".join(map(json.dumps, rows)))]


@case("essays.jsonl", "row 6", "column 'text'")
def half_a_character_in_json(folder, model):
    rows = changed(7, text=f"{TEXT_CANARY} \ud83d")
    return ["--train_file", as_bytes(folder / "essays.jsonl", "\n".join(map(json.dumps, rows)))]


@case("essays.csv", "row 9", "column 'id'", "row 3 too", "--id_column")
def duplicate_ids(folder, model):
    return train_on(folder, changed(9, id=essays()[1]["id"]), "--id_column", "id")


@case("test.csv", "row 4", "the id stands in row 3 of essays.csv (train) too", "Take it out")
def id_in_two_splits(folder, model):
    test = essays(10, "b")
    test[2]["id"] = essays()[1]["id"]
    return train_on(folder, essays(), "--test_file", as_csv(folder / "test.csv", test), "--id_column", "id")


@case("test.csv", "row 4", "the text stands in row 3 of essays.csv (train) too", "Take it out")
def text_in_two_splits(folder, model):
    test = essays(10, "b")
    test[2]["text"] = essays()[1]["text"].upper() + " "
    return train_on(folder, essays(), "--test_file", as_csv(folder / "test.csv", test))


@case("test.csv", "row 2", "'ferry'", "no training essay answers", "leave it out")
def prompt_in_test_that_was_never_trained(folder, model):
    test = as_csv(folder / "test.csv", essays(10, "b", prompt="ferry"))
    return train_on(folder, essays(), "--test_file", test, "--prompt_column", "prompt")


@case("3 groups", "at least 5 groups", "--validation_file")
def too_few_essays_to_split(folder, model):
    return train_on(folder, essays(3))


@case("max_train_samples", "-1")
def negative_number_of_samples(folder, model):
    return train_on(folder, essays(), "--max_train_samples", "-1")


# ---- files ------------------------------------------------------------------------------------------------------------


@case("essays.csv", "the file is empty", "a header")
def empty_file(folder, model):
    return ["--train_file", as_bytes(folder / "essays.csv", "")]


@case("essays.csv", "no rows", "at least one row")
def header_only(folder, model):
    return ["--train_file", as_bytes(folder / "essays.csv", "text,score\n")]


@case("missing.csv", "there is no file", "Paths are taken from")
def missing_training_file(folder, model):
    return ["--train_file", str(folder / "missing.csv")]


@case("tset.csv", "there is no file", "Did you mean 'test.csv'?")
def missing_test_file(folder, model):
    as_csv(folder / "test.csv", essays(10, "b"))
    return train_on(folder, essays(), "--test_file", str(folder / "tset.csv"))


@case("essays.csv", "row 8", "not in the encoding utf-8", "--file_encoding")
def wrong_stated_encoding(folder, model):
    content = lines(8, f"{TEXT_CANARY} café,1").encode("cp1252")
    return ["--train_file", as_bytes(folder / "essays.csv", content), "--file_encoding", "utf-8"]


@case("essays.csv", "row 8", "byte 0x8D", "--file_encoding")
def byte_that_is_no_text(folder, model):
    return ["--train_file", as_bytes(folder / "essays.csv", lines(8, f"{TEXT_CANARY} @,1").encode().replace(b"@", b"\x8d"))]


@case("essays.csv", "binary", "csv (UTF-8)")
def binary_file(folder, model):
    return ["--train_file", as_bytes(folder / "essays.csv", b"PK\x03\x04\x14\x00" + bytes(range(256)))]


@case("essays.csv", "row 8", "a quote opens", "does not close")
def unclosed_quote(folder, model):
    return ["--train_file", as_bytes(folder / "essays.csv", lines(8, f'"{TEXT_CANARY} never stops,1'))]


@case("essays.csv", "row 8", "1 fields", "separated by ';'", "--separator")
def mixed_separators(folder, model):
    return ["--train_file", as_bytes(folder / "essays.csv", lines(8, f"{TEXT_CANARY};1"))]


@case("essays.csv", "row 8", "3 fields", "2 fields", "--separator")
def unquoted_comma(folder, model):
    return ["--train_file", as_bytes(folder / "essays.csv", lines(8, f"{TEXT_CANARY}, indeed,1"))]


@case("--separator")
def separator_of_two_characters(folder, model):
    return train_on(folder, essays(), "--separator", r"\t")


@case("essays.jsonl", "row 3", "not valid json")
def torn_json(folder, model):
    whole = [json.dumps(r) for r in essays()]
    whole[2] = whole[2][:-8]
    return ["--train_file", as_bytes(folder / "essays.jsonl", "\n".join(whole))]


@case("essays.parquet", "not a readable parquet file")
def parquet_that_is_none(folder, model):
    return ["--train_file", as_bytes(folder / "essays.parquet", lines(2, f"{TEXT_CANARY},1"))]


@case("essays.xlsx", "unknown kind of file", "'.xlsx'", ".csv")
def a_spreadsheet(folder, model):
    return ["--train_file", as_bytes(folder / "essays.xlsx", b"PK\x03\x04")]


@case("prompts.csv", "row 2", "column 'score_max'", "Found: 'six'")
def range_in_words_in_the_prompts_file(folder, model):
    prompts = as_csv(folder / "prompts.csv", [{"prompt_id": "phones", "prompt": "Argue.", "score_min": 1, "score_max": "six"}])
    return train_on(folder, essays(), "--prompt_column", "prompt", "--prompts_file", prompts)


# ---- public data sets -------------------------------------------------------------------------------------------------


@case("unknown data set", "Did you mean 'ellipse'?", "--train_file")
def unknown_data_set(folder, model):
    return ["--dataset_name", "elipse"]


@case("--data_dir", "EDU_DATA_DIR")
def asap_without_a_data_folder(folder, model):
    return ["--dataset_name", "asap"]


@case("nowhere", "--data_dir")
def data_folder_that_is_not_there(folder, model):
    return ["--dataset_name", "asap", "--data_dir", str(folder / "nowhere")]


@case("no such fold", "Found: 7", "0 to 4")
def fold_seven(folder, model):
    return ["--dataset_name", "asap", "--data_dir", str(folder), "--fold", "7"]


@case("someone/graded-essays", "Hub", "--train_file")
def data_set_that_is_not_on_the_hub(folder, model):
    return ["--dataset_name", "someone/graded-essays"]


# ---- options ----------------------------------------------------------------------------------------------------------


@case("run.yaml", "unknown option 'learning_rat'", "Did you mean 'learning_rate'?")
def unknown_key_in_yaml(folder, model):
    return yaml(folder, "learning_rat: 0.001\n")


@case("run.yaml", "'evaluation_strategy' is gone", "eval_strategy")
def renamed_key_in_yaml(folder, model):
    return yaml(folder, "evaluation_strategy: epoch\n")


@case("command line", "'evaluation_strategy' is gone", "eval_strategy")
def renamed_option(folder, model):
    return train_on(folder, essays(), "--evaluation_strategy", "epoch")


@case("'bf16'", "precision")
def option_that_precision_replaces(folder, model):
    return train_on(folder, essays(), "--bf16", "true")


@case("command line", "unknown option 'text_colum'", "Did you mean 'text_column'?")
def unknown_option(folder, model):
    return train_on(folder, essays(), "--text_colum", "text")


@case("command line", "'essays2.csv' belongs to no option")
def word_that_belongs_to_no_option(folder, model):
    return [*train_on(folder, essays()), "essays2.csv"]


@case("run.yaml", "'num_train_epochs'", "'many'")
def yaml_value_of_the_wrong_type(folder, model):
    return yaml(folder, "num_train_epochs: many\n")


@case("run.yaml", "'score_column'")
def yaml_value_that_is_empty(folder, model):
    return yaml(folder, "score_column:\n")


@case("run.yaml", "'train_file' takes one value")
def yaml_list_for_one_value(folder, model):
    return yaml(folder, "train_file: [a.csv, b.csv]\n")


@case("run.yaml", "option: value")
def yaml_that_is_no_mapping(folder, model):
    return yaml(folder, "- learning_rate\n- 0.001\n")


@case("run.yaml", "not valid YAML")
def yaml_that_is_none(folder, model):
    return yaml(folder, "learning_rate: [0.001\n")


@case("no configuration file", "nowhere.yaml")
def missing_yaml(folder, model):
    return train_on(folder, essays(), "--config", str(folder / "nowhere.yaml"))


@case("command line", "--config")
def config_without_a_file(folder, model):
    return train_on(folder, essays(), "--config")


@case("command line", "max_length", "'long'")
def word_for_a_number(folder, model):
    return train_on(folder, essays(), "--max_length", "long")


@case("--max_length is -1", "16 or more")
def negative_length(folder, model):
    return train_on(folder, essays(), "--max_length", "-1")


@case("--input_template", "must hold {text}")
def template_without_the_text(folder, model):
    return train_on(folder, essays(), "--input_template", "Prompt {prompt_id}")


@case("--input_template", "Essay: {text")
def template_with_an_open_brace(folder, model):
    return train_on(folder, essays(), "--input_template", "Essay: {text")


@case("--loss is 'rmse'", "mse, corn, mse+rank")
def unknown_loss(folder, model):
    return train_on(folder, essays(), "--loss", "rmse")


@case("--precision", "fp8", "bf16")
def unknown_precision(folder, model):
    return train_on(folder, essays(), "--precision", "fp8")


@case("--cv_folds is 1")
def one_fold(folder, model):
    return train_on(folder, essays(), "--cv_folds", "1")


@case("--protocol", "'pooled'", "in_domain", "cross_prompt")
def unknown_protocol(folder, model):
    return train_on(folder, essays(), "--protocol", "pooled")


@case("metric_for_best_model", "kapa", "quadratic_weighted_kappa")
def metric_that_is_not_computed(folder, model):
    return train_on(folder, essays(), "--metric_for_best_model", "kapa")


@case("per_device_train_batch_size", "0")
def batch_of_nothing(folder, model):
    return train_on(folder, essays(), "--per_device_train_batch_size", "0")


@case("gradient_accumulation_steps", "0")
def accumulation_of_nothing(folder, model):
    return train_on(folder, essays(), "--gradient_accumulation_steps", "0")


@case("notepad", "tensorboard")
def unknown_tracker(folder, model):
    return train_on(folder, essays(), "--report_to", "notepad")


@case("--output_dir", "notes.txt", "is a file")
def output_folder_below_a_file(folder, model):
    file = as_bytes(folder / "notes.txt", "keep me")
    return train_on(folder, essays(), "--output_dir", f"{file}/run")


# ---- checkpoints ------------------------------------------------------------------------------------------------------


@case("there is no model folder", "nowhere", "working folder")
def missing_checkpoint_folder(folder, model):
    return train_on(folder, essays(), "--model_name_or_path", str(folder / "nowhere"))


@case("holds no model", "config.json")
def checkpoint_folder_without_a_model(folder, model):
    (folder / "empty").mkdir()
    return train_on(folder, essays(), "--model_name_or_path", str(folder / "empty"))


@case("someone/encoder", "could not be loaded", "--model_name_or_path")
def checkpoint_that_is_not_on_the_hub(folder, model):
    return train_on(folder, essays(), "--model_name_or_path", "someone/encoder")


@case("damaged", "could not be loaded", "--model_name_or_path")
def damaged_weights(folder, model):
    shutil.copytree(model, folder / "damaged")
    as_bytes(folder / "damaged/model.safetensors", b"not weights at all")
    return train_on(folder, essays(), "--model_name_or_path", str(folder / "damaged"))


@case("--lora_target_modules query_proj", "not in the model", "query", "all-linear")
def lora_modules_that_the_model_lacks(folder, model):
    return train_on(folder, essays(), "--use_peft", "--lora_target_modules", "query_proj")


@case("--lora_r is 0")
def lora_rank_zero(folder, model):
    return train_on(folder, essays(), "--use_peft", "--lora_r", "0")


@case("--loss mse+rank", "--gradient_accumulation_steps 1", "--per_device_train_batch_size")
def ranking_under_accumulation(folder, model):
    return train_on(folder, essays(), "--loss", "mse+rank", "--gradient_accumulation_steps", "2")


@case("no checkpoint in", "to resume from")
def resume_without_a_checkpoint(folder, model):
    return train_on(folder, essays(), "--resume_from_checkpoint", "true")


@case("--resume_from_checkpoint", "elsewhere", "trainer_state.json")
def resume_from_a_folder_that_is_no_checkpoint(folder, model):
    return train_on(folder, essays(), "--resume_from_checkpoint", str(folder / "elsewhere"))


@case("unfinished run", "--resume_from_checkpoint auto", "another --output_dir")
def checkpoints_of_an_unfinished_run(folder, model):
    (folder / "run/checkpoint-3").mkdir(parents=True)
    as_bytes(folder / "run/checkpoint-3/trainer_state.json", "{}")
    return train_on(folder, essays())


# ---- prediction -------------------------------------------------------------------------------------------------------


def trained(folder: Path, model: str, **settings) -> str:
    """The tiny model as if a recipe had trained it on the prompts 'phones' and 'ferry'."""
    shutil.copytree(model, folder / "model")
    AutoModelForSequenceClassification.from_pretrained(model, num_labels=1).save_pretrained(folder / "model")
    ranges = {"phones": [(1.0, 6.0)], "ferry": [(0.0, 4.0)]}
    values = asdict(EssaySettings(max_length=128, score_ranges=ranges)) | settings
    Artifact("essay_scoring", values, {"name": "tiny", "revision": "main", "sha256": None}, "0").save(folder / "model")
    return str(folder / "model")


def score(folder: Path, rows: list[dict], model: str, *words) -> list[str]:
    return ["--model", model, "--input_file", as_csv(folder / "new.csv", rows), *words]


@case("no edu_recipes.json", "not trained by a recipe", of=PREDICTION)
def model_that_no_recipe_trained(folder, model):
    return score(folder, essays(5), model)


@case("edu_recipes.json", "damaged", of=PREDICTION)
def damaged_settings(folder, model):
    path = trained(folder, model)
    as_bytes(Path(path) / FILE_NAME, "{")
    return score(folder, essays(5), path)


@case("edu_recipes.json", "temperature", of=PREDICTION)
def settings_of_a_newer_version(folder, model):
    return score(folder, essays(5), trained(folder, model, temperature=2), "--prompt_column", "prompt")


@case("model", "could not be loaded", of=PREDICTION)
def damaged_weights_of_a_trained_model(folder, model):
    path = trained(folder, model)
    as_bytes(Path(path) / "model.safetensors", b"not weights at all")
    return score(folder, essays(5), path, "--prompt_column", "prompt")


@case("trained for speech_recognition", of=PREDICTION)
def model_of_another_task(folder, model):
    path = Path(trained(folder, model)) / FILE_NAME
    as_bytes(path, path.read_text().replace('"essay_scoring"', '"speech_recognition"'))
    return score(folder, essays(5), str(path.parent))


@case("new.csv", "row 2", "column 'prompt'", "not trained on this prompt", "Found: 'venus'", "phones, ferry", of=PREDICTION)
def prompt_that_the_model_does_not_know(folder, model):
    return score(folder, essays(5, prompt="venus"), trained(folder, model), "--prompt_column", "prompt")


@case("phones, ferry", "--prompt_column", of=PREDICTION)
def prompt_not_named_to_a_model_of_several(folder, model):
    return score(folder, essays(5), trained(folder, model))


@case("new.csv", "row 4", "column 'prompt'", "the prompt is missing", "--skip_bad_rows", of=PREDICTION)
def prompt_missing_to_score(folder, model):
    return score(folder, changed(4, prompt=""), trained(folder, model), "--prompt_column", "prompt")


@case("was not trained for new prompts", "--protocol cross_prompt", of=PREDICTION)
def new_prompt_for_a_model_that_knows_only_its_own(folder, model):
    (folder / "prompts.csv").write_text("prompt_id,prompt,score_min,score_max\nnew,Write.,1,6\n")
    prompts = ("--prompt_column", "prompt", "--prompts_file", str(folder / "prompts.csv"))
    return score(folder, changed(4, prompt="new"), trained(folder, model), *prompts)


@case("there is no file", "nowhere.csv", of=PREDICTION)
def missing_input_file(folder, model):
    return ["--model", trained(folder, model), "--input_file", str(folder / "nowhere.csv")]


@case("--output_file", "no folder", "nowhere", of=PREDICTION)
def output_file_in_a_folder_that_is_not_there(folder, model):
    return score(folder, essays(5), trained(folder, model), "--output_file", str(folder / "nowhere/scores.csv"))


@case("--model", "--input_file", "required", of=PREDICTION)
def no_option_at_all(folder, model):
    return []


# ---- what every case must do ------------------------------------------------------------------------------------------


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def refusal(main, argv: list[str], words, caplog, capsys) -> None:
    """`main` ends with exit code 2, a message that holds `words`, and no text or id in it or in the log."""
    caplog.set_level("INFO")
    with pytest.raises((DataError, ConfigurationError)) as error:
        main(argv)
    assert error.value.exit_code == 2
    message = str(error.value)
    assert [word for word in words if word not in message] == [], message
    told = message + caplog.text + "".join(capsys.readouterr())
    assert TEXT_CANARY not in told and ID_CANARY not in told, told


@pytest.fixture(autouse=True)
def no_data_folder(monkeypatch):
    monkeypatch.delenv("EDU_DATA_DIR", raising=False)


@pytest.mark.parametrize(("build", "words"), TRAINING)
def test_training_refuses_and_loses_nothing(build, words, essay_scoring, tiny_model, tmp_path, caplog, capsys):
    output = tmp_path / "run"
    output.mkdir()
    for name in ("metrics.json", "model.safetensors", "predictions.csv", "README.md"):
        as_bytes(output / name, f"{name} of an earlier run")
    argv = ["--model_name_or_path", tiny_model, "--output_dir", str(output), "--max_length", "128", "--max_steps", "1"]
    argv += build(tmp_path, tiny_model)
    before = contents(tmp_path)
    refusal(essay_scoring.main, argv, words, caplog, capsys)
    assert contents(tmp_path) == before


@pytest.mark.parametrize(("build", "words"), PREDICTION)
def test_prediction_refuses_and_loses_nothing(build, words, predict, tiny_model, tmp_path, caplog, capsys):
    argv = build(tmp_path, tiny_model)
    argv = argv and ["--output_file", as_bytes(tmp_path / "scores.csv", "scores of an earlier run"), *argv]
    before = contents(tmp_path)
    refusal(predict.main, argv, words, caplog, capsys)
    assert contents(tmp_path) == before


def test_the_unbroken_inputs_are_accepted(essay_scoring, predict, tiny_model, tmp_path):
    """So that a case above is refused for what is broken in it."""
    argv = ["--model_name_or_path", tiny_model, "--max_length", "128", "--output_dir", str(tmp_path / "run"), "--check_data"]
    test = as_csv(tmp_path / "test.csv", essays(10, "b"))
    whole = train_on(tmp_path, essays(), "--test_file", test, "--id_column", "id", "--prompt_column", "prompt")
    assert essay_scoring.main([*argv, *whole])["training"]["updates"] > 0
    assert essay_scoring.main([*argv, "--train_file", as_bytes(tmp_path / "lines.csv", lines(2, "fine,1"))])
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(essays()), tmp_path / "essays.parquet")
    assert essay_scoring.main([*argv, "--train_file", str(tmp_path / "essays.parquet")])
    assert essay_scoring.main([*argv, *yaml(tmp_path, "learning_rate: 1e-3\n")])
    known = score(tmp_path, essays(5), trained(tmp_path, tiny_model), "--prompt_column", "prompt")
    assert len(predict.main([*known, "--output_file", str(tmp_path / "scores.csv")]).read_text().splitlines()) == 6


def test_the_program_prints_one_message_and_ends_with_code_2(tmp_path):
    command = [sys.executable, str(ROOT / "recipes/essay_scoring.py"), "--train_file", "missing.csv"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 2
    said = [line for line in (ended.stdout + ended.stderr).splitlines() if line.strip()]
    assert len(said) == 1 and said[0].startswith("error: there is no file missing.csv"), said
    assert list(tmp_path.iterdir()) == []
    ended = subprocess.run([*command, "--debug"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert ended.returncode != 0
    assert "Traceback (most recent call last)" in ended.stderr and "DataError: there is no file missing.csv" in ended.stderr

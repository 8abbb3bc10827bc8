"""Publishing against a Hub on loopback, by the real client, in both of its storage modes; no mock anywhere."""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import yaml
from conftest import ROOT
from loopback_hub import LoopbackHub, card_errors
from safetensors.torch import load_file, save_file

from trainers.essay_scoring import load

MODES = ["xet", "lfs"]
BASE = "teacher/tiny-bert"
CANARIES = ("zebrafinch-quartz", "E-canary-77", "L-canary-88", "hf_canarytoken99", "group-canary-55")


@dataclass
class Machine:
    """A computer with a home of its own and nothing in its cache; what runs on it is a process of its own."""

    hub: LoopbackHub
    home: Path
    mode: str = "xet"
    token: str | None = "hf_writer"
    more: dict[str, str] = field(default_factory=dict)

    def run(self, *words: str, code: int = 0) -> str:
        """Run python with these words. Returns what it printed; the exit code must be `code`."""
        env = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING")) and not k.lower().endswith("_proxy")}
        env |= {
            "HF_ENDPOINT": self.hub.endpoint, "HF_HOME": str(self.home), "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_XET_XORB_COMPRESSION_POLICY": "none", "HF_UPDATE_DOWNLOAD_COUNTS": "0",
            "HF_XET_CLIENT_RETRY_MAX_ATTEMPTS": "2", "HF_XET_CLIENT_RETRY_BASE_DELAY": "100ms", "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
        }  # fmt: skip
        env |= {"HF_HUB_DISABLE_XET": "1"} if self.mode == "lfs" else {}
        env |= {"HF_TOKEN": self.token} if self.token else {}
        command = [sys.executable, *map(str, words)]
        both = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}  # in the order in which a user sees them
        done = subprocess.run(command, env=env | self.more, cwd=self.home, **both, text=True, timeout=300)
        assert done.returncode == code, done.stdout[-4000:]
        return done.stdout

    def told(self, *words: str) -> dict:
        """The json object that a program prints."""
        return json.loads(next(line for line in self.run(*words).splitlines() if line.startswith("{")))

    def publish(self, folder: Path, name: str, *more: str, code: int = 0) -> str:
        return self.run(ROOT / "recipes/publish.py", "--model", folder, "--hub_model_id", name, *more, code=code)


@pytest.fixture(scope="session")
def hub(tiny_model):
    hub = LoopbackHub()
    hub.put(tiny_model, BASE)
    yield hub
    hub.close()


@pytest.fixture(autouse=True)
def healthy(hub):
    hub.heal()


@pytest.fixture
def machine(hub, tmp_path_factory) -> Callable[..., Machine]:
    def make(mode: str = "xet", token: str | None = "hf_writer", **more: str) -> Machine:
        return Machine(hub, tmp_path_factory.mktemp("home"), mode, token, more)

    return make


STRANGER = """
import json, sys
import numpy as np, torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline
names, adapter, outputs, texts = json.loads(sys.argv[1])
each = {}
for name in names:
    found = {}
    with torch.no_grad():
        if adapter:
            from peft import AutoPeftModelForSequenceClassification
            model = AutoPeftModelForSequenceClassification.from_pretrained(name, num_labels=outputs).eval()
            tokenizer = AutoTokenizer.from_pretrained(name)
            found["peft"] = [model(**tokenizer(t, return_tensors="pt")).logits[0].tolist() for t in texts]
        else:
            model = AutoModelForSequenceClassification.from_pretrained(name).eval()
            tokenizer = AutoTokenizer.from_pretrained(name)
            found["auto"] = [model(**tokenizer(t, return_tensors="pt")).logits[0].tolist() for t in texts]
            found["pipeline"] = [[r["score"]] for r in pipeline("text-classification", name, function_to_apply="none")(texts)]
    each[name] = found
print(json.dumps(each))
"""


@pytest.mark.parametrize(
    "mode, kind",
    [("xet", []), ("lfs", ["--use_peft"]), ("xet", ["--use_peft", "--merge_adapter", "false"]),
     ("lfs", ["--prompt_ids", "phones", "--hybrid", "false", "--input_template", "{text}", "--hub_strategy", "every_save"])],
    ids=["whole, xet", "merged, lfs", "adapter alone, xet", "one prompt, lfs"],
)  # fmt: skip
def test_a_stranger_gets_the_predictions_of_the_one_who_trained(mode, kind, hub, machine, sample, tmp_path):
    name, out, teacher = f"teacher/{'-'.join(re.findall('[a-z]+', ' '.join([mode, *kind])))}", tmp_path / "run", machine(mode)
    printed = teacher.run(
        "-m", "accelerate.commands.launch", ROOT / "recipes/essay_scoring.py", "--model_name_or_path", BASE, "--output_dir", out,
        "--num_train_epochs", "2", "--gaming_essays", "0", "--disable_tqdm", "true", "--push_to_hub", "--hub_model_id", name,
        "--verify_push", *kind,
    )  # fmt: skip
    assert "published:" in printed and "verified:" in printed
    pushed = hub.repository(name).files()[1]
    assert {"README.md", "edu_recipes.json", "hybrid.json", "hybrid.safetensors", "tokenizer.json"} <= set(pushed)
    assert not [p for p in pushed if p.endswith((".bin", ".pkl", ".pt", ".csv", ".yaml")) or "checkpoint" in p]
    adapter = "--merge_adapter" in kind
    assert ("adapter_model.safetensors" in pushed) is adapter and ("model.safetensors" in pushed) is not adapter
    assert ("training" in hub.repository(name).branches) is ("every_save" in kind)

    # a stranger with an empty cache and no token: plain transformers, peft, and predict.py by name
    stranger = machine(mode, token=None)
    texts = [t[:200] for t in sample.splits["test"]["text"][:4]]
    shutil.copytree(out, stranger.home / "local")
    found, here = stranger.told("-c", STRANGER, json.dumps([[name, "local"], adapter, 1, texts])).values()
    assert here.keys() == found.keys() and all(np.allclose(here[k], found[k], atol=1e-5) for k in here)
    assert np.std(list(found.values())[0]) > 1e-3
    if "phones" in kind:
        assert np.allclose(found["pipeline"], load(out).predict(texts, rounded=False), atol=1e-3), "calibration is in the head"

    (stranger.home / "new.jsonl").write_text("".join(json.dumps({"text": t, "prompt_id": "phones"}) + "\n" for t in texts))
    for model, file in ((name, "hub.csv"), ("local", "local.csv")):
        stranger.run(ROOT / "recipes/predict.py", "--model", model, "--input_file", "new.jsonl", "--prompt_column", "prompt_id",
                     "--output_file", file)  # fmt: skip
    assert (stranger.home / "hub.csv").read_text() == (stranger.home / "local.csv").read_text()


def test_an_advisor_of_two_models_is_published_whole(hub, machine, finished_path):
    printed = machine().publish(finished_path, "teacher/paths", "--verify_push")
    pushed = set(hub.repository("teacher/paths").files()[1])
    assert "verified:" in printed and {"model.safetensors", "prerequisite_model/model.safetensors"} <= pushed
    assert not [p for p in pushed if p.endswith((".csv", ".yaml", ".bin"))]
    stranger = machine(token=None)
    shutil.copytree(finished_path, stranger.home / "local")
    (stranger.home / "new.csv").write_text("learner,concepts,correct\nann,ratio,1\nann,decimals,0\nbob,whole numbers,0\n")
    (stranger.home / "pairs.csv").write_text("before,after\nratio,proportion\nproportion,ratio\n")
    for file, *words in (("new.csv", "--goal", "proportion"), ("pairs.csv",)):
        for model, out in (("teacher/paths", "hub.csv"), ("local", "local.csv")):
            words_of = ["--model", model, "--input_file", file, "--output_file", out, *words]
            stranger.run(ROOT / "recipes/predict.py", *words_of)
        assert (stranger.home / "hub.csv").read_text() == (stranger.home / "local.csv").read_text()


@pytest.mark.parametrize(
    "mode, kind", [("xet", []), ("lfs", ["--use_peft", "--merge_adapter", "false"])], ids=["whole", "adapter alone"]
)
def test_a_stranger_gets_the_answers_of_the_one_who_trained(mode, kind, hub, machine, tmp_path):
    name, out, teacher = f"teacher/reader-{mode}", tmp_path / "run", machine(mode)
    printed = teacher.run(
        ROOT / "recipes/question_answering.py", "--model_name_or_path", BASE, "--output_dir", out, "--num_train_epochs", "1",
        "--max_length", "256", "--disable_tqdm", "true", "--push_to_hub", "--hub_model_id", name, "--verify_push", *kind,
    )  # fmt: skip
    assert "published:" in printed and "verified:" in printed
    pushed = hub.repository(name).files()[1]
    assert ("adapter_model.safetensors" in pushed) is bool(kind) and "figures/risk_coverage.png" in pushed
    assert not [p for p in pushed if p.endswith((".bin", ".pkl", ".pt", ".csv", ".yaml")) or "checkpoint" in p]

    stranger = machine(mode, token=None)
    shutil.copytree(out, stranger.home / "local")
    text = "The ferry leaves at seven. It does not run on Sundays."
    (stranger.home / "new.csv").write_text(f"context,question\n{text},When does the ferry leave?\n{text * 40},When not?\n")
    for model, file in ((name, "hub.csv"), ("local", "local.csv")):
        stranger.run(ROOT / "recipes/predict.py", "--model", model, "--input_file", "new.csv", "--output_file", file)
    assert (stranger.home / "hub.csv").read_text() == (stranger.home / "local.csv").read_text()
    assert len((stranger.home / "hub.csv").read_text().splitlines()) == 3
    card = pushed["README.md"].content.decode()
    snippet = re.search(r"```python\n(.*?)```", card, re.S).group(1)
    assert not card_errors(card) and f'load("{name}")' in snippet
    stranger.run("-c", snippet)


def test_the_card_is_valid_and_its_snippet_runs_by_name(hub, machine, finished_run):
    machine().publish(finished_run, "teacher/card")
    card = hub.repository("teacher/card").files()[1]["README.md"].content.decode()
    header = yaml.safe_load(card.split("---")[1])
    assert not card_errors(card) and header["model-index"][0]["results"][0]["metrics"]
    assert {"quadratic_weighted_kappa", "root_mean_squared_error"} <= {
        m["type"] for r in header["model-index"][0]["results"] for m in r["metrics"]
    }
    snippet = re.search(r"```python\n(.*?)```", card, re.S).group(1)
    assert 'load("teacher/card")' in snippet
    assert "(1, 1)" in machine(token=None).run("-c", snippet + "\nprint(scores.shape)")


RECOMMENDERS = {
    "finished_recommender": ({"modules.json", "1_Pooling/config.json", "tokenizer.json"}, "text\nfractions\n"),
    "finished_histories": ({"openings.json", "sequential_recommender.py"}, "learner,resource_id,time\nann,R001,1\nann,R009,2\n"),
}


@pytest.mark.parametrize("kind", RECOMMENDERS)
def test_a_recommender_is_published_without_its_catalogue_and_recommends_as_here(kind, hub, machine, predict, request, tmp_path):
    folder, (files, asked) = request.getfixturevalue(kind), RECOMMENDERS[kind]
    name = f"teacher/{kind.replace('_', '-')}"
    assert "verified:" in machine().publish(folder, name, "--verify_push")
    pushed = set(hub.repository(name).files()[1])
    assert {"model.safetensors", "edu_recipes.json", "README.md", *files} <= pushed
    assert not [f for f in pushed if "catalogue" in f or f.endswith((".csv", ".jsonl", ".yaml", ".bin"))]

    stranger = machine(token=None)
    catalogue = [json.loads(line) for line in (folder / "catalogue.jsonl").open()][:30]
    with (stranger.home / "library.csv").open("w", newline="") as file:
        rows = csv.DictWriter(file, ["resource_id", "title", "text", "licence", "level", "language"], extrasaction="ignore")
        rows.writeheader()
        rows.writerows(catalogue)
    words = ["--input_file", "asked.csv", "--resources_file", "library.csv", "--resource_column", "resource_id"]
    (stranger.home / "asked.csv").write_text(asked)
    stranger.run(ROOT / "recipes/predict.py", "--model", name, *words, "--output_file", "hub.csv")
    here = [str(stranger.home / w) if w.endswith(".csv") else w for w in words]
    predict.main(["--model", str(folder), *here, "--output_file", str(tmp_path / "local.csv")])
    lists = [list(csv.DictReader(path.open())) for path in (stranger.home / "hub.csv", tmp_path / "local.csv")]
    assert len(lists[0]) == 10 and [r["resource_id"] for r in lists[0]] == [r["resource_id"] for r in lists[1]]


def test_a_tutor_is_published_and_replies_to_a_stranger_as_here(hub, machine, finished_tutor):
    assert "verified:" in machine("lfs").publish(finished_tutor, "teacher/tutor", "--verify_push")
    pushed = hub.repository("teacher/tutor").files()[1]
    assert "model.safetensors" in pushed and not [p for p in pushed if p.endswith((".csv", ".yaml", ".bin"))]


def test_a_private_model_is_verified_with_the_token_and_hidden_from_others(hub, machine, finished_run):
    printed = machine().publish(finished_run, "teacher/private", "--hub_private_repo", "true", "--verify_push")
    assert "verified:" in printed and hub.repository("teacher/private").private
    other = machine(token=None)
    (other.home / "new.jsonl").write_text('{"text": "an essay", "prompt_id": "phones"}\n')
    words = ["--model", "teacher/private", "--input_file", "new.jsonl", "--prompt_column", "prompt_id"]
    assert "Traceback" not in other.run(ROOT / "recipes/predict.py", *words, code=2)


def test_verification_fails_where_the_published_model_predicts_otherwise(hub, machine, finished_run):
    """The twin: a file that is not what was sent."""
    hybrid = json.loads((finished_run / "hybrid.json").read_text())
    hub.changed["hybrid.json"] = json.dumps(hybrid | {"fused": not hybrid["fused"]}).encode()
    printed = machine().publish(finished_run, "teacher/tampered", "--verify_push", code=2)
    assert "predicts otherwise" in printed and "Traceback" not in printed


# ---- a bad network --------------------------------------------------------------------------------------------------

FAULTS = [
    # what happens, in which mode, what the user sees; a rerun must complete each
    ("GET|POST", r"/api/", 401, "xet", "the Hub does not know the token (401)"),
    ("POST", r"/api/repos/create", 403, "xet", "the token may not write there (403)"),
    ("POST", r"/preupload/", 503, "xet", "the Hub has a problem of its own (503)"),
    ("POST", r"/preupload/", "cut", "lfs", "not published"),
    ("POST", r"/info/lfs/objects/batch", 500, "lfs", "the Hub has a problem of its own (500)"),
    ("PUT", r"/lfs/", 500, "lfs", "the Hub has a problem of its own (500)"),
    ("PUT", r"/lfs/", "cut", "lfs", "not published"),
    ("GET", r"xet-write-token", 403, "xet", "not published"),
    ("POST", r"/v1/xorbs", 500, "xet", "not published"),
    ("POST", r"/v1/shards", "cut", "xet", "not published"),
    ("POST", r"/commit/", 500, "xet", "the Hub has a problem of its own (500)"),
    ("POST", r"/commit/", 412, "lfs", "somebody else has just changed"),
    ("POST", r"/commit/", "cut", "lfs", "not published"),
]


@pytest.mark.parametrize("method, path, kind, mode, message", FAULTS, ids=[f"{f[1]} {f[2]} {f[3]}" for f in FAULTS])
def test_a_push_that_fails_leaves_the_model_on_disk_and_a_rerun_completes_it(
    method, path, kind, mode, message, hub, machine, finished_run, tmp_path
):
    name, folder = f"teacher/fault-{FAULTS.index((method, path, kind, mode, message))}", tmp_path / "scorer"
    shutil.copytree(finished_run, folder)
    weights = folder / "model.safetensors"  # other bytes than any before, or the Hub would have them already
    save_file(load_file(weights), weights, metadata={"format": "pt", "fault": name})
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    hub.fail(method, path, kind)
    printed = machine(mode).publish(folder, name, code=2)
    (error,) = [line for line in printed.splitlines() if line.startswith("error:")]
    assert message in error and "127.0.0.1" not in error and "Traceback" not in printed
    assert error.endswith(f"python recipes/publish.py --model {folder} --hub_model_id {name}")
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before
    repo = hub.repositories.get(("models", name))
    assert repo is None or len(repo.commits) == 1, "nothing of it is on the branch"
    hub.heal()
    machine(mode).publish(folder, name)
    assert len(hub.repository(name).commits) == 2 and "model.safetensors" in hub.repository(name).files()[1]


def test_what_was_uploaded_before_the_failure_is_not_sent_again(hub, machine, finished_run):
    hub.fail("POST", "/commit/", 500, times=1)
    machine("lfs").publish(finished_run, "teacher/again", code=2)
    sent = len(hub.requests)
    machine("lfs").publish(finished_run, "teacher/again")
    assert not [r for r in hub.requests[sent:] if r.method == "PUT"]


def test_a_hub_that_fails_for_a_moment_and_a_slow_one_are_waited_for(hub, machine, finished_run):
    hub.fail("POST", "/preupload/", 503, times=2)
    hub.fail("PUT", "/lfs/", "slow", times=2, seconds=2)
    machine("lfs").publish(finished_run, "teacher/patient")
    assert "model.safetensors" in hub.repository("teacher/patient").files()[1]


@pytest.mark.parametrize("token, message", [("hf_wrong", "not know the token (401)"), ("hf_reader", "not write there (403)")])
def test_training_does_not_die_of_a_refused_token(token, message, hub, machine, tmp_path, tiny_model):
    """It is told before training, training is finished and saved, and the end says what to do."""
    printed = machine(token=token).run(
        ROOT / "recipes/essay_scoring.py", "--model_name_or_path", tiny_model, "--output_dir", tmp_path / "run", "--push_to_hub",
        "--num_train_epochs", "1", "--gaming_essays", "0", "--hub_model_id", "teacher/refused", "--disable_tqdm", "true", code=2,
    )  # fmt: skip
    assert printed.count(message) == 2 and printed.index(message) < printed.index("mean QWK")
    assert (tmp_path / "run/model.safetensors").is_file() and (tmp_path / "run/README.md").is_file()
    hub.heal()
    machine().publish(tmp_path / "run", "teacher/refused")


def test_a_failed_push_in_the_background_is_told_and_training_goes_on(hub, machine, tmp_path):
    hub.fail("POST", "/commit/training", 403)
    printed = machine().run(
        ROOT / "recipes/essay_scoring.py", "--model_name_or_path", BASE, "--output_dir", tmp_path / "run", "--push_to_hub",
        "--num_train_epochs", "2", "--gaming_essays", "0", "--hub_model_id", "teacher/background", "--hub_strategy", "every_save",
        "--disable_tqdm", "true",
    )  # fmt: skip
    assert "a checkpoint was not published: the token may not write there (403)" in printed and "published:" in printed
    assert list(hub.repository("teacher/background").branches) == ["main", "training"]


# ---- what must not be published -------------------------------------------------------------------------------------


def test_nothing_of_the_training_data_is_pushed_logged_or_carded(hub, machine, tmp_path, sample):
    text, essay, learner, secret, group = CANARIES
    rows = [(f"{essay}-{i}", f"{learner}-{i}", r["prompt_id"], f"{text} {r['text']}", r["scores"][0], group)
            for i, r in enumerate(sample.splits["train"])]  # fmt: skip
    with (tmp_path / "essays.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("id", "pupil", "task", "text", "score", "class"), *rows])
    seen = len(hub.requests)
    printed = machine(SECRET_OF_THIS_MACHINE=secret, WANDB_API_KEY=secret).run(
        ROOT / "recipes/essay_scoring.py", "--train_file", tmp_path / "essays.csv", "--id_column", "id", "--learner_column",
        "pupil", "--prompt_column", "task", "--model_name_or_path", BASE, "--output_dir", tmp_path / "run", "--push_to_hub",
        "--hub_model_id", "teacher/canary", "--hub_strategy", "every_save", "--num_train_epochs", "2", "--verify_push",
        "--split_by", "id", "--hub_token", "hf_writer", "--disable_tqdm", "true",
    )  # fmt: skip
    pushed = hub.everything_pushed()
    card = (tmp_path / "run/README.md").read_text()
    for canary in (*CANARIES, str(tmp_path), "hf_writer"):
        assert canary.encode() not in pushed, canary
        assert canary not in card
        if canary != str(tmp_path):
            assert canary not in printed
    assert len(hub.requests) > seen
    assert text in (tmp_path / "essays.csv").read_text()  # the canary was there to be found


# ---- code and data from the Hub -------------------------------------------------------------------------------------


def test_code_from_the_hub_runs_only_when_it_is_trusted(hub, machine, finished_run, tmp_path):
    shutil.copytree(finished_run, tmp_path / "scorer")
    config = json.loads((tmp_path / "scorer/config.json").read_text())
    config |= {"model_type": "strange", "auto_map": {"AutoConfig": "code.C", "AutoModelForSequenceClassification": "code.M"}}
    (tmp_path / "scorer/config.json").write_text(json.dumps(config))
    (tmp_path / "scorer/code.py").write_text("raise SystemExit('foreign code ran')\n")
    hub.put(tmp_path / "scorer", "teacher/foreign-code")
    stranger = machine(token=None)
    (stranger.home / "new.jsonl").write_text('{"text": "an essay", "prompt_id": "phones"}\n')
    words = [ROOT / "recipes/predict.py", "--model", "teacher/foreign-code", "--input_file", "new.jsonl", "--prompt_column",
             "prompt_id"]  # fmt: skip
    assert "foreign code ran" not in stranger.run(*words, code=2)
    assert "foreign code ran" in stranger.run(*words, "--trust_remote_code", code=1)


PUSH_DATA = """
from edu_datasets import load_essays
load_essays("sample_school").push_to_hub("teacher/essays")
"""
TELL_DATA = """
import json
from datasets import load_dataset
splits = load_dataset("teacher/essays")
print(json.dumps({s: [d.column_names, sorted(d["essay_id"]), sorted(set(d["learner_id"]))] for s, d in splits.items()}))
"""


@pytest.mark.parametrize("mode", MODES)
def test_a_prepared_data_set_is_pushed_and_trained_on_by_name(mode, hub, machine, tmp_path, sample):
    machine(mode).run("-c", PUSH_DATA)
    printed = machine(mode, token=None).run(
        ROOT / "recipes/essay_scoring.py", "--dataset_name", "teacher/essays", "--prompt_column", "prompt_id",
        "--id_column", "essay_id", "--learner_column", "learner_id", "--model_name_or_path", BASE,
        "--output_dir", tmp_path / "run", "--num_train_epochs", "1", "--gaming_essays", "0", "--disable_tqdm", "true",
    )  # fmt: skip
    assert "mean QWK" in printed
    rows = json.loads((tmp_path / "run/metrics.json").read_text())["protocol"]["rows"]
    assert rows["train"] == len(sample.splits["train"]) and rows["test"] == len(sample.splits["test"])
    assert "teacher/essays" in (tmp_path / "run/README.md").read_text()

    found = machine(mode, token=None).told("-c", TELL_DATA)
    for split, (names, essays, learners) in found.items():
        assert len(set(essays)) == len(sample.splits[split]) and {"score", "rater1_score", "grade"} <= set(names)
        for ids, column in ((essays, "essay_id"), (learners, "learner_id")):
            assert not set(ids) & set(sample.splits[split][column]), "numbers, not their ids"
        assert len(learners) == len(set(sample.splits[split]["learner_id"]))

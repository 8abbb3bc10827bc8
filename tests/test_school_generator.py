"""The sample school is the same everywhere, its learners learn and forget, and its true mastery shows in their answers."""

import subprocess
import sys
import time
from collections import Counter, defaultdict

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_predict

from edu_datasets.essays import SAMPLE_SCHOOL
from edu_datasets.files import read_table
from edu_datasets.school_generator import (
    CONCEPTS,
    PREREQUISITES,
    TERM_DAYS,
    school_answers,
    school_learners,
    school_questions,
    school_records,
    true_mastery,
)

DAY = 86_400


@pytest.fixture(scope="module")
def answers():
    return school_answers()


@pytest.fixture(scope="module")
def learners():
    return school_learners()


def by_learner(answers):
    found = defaultdict(list)
    for answer in answers:
        found[answer["learner"]].append(answer)
    return found


# ---- the school -------------------------------------------------------------------------------------------------------


def test_the_first_learners_are_those_who_wrote_the_essays(learners):
    table = read_table(SAMPLE_SCHOOL / "learners.csv")
    wrote = [dict(zip(table.columns, row, strict=True)) for row in zip(*table.columns.values(), strict=True)]
    assert learners[:48] == wrote
    assert [row["learner_id"] for row in learners] == [f"L{i:03}" for i in range(1, 401)]
    assert {row["grade"] for row in learners} == {"7", "8", "9", "10"}


def test_prerequisites_stand_before_what_needs_them():
    place = {concept: i for i, concept in enumerate(CONCEPTS)}
    assert len(place) == len(CONCEPTS) == 24 and len(set(PREREQUISITES)) == len(PREREQUISITES)
    assert all(place[before] < place[after] for before, after in PREREQUISITES)  # so that there is no circle
    assert {after for _, after in PREREQUISITES} == set(CONCEPTS[1:])  # all but the first need something


def test_each_concept_has_questions_and_some_need_its_prerequisite_too():
    questions = school_questions()
    assert len({q["question"] for q in questions}) == len(questions) >= 120
    alone = Counter(q["concepts"][0] for q in questions if len(q["concepts"]) == 1)
    assert alone == dict.fromkeys(CONCEPTS, 5)
    assert all(q["concepts"][::-1] in PREREQUISITES for q in questions if len(q["concepts"]) == 2)


def test_answers_are_whole_and_in_order(answers, learners):
    concepts = {q["question"]: q["concepts"] for q in school_questions()}
    assert all(a["concepts"] == concepts[a["question"]] and a["correct"] in (0, 1) for a in answers)
    found = by_learner(answers)
    assert list(found) == [row["learner_id"] for row in learners] and len(answers) > 20_000
    for rows in found.values():
        times = [a["time"] for a in rows]
        assert times == sorted(times) and 0 < times[0] and times[-1] < TERM_DAYS * DAY


def test_the_school_is_the_same_in_another_process(answers):
    code = (
        "from edu_datasets.school_generator import *; import hashlib;"
        "print(hashlib.sha256(repr((school_answers(), school_records(), true_mastery('L007'))).encode()).hexdigest())"
    )
    runs = {subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout for _ in range(2)}
    assert len(runs) == 1 and len(runs.pop()) > 60
    answers[0]["correct"] = 7  # who changes a row changes her own copy
    assert school_answers()[0]["correct"] in (0, 1)
    answers[0]["correct"] = school_answers()[0]["correct"]


def test_the_school_takes_two_seconds_at_most():
    from edu_datasets import school_generator

    school_generator._simulate.cache_clear()
    start = time.process_time()
    school_answers(), school_records()
    assert time.process_time() - start < 2


# ---- learning and forgetting --------------------------------------------------------------------------------------------


def rate_by(answers, key) -> dict:
    """The share of right answers for each value of key(earlier answers on the concept, days since the last of them)."""
    found = defaultdict(list)
    for rows in by_learner(answers).values():
        before: dict[str, list[float]] = defaultdict(list)
        for answer in rows:
            if len(answer["concepts"]) == 1:
                times = before[answer["concepts"][0]]
                found[key(len(times), (answer["time"] - times[-1]) / DAY if times else None)].append(answer["correct"])
            for concept in answer["concepts"]:
                before[concept].append(answer["time"])
    return {value: np.mean(correct) for value, correct in found.items() if len(correct) > 300}


def test_practice_raises_the_rate(answers):
    rates = rate_by(answers, lambda earlier, days: min(earlier, 8) // 2)
    assert rates[4] - rates[0] > 0.15 and rates[0] < rates[1] < rates[2] < rates[4]


def test_time_without_practice_lowers_the_rate(answers):
    rates = rate_by(answers, lambda earlier, days: (earlier in (2, 3, 4, 5), days is not None and (days < 2, days > 14)))
    assert rates[True, (True, False)] - rates[True, (False, True)] > 0.04


def test_mastery_rises_with_an_answer_and_falls_behind_the_last(answers):
    for learner, rows in list(by_learner(answers).items())[:20]:
        at = rows[0]["time"] / DAY
        before, after = true_mastery(learner, at - 0.001), true_mastery(learner, at + 0.00001)
        assert all((after[c] > before[c]) == (c in rows[0]["concepts"]) for c in CONCEPTS)
        end = rows[-1]["time"] / DAY
        now, later = true_mastery(learner, end + 0.001), true_mastery(learner, end + 30)
        practised = {c for a in rows for c in a["concepts"]}
        assert all(later[c] < now[c] if c in practised else later[c] == now[c] for c in CONCEPTS)


def test_a_concept_is_learnt_faster_where_its_prerequisites_are_mastered():
    from edu_datasets.school_generator import _before, _simulate

    school, before = _simulate(), _before()
    ready, gain = [], []
    for step in range(20):
        gained = school.learnt[step + 1] - school.learnt[step]
        mastered = (school.known + school.learnt[step]) @ before.T / np.maximum(before.sum(1), 1)
        for i in range(len(school.learners)):
            named = school.questions[school.asked[step, i]]["concepts"]
            c = CONCEPTS.index(named[0])
            if len(named) == 1 and before[c].any() and school.learnt[step, i, c] < 0.1:
                ready.append(mastered[i, c])
                gain.append(gained[i, c])
    ready, gain = np.array(ready), np.array(gain)
    assert len(gain) > 500 and gain[ready > 1].mean() > 1.3 * gain[ready < -1].mean()


def test_true_mastery_shows_in_the_answers_that_follow(answers):
    day = 60
    found = by_learner(answers)
    mastery = {learner: true_mastery(learner, day) for learner in found}
    later = [
        (mastery[learner][a["concepts"][0]], a["correct"])
        for learner, rows in found.items()
        for a in rows
        if a["time"] > day * DAY and len(a["concepts"]) == 1
    ]
    expected, correct = np.array(later).T
    assert len(later) > 3000 and roc_auc_score(correct, expected) > 0.7


def test_an_answer_is_right_as_often_as_true_mastery_says(answers):
    plain = [a for a in answers if len(a["concepts"]) == 1][::7]
    expected = np.array([true_mastery(a["learner"], (a["time"] - 1) / DAY)[a["concepts"][0]] for a in plain])
    correct = np.array([a["correct"] for a in plain])
    for low, high in ((0.1, 0.4), (0.4, 0.6), (0.6, 0.8), (0.8, 1.0)):
        inside = (expected >= low) & (expected < high)
        assert inside.sum() > 300 and correct[inside].mean() == pytest.approx(expected[inside].mean(), abs=0.06)


# ---- records ------------------------------------------------------------------------------------------------------------


def test_records_are_counted_from_the_answers_before_the_day(answers):
    found = by_learner(answers)
    for row in school_records(28)[:50]:
        before = [a["correct"] for a in found[row["learner_id"]] if a["time"] < 28 * DAY]
        assert row["answers"] == len(before) and row["quiz_mean"] == pytest.approx(np.mean(before), abs=0.001)


def test_a_later_day_knows_more_and_the_outcome_stays():
    early, late = school_records(14), school_records(70)
    assert all(a["answers"] <= b["answers"] for a, b in zip(early, late, strict=True))
    assert [a["final_grade"] for a in early] == [b["final_grade"] for b in late]
    assert all((row["final_grade"] >= 50) == (row["outcome"] == "passed") for row in late)


def test_the_outcome_can_be_predicted_but_not_perfectly():
    records = school_records()
    names = ("previous_grade", "days_registered_late", "attendance", "homework_share", "quiz_mean", "answers")
    x = np.array([[row[n] for n in names] for row in records], float)
    x = np.where(np.isnan(x), np.nanmean(x, axis=0), x)
    y = np.array([row["outcome"] == "failed" for row in records])
    assert 0.15 < y.mean() < 0.35
    model = LogisticRegression(max_iter=1000)
    risk = cross_val_predict(model, (x - x.mean(0)) / x.std(0), y, cv=10, method="predict_proba")[:, 1]
    assert 0.75 < roc_auc_score(y, risk) < 0.87


def test_quizzes_tell_less_of_language_learners_than_they_know(learners, answers):
    """The known bias that a look at groups can find: worded questions cost them points, the final grade does not."""
    worded = {q["question"]: q["worded"] for q in school_questions()}
    language = {row["learner_id"]: row["language_learner"] == "yes" for row in learners}
    rate = {
        key: np.mean([a["correct"] for a in answers if (language[a["learner"]], worded[a["question"]]) == key])
        for key in ((True, True), (True, False), (False, True), (False, False))
    }
    assert (rate[False, True] - rate[False, False]) - (rate[True, True] - rate[True, False]) > 0.05

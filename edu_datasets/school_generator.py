"""The sample school's mathematics: answers and records of 400 fictional learners, computed and not stored.

Whatever is random is drawn once, from one seed: the same school everywhere. Learner i has an ability a_i ~ N(0, 1) and a
diligence b_i ~ N(0, 1), correlated by 0.4. With s(x) = 1 / (1 + exp(-x)):

    mastery        m_ic(t) = k_ic + l_ic(t)
    known before   k_ic = 0.9 a_i + 0.35 (grade_i - 8.5) - 0.2 (depth_c - 3) + N(0, 0.5)
    learning       after each answer on concept c:  l_ic += 0.5 (0.2 + 0.8 r_ic) max(0, 1 - l_ic / 3)
                   r_ic: the mean of s(m_ip) over the prerequisites p of c, 1 where c has none
    forgetting     between answers:  l_ic(t + d) = l_ic(t) exp(-d / 25), d in days
    an answer      P(correct) = 0.12 + 0.85 s(1.3 (min of m_ic(t) over the question's concepts - difficulty_q - reading_iq))
                   reading_iq: 0.5 where a language learner meets a worded question, else 0
    final grade    58 + 6.5 z_i + 2.5 b_i + N(0, 9), rounded, within 0 to 100; from 50 on the learner has passed
                   z_i: the mean mastery at the end over the concepts that the grade was taught, standardised
    last year's    60 + 6 a_i + 3 b_i + N(0, 9), likewise; unknown of 8 in 100, who are new
    a week         lessons attended ~ Binomial(5, s(2 + 0.8 b_i)), homework handed in ~ Binomial(3, s(0.8 + b_i))
    registration   max(0, N(-6 - 3 b_i, 6)) days late

Depth is the number of edges on the longest way to a concept. A term has 12 weeks; a learner practises on up to three days of
a week, more often with more diligence, five answers a time: two in three on the concepts of the week, the others on earlier
ones. The final grade knows nothing of reading, but quiz results do: a model of them is harder on language learners than it
should be, so that a look at groups has something to find.
"""

from __future__ import annotations

import csv
import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np

SEED = 2024
N_LEARNERS = 400
WEEKS, TERM_DAYS = 12, 84
SESSIONS_A_WEEK, ANSWERS_A_SESSION = 3, 5
LESSONS_A_WEEK, HOMEWORK_A_WEEK = 5, 3
TAUGHT = 14  # concepts that a grade is taught in a term
DAY = 86_400.0
GAIN, MOST_LEARNT, FORGETTING_DAYS = 0.5, 3.0, 25.0
GUESS, RANGE, SLOPE, READING = 0.12, 0.85, 1.3, 0.5
PASS_GRADE = 50

CONCEPTS = (
    "whole numbers", "order of operations", "negative numbers", "equivalent fractions", "decimals", "adding fractions",
    "angles", "multiplying fractions", "ratio", "percentages", "area", "coordinates", "algebraic expressions", "powers",
    "proportion", "linear equations", "expanding brackets", "roots", "linear functions", "inequalities", "factorising",
    "Pythagoras' theorem", "simultaneous equations", "quadratic equations",
)  # fmt: skip
"""The concepts in the order in which they are taught: none stands before a prerequisite."""

PREREQUISITES = (
    ("whole numbers", "order of operations"), ("whole numbers", "negative numbers"),
    ("whole numbers", "equivalent fractions"), ("whole numbers", "decimals"),
    ("equivalent fractions", "adding fractions"), ("whole numbers", "angles"),
    ("equivalent fractions", "multiplying fractions"), ("equivalent fractions", "ratio"),
    ("decimals", "percentages"), ("multiplying fractions", "percentages"), ("decimals", "area"),
    ("negative numbers", "coordinates"), ("order of operations", "algebraic expressions"),
    ("negative numbers", "algebraic expressions"), ("order of operations", "powers"), ("ratio", "proportion"),
    ("percentages", "proportion"), ("algebraic expressions", "linear equations"),
    ("algebraic expressions", "expanding brackets"), ("powers", "roots"), ("coordinates", "linear functions"),
    ("linear equations", "linear functions"), ("proportion", "linear functions"), ("linear equations", "inequalities"),
    ("expanding brackets", "factorising"), ("powers", "factorising"), ("area", "Pythagoras' theorem"),
    ("roots", "Pythagoras' theorem"), ("angles", "Pythagoras' theorem"), ("linear functions", "simultaneous equations"),
    ("factorising", "quadratic equations"), ("roots", "quadratic equations"), ("linear equations", "quadratic equations"),
)  # fmt: skip
"""(before, after): the concept `after` is learnt faster by who has mastered `before`."""


def school_learners() -> list[dict]:
    """The learners; the first 48 are those of sample_school/learners.csv.

    A row: {"learner_id": "L001", "grade": "7", "language_learner": "yes"}
    """
    return [dict(row) for row in _simulate().learners]


def school_questions() -> list[dict]:
    """The questions: five for each concept, and 24 that need a prerequisite too.

    A row: {"question": "Q121", "concepts": ("order of operations", "whole numbers"), "difficulty": 0.31, "worded": True}
    """
    return [dict(row) for row in _simulate().questions]


def school_answers() -> list[dict]:
    """The answers of one term, learner by learner, oldest first; `time` in seconds since the term began.

    A row: {"learner": "L001", "time": 29712.0, "question": "Q003", "concepts": ("whole numbers",), "correct": 1}
    """
    school = _simulate()
    return [
        {
            "learner": learner["learner_id"], "time": float(round(school.days[step, i] * DAY)),
            "question": question["question"], "concepts": question["concepts"], "correct": int(school.correct[step, i]),
        }
        for i, learner in enumerate(school.learners)
        for step in range(school.answered[i])
        for question in [school.questions[school.asked[step, i]]]
    ]  # fmt: skip


def true_mastery(learner: str, day: float = TERM_DAYS) -> dict[str, float]:
    """The probability that a learner answers a plain question of average difficulty on each concept.

    Args:
        learner: 'L001' to 'L400'.
        day: Days since the term began; answers up to then count, and what was learnt is forgotten from the last on.

    Returns:
        Concept -> probability.
    """
    school = _simulate()
    i = [row["learner_id"] for row in school.learners].index(learner)
    return dict(zip(CONCEPTS, _probability(school.mastery(day)[i]).tolist(), strict=True))


def school_records(day: float = 42) -> list[dict]:
    """What the school knows of each learner at the start of day `day`, and what became of her or him.

    A row: {"learner_id": "L001", "grade": "7", "language_learner": "yes", "support": "reading", "previous_grade": 61.0,
    "days_registered_late": 0, "attendance": 0.93, "homework_share": 0.83, "answers": 45, "quiz_mean": 0.58,
    "quiz_mean_14_days": 0.55, "days_since_last_answer": 1.4, "outcome": "passed", "final_grade": 57.0}

    Shares and means are nan where there is nothing yet to take them of; `previous_grade` is nan for newcomers.
    """
    school = _simulate()
    weeks = int(np.clip(day // 7, 0, WEEKS))
    rows = []
    for i, learner in enumerate(school.learners):
        days = school.days[: school.answered[i], i]
        correct = school.correct[: school.answered[i], i]
        before, recent = days < day, (days < day) & (days >= day - 14)
        rows.append(
            {
                **learner, "support": school.support[i], "previous_grade": float(school.previous_grade[i]),
                "days_registered_late": int(school.days_late[i]),
                "attendance": _share(school.lessons[i, :weeks], LESSONS_A_WEEK),
                "homework_share": _share(school.homework[i, :weeks], HOMEWORK_A_WEEK),
                "answers": int(before.sum()), "quiz_mean": _share(correct[before], 1),
                "quiz_mean_14_days": _share(correct[recent], 1),
                "days_since_last_answer": float(round(day - days[before].max(), 1)) if before.any() else np.nan,
                "outcome": "passed" if school.final_grade[i] >= PASS_GRADE else "failed",
                "final_grade": float(school.final_grade[i]),
            }
        )  # fmt: skip
    return rows


def _share(counts: np.ndarray, most: int) -> float:
    return float(round(counts.mean() / most, 3)) if len(counts) else np.nan


# ---- the simulation -------------------------------------------------------------------------------------------------


@dataclass
class _School:
    """A term. Arrays of steps have a row for each answer, the first to the last, and a column for each learner."""

    learners: list[dict]
    questions: list[dict]
    known: np.ndarray  # (learners, concepts) known before the term
    answered: np.ndarray  # (learners,) number of answers
    days: np.ndarray  # (steps, learners) when
    asked: np.ndarray  # (steps, learners) number of the question
    correct: np.ndarray  # (steps, learners)
    learnt: np.ndarray  # (steps + 1, learners, concepts) right after each answer
    lessons: np.ndarray  # (learners, weeks) attended
    homework: np.ndarray  # (learners, weeks) handed in
    previous_grade: np.ndarray
    days_late: np.ndarray
    support: list[str]
    final_grade: np.ndarray

    def mastery(self, day: float) -> np.ndarray:
        """(learners, concepts) on the scale of the equations, at `day`."""
        columns = np.arange(len(self.learners))
        done = np.minimum((self.days <= day).sum(0), self.answered)
        last = np.where(done > 0, self.days[done - 1, columns], day)
        return self.known + self.learnt[done, columns] * np.exp(-(day - last) / FORGETTING_DAYS)[:, None]


@functools.cache
def _simulate() -> _School:
    """Draw the school and run its term, all learners at once, answer by answer."""
    rng = np.random.default_rng(SEED)
    learners = _learners(rng)
    n = len(learners)
    grade = np.array([int(row["grade"]) for row in learners])
    language = np.array([row["language_learner"] == "yes" for row in learners])
    depth, before = _depths(), _before()
    questions = _questions(rng)
    needs = np.array([[c in q["concepts"] for c in CONCEPTS] for q in questions])
    difficulty = np.array([q["difficulty"] for q in questions])
    worded = np.array([q["worded"] for q in questions])

    ability = rng.normal(size=n)
    diligence = 0.4 * ability + np.sqrt(1 - 0.4**2) * rng.normal(size=n)
    known = 0.9 * ability[:, None] + 0.35 * (grade - 8.5)[:, None] - 0.2 * (depth - 3) + rng.normal(0, 0.5, (n, len(CONCEPTS)))
    answered, days, asked = _timetable(rng, grade, diligence, needs)

    learnt = np.zeros((len(days) + 1, n, len(CONCEPTS)))
    correct = np.zeros(days.shape, dtype=np.int8)
    for step in range(len(days)):
        gap = days[step] - (days[step - 1] if step else days[step])
        now = learnt[step] * np.exp(-gap / FORGETTING_DAYS)[:, None]
        mastery, needed = known + now, needs[asked[step]]
        weakest = np.where(needed, mastery, np.inf).min(1)
        reading = READING * (language & worded[asked[step]])
        correct[step] = rng.random(n) < _probability(weakest - difficulty[asked[step]] - reading)
        ready = np.where(before.any(1), (_logistic(mastery) @ before.T) / np.maximum(before.sum(1), 1), 1.0)
        gain = GAIN * (0.2 + 0.8 * ready) * np.maximum(0, 1 - now / MOST_LEARNT)
        learnt[step + 1] = now + np.where(needed & (step < answered)[:, None], gain, 0)

    taught = np.stack([np.isin(np.arange(len(CONCEPTS)), _taught(g)) for g in grade])
    end = known + learnt[-1] * np.exp(-(TERM_DAYS - days[-1]) / FORGETTING_DAYS)[:, None]
    z = (end * taught).sum(1) / TAUGHT
    z = (z - z.mean()) / z.std()
    return _School(
        learners, questions, known, answered, days, asked, correct, learnt,
        lessons=rng.binomial(LESSONS_A_WEEK, _logistic(2.0 + 0.8 * diligence)[:, None], (n, WEEKS)),
        homework=rng.binomial(HOMEWORK_A_WEEK, _logistic(0.8 + diligence)[:, None], (n, WEEKS)),
        previous_grade=np.where(
            rng.random(n) < 0.08, np.nan, _grades(60 + 6 * ability + 3 * diligence + rng.normal(0, 9, n))
        ),
        days_late=np.round(np.maximum(0, rng.normal(-6 - 3 * diligence, 6))),
        support=[
            "reading" if r and u < 0.5 else "mathematics" if a < -0.5 and u < 0.4 else "none"
            for r, a, u in zip(language, ability, rng.random(n), strict=True)
        ],
        final_grade=_grades(58 + 6.5 * z + 2.5 * diligence + rng.normal(0, 9, n)),
    )  # fmt: skip


def _grades(marks: np.ndarray) -> np.ndarray:
    return np.clip(np.round(marks), 0, 100)


def _logistic(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def _probability(margin: np.ndarray) -> np.ndarray:
    """P(correct) of a mastery that exceeds the difficulty by `margin`."""
    return GUESS + RANGE * _logistic(SLOPE * margin)


def _learners(rng: np.random.Generator) -> list[dict]:
    """Those of learners.csv, then others like them."""
    path = Path(__file__).parent / "sample_school" / "learners.csv"
    with path.open(encoding="utf-8", newline="") as file:
        rows = [dict(row) for row in csv.DictReader(file)]
    return rows + [
        {
            "learner_id": f"L{i:03}", "grade": str(rng.integers(7, 11)),
            "language_learner": "yes" if rng.random() < 0.3 else "no",
        }
        for i in range(len(rows) + 1, N_LEARNERS + 1)
    ]  # fmt: skip


def _before() -> np.ndarray:
    """(concepts, concepts): whether the second is a prerequisite of the first."""
    matrix = np.zeros((len(CONCEPTS), len(CONCEPTS)))
    for before, after in PREREQUISITES:
        matrix[CONCEPTS.index(after), CONCEPTS.index(before)] = 1
    return matrix


def _depths() -> np.ndarray:
    depth: dict[str, int] = {}
    for concept in CONCEPTS:
        depth[concept] = max((depth[before] + 1 for before, after in PREREQUISITES if after == concept), default=0)
    return np.array([depth[c] for c in CONCEPTS])


def _questions(rng: np.random.Generator) -> list[dict]:
    both = [PREREQUISITES[i] for i in np.sort(rng.permutation(len(PREREQUISITES))[:24])]
    concepts = [(c,) for c in CONCEPTS for _ in range(5)] + [(after, before) for before, after in both]
    return [
        {
            "question": f"Q{i:03}", "concepts": named,
            "difficulty": float(round(rng.normal(0, 0.6), 2)), "worded": bool(rng.random() < 0.5),
        }
        for i, named in enumerate(concepts, start=1)
    ]  # fmt: skip


def _taught(grade: int) -> np.ndarray:
    """The numbers of the concepts that a grade is taught: 14 neighbours, later ones in a higher grade."""
    return np.arange(TAUGHT) + round((grade - 7) * (len(CONCEPTS) - TAUGHT) / 3)


def _timetable(
    rng: np.random.Generator, grade: np.ndarray, diligence: np.ndarray, needs: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How many answers, when, and to which question; after a learner's last answer the clock stands still."""
    n, steps = len(grade), WEEKS * SESSIONS_A_WEEK * ANSWERS_A_SESSION
    days, asked, answered = np.zeros((steps, n)), np.zeros((steps, n), dtype=int), np.zeros(n, dtype=int)
    on_concept = [np.flatnonzero(needs[:, c]) for c in range(len(CONCEPTS))]
    sessions = rng.binomial(SESSIONS_A_WEEK, _logistic(0.3 + 0.7 * diligence)[:, None], (n, WEEKS))
    sessions[:, 0] = np.maximum(sessions[:, 0], 1)
    for i in range(n):
        free = np.sort(rng.permuted(np.tile(np.arange(5), (WEEKS, 1)), axis=1)[:, :SESSIONS_A_WEEK], axis=1)
        week, number = np.nonzero(np.arange(SESSIONS_A_WEEK) < sessions[i][:, None])
        starts = 7 * week + free[week, number] + rng.uniform(8, 18, len(week)) / 24
        when = starts[:, None] + np.cumsum(rng.lognormal(3.7, 0.5, (len(week), ANSWERS_A_SESSION)), axis=1) / DAY
        u, v, w = rng.random((3, *when.shape))
        place = np.where(u < 2 / 3, week[:, None] + 3 * v, (week[:, None] + 1) * v).astype(int)
        what = [
            on_concept[c][int(x * len(on_concept[c]))] for c, x in zip(_taught(grade[i])[place.ravel()], w.ravel(), strict=True)
        ]
        answered[i] = when.size
        days[: when.size, i], asked[: when.size, i] = when.ravel(), what
        days[when.size :, i] = when[-1, -1]
    return answered, days, asked

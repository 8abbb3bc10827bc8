"""What the sample school's learners opened in the library of learning resources: computed and not stored.

The resources stand in sample_school/resources.csv; who opened what follows from the answers of `school_generator.py`, drawn once,
from one seed. After each practice session of five answers, learner i opens none, one or two resources, r with a
probability proportional to exp(u_ir):

    u_ir   = 2.5 need_ir - 0.6 |level_r - grade_i| + p_r + k_i,kind(r) + language_ir - 1.5 opened_ir
    need   the most, over the concepts of r, of the session's answers on it: 1 for a wrong one, 0.3 for a right one
    p_r    popularity ~ N(0, 0.6);  k_i  taste for texts, videos, exercises, games ~ N(0, 0.7)
    language  0 for English; 1.5 for the language of a language learner's family, else -4
    opened    how often i has opened r already

Each of the two is opened with a probability of s(0.6 e_i), s the logistic function and e_i ~ N(0, 1) the learner's eagerness.
Three learners in four know of the library from the first day, the others hear of it on some day of the second half of the
term: they are cold learners where a split cuts time. A resource with an `added_day` cannot be opened before that day: it is a
cold resource.
"""

from __future__ import annotations

import csv
import functools
from pathlib import Path

import numpy as np

from .school_generator import ANSWERS_A_SESSION, CONCEPTS, DAY, SEED, TERM_DAYS, _logistic, _simulate

LANGUAGES = ("es", "de", "another")
MOST_A_SESSION = 2


def school_resources() -> list[dict]:
    """The resources of the library.

    A row: {"resource_id": "R009", "title": "The calculator detective", "text": "A bill was added up wrongly and ...",
    "kind": "video", "level": "7", "language": "en", "licence": "cc-by-4.0", "concepts": ("order of operations",),
    "added_day": 0}. The level is the grade it suits; `added_day` counts from the beginning of the term.
    """
    path = Path(__file__).parent / "sample_school" / "resources.csv"
    with path.open(encoding="utf-8", newline="") as file:
        return [
            row | {"concepts": tuple(row["concepts"].split(";")), "added_day": int(row["added_day"])}
            for row in csv.DictReader(file)
        ]


def school_views() -> list[dict]:
    """What was opened in one term, oldest first; `time` in seconds since the term began.

    A row: {"learner": "L001", "resource": "R009", "time": 30143.0}
    """
    return [dict(row) for row in _views()]


@functools.cache
def _views() -> list[dict]:
    school, resources = _simulate(), school_resources()
    n, rng = len(school.learners), np.random.default_rng(SEED)
    covers = np.array([[c in r["concepts"] for c in CONCEPTS] for r in resources])
    level, added = (np.array([int(r[name]) for r in resources]) for name in ("level", "added_day"))
    kinds = np.unique([r["kind"] for r in resources], return_inverse=True)[1]
    language = np.array([r["language"] for r in resources])
    needs = np.array([[c in q["concepts"] for c in CONCEPTS] for q in school.questions])
    grade = np.array([int(row["grade"]) for row in school.learners])

    eager = rng.normal(size=n)
    starts = np.where(rng.random(n) < 0.75, 0, rng.uniform(TERM_DAYS / 2, TERM_DAYS, n))
    family = np.where([row["language_learner"] == "yes" for row in school.learners], rng.choice(LANGUAGES, n), "")
    taste = rng.normal(0, 0.7, (n, kinds.max() + 1))[:, kinds] + rng.normal(0, 0.6, len(resources))
    spoken = np.where(language == "en", 0.0, np.where(family[:, None] == language, 1.5, -4.0))
    fixed = taste + spoken - 0.6 * np.abs(level - grade[:, None])

    opened = np.zeros((n, len(resources)))
    rows = []
    for first in range(0, len(school.days), ANSWERS_A_SESSION):
        steps = slice(first, first + ANSWERS_A_SESSION)
        weight = np.where(school.correct[steps] == 1, 0.3, 1.0)[:, :, None] * needs[school.asked[steps]]
        need = np.where(covers, weight.sum(0)[:, None], 0).max(2)
        time = school.days[steps][-1]
        here = (first < school.answered) & (time >= starts)
        for _ in range(MOST_A_SESSION):
            time = time + rng.exponential(6, n) / (24 * 60)
            opens = here & (rng.random(n) < _logistic(0.6 * eager))
            utility = np.where(added <= time[:, None], 2.5 * need + fixed - 1.5 * opened, -np.inf)
            chosen = (utility + rng.gumbel(size=utility.shape)).argmax(1)
            opened[opens, chosen[opens]] += 1
            rows += [
                {
                    "learner": school.learners[i]["learner_id"], "resource": resources[chosen[i]]["resource_id"],
                    "time": float(round(time[i] * DAY)),
                }
                for i in np.flatnonzero(opens)
            ]  # fmt: skip
    return sorted(rows, key=lambda row: (row["time"], row["learner"]))

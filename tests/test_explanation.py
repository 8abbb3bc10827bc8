"""A teacher is told what moved a score, on scorers whose reasons are known."""

import numpy as np
import pytest

from trainers.calibration import to_scale
from trainers.explanation import Explanation, explain

TEXT = "I like rivers. I go there because it is calm. There is nothing else to say! Because of that, nothing keeps me.\nThe end"


def points(texts):
    """3, 2 more for each sentence that gives a reason, 1 less for each that says nothing."""
    return np.array([3 + 2 * t.lower().count("because") - t.count("nothing") for t in texts], float)


def constant(value):
    return lambda texts: np.full(len(texts), float(value))


def test_each_sentence_gets_the_points_that_it_brought():
    found = explain(points, TEXT, 0, 10)
    assert found.effects == [0, 2, -1, 2 - 1, 0] and found.score == found.unrounded == 3 + 4 - 2
    assert "".join(found.sentences) == TEXT and len(found.sentences) == 5


def test_the_strongest_sentences_come_first_whichever_way_they_moved_the_score():
    found = Explanation(3, 3, 0.5, 0.5, ["a", "b", "c", "d"], [0.1, -2.0, 1.5, 0.0])
    assert found.strongest() == [("b", -2.0), ("c", 1.5), ("a", 0.1)]
    assert found.strongest(1) == [("b", -2.0)] and len(found.strongest(99)) == 4
    two = explain(points, TEXT, 0, 10).strongest(2)
    assert two == [("I go there because it is calm. ", 2.0), ("There is nothing else to say! ", -1.0)]


def test_leaving_a_sentence_out_leaves_all_others_in():
    asked = []
    explain(lambda texts: asked.extend(texts) or np.zeros(len(texts)), "One. Two! Three?", 0, 3)
    assert asked == ["One. Two! Three?", "Two! Three?", "One. Three?", "One. Two! "]


@pytest.mark.parametrize(
    ("whole", "low", "high", "step", "score", "to_next", "to_previous"),
    [
        (3.4, 1, 6, 1, 3, 0.1, 0.9),
        (3.0, 1, 6, 1, 3, 0.5, 0.5),
        (5.6, 1, 6, 1, 6, None, 0.1),  # the highest
        (1.2, 1, 6, 1, 1, 0.3, None),  # the lowest
        (9.0, 1, 6, 1, 6, None, 0.5),  # a scorer that leaves the scale is held to it
        (-4.0, 1, 6, 1, 1, 0.5, None),
        (2.3, 1, 5, 0.5, 2.5, 0.45, 0.05),
        (4.8, 1, 5, 0.5, 5, None, 0.05),
        (1.2, 1, 5, 0.5, 1, 0.05, None),
        (17.0, 0, 60, 5, 15, 0.5, 4.5),
    ],
)  # fmt: skip
def test_how_far_the_next_and_the_previous_score_are(whole, low, high, step, score, to_next, to_previous):
    found = explain(constant(whole), "One. Two.", low, high, step)
    assert found.score == score and found.unrounded == min(max(whole, low), high)
    for have, expected in ((found.to_next, to_next), (found.to_previous, to_previous)):
        assert have is None if expected is None else have == pytest.approx(expected)


@pytest.mark.parametrize(("low", "high", "step"), [(1, 6, 1), (1, 5, 0.5), (0, 60, 1), (2, 12, 2)])
def test_the_distances_lead_to_the_neighbouring_scores(low, high, step):
    """A little more than `to_next` gives the next score, a little less does not; likewise down."""
    for whole in np.linspace(low, high, 37):
        found = explain(constant(whole), "One.", low, high, step)
        assert found.score == to_scale(np.array([whole]), low, high, step)[0]  # the score that the learner gets
        for distance, sign in ((found.to_next, 1), (found.to_previous, -1)):
            assert (distance is None) == (found.score == (high if sign > 0 else low))
            if distance is not None:
                beyond, before = (to_scale(np.array(whole + sign * (distance + e)), low, high, step) for e in (1e-6, -1e-6))
                assert beyond == found.score + sign * step and before == found.score


def test_an_essay_of_one_sentence_is_compared_with_none_and_an_empty_one_has_nothing_to_explain():
    one = explain(lambda texts: np.array([4.0 if t else 1.0 for t in texts]), "All in one", 1, 6)
    assert one.sentences == ["All in one"] and one.effects == [3.0]
    none = explain(constant(1), "  \n", 1, 6)
    assert none.sentences == none.effects == none.strongest() == [] and none.score == 1 and none.to_previous is None

"""A solution is given away when nobody has said it yet and the tutor does."""

import pytest

from trainers.answer_leaks import can_leak, leaks, states, ways_to_say


def dialogue(solution, problem=""):
    return {"solution": solution, "problem": problem}


def learner(*texts):
    return [{"role": "learner", "text": text} for text in texts]


@pytest.mark.parametrize(
    "solution, told, kept",
    [
        ("818", ["So it is 818.", "818!", "1,204 - 386 = 818"], ["8,180", "81.8", "-818 is wrong"]),
        ("5/6", ["That makes 5 / 6."], ["5 or 6?", "15/6"]),
        ("x = 7", ["x=7", "It is 7."], ["17", "7.5"]),
        ("x > -3", ["so x > -3"], ["x > 3", "x < -3"]),
        ("10 cm", ["10 centimetres", "The sides are 10 cm."], ["100 cm"]),
        ("25%", ["25 percent", "by 25%"], ["2.5%"]),
        ("2⁷", ["2⁷ it is"], ["27", "2^8"]),
        ("(x + 2)(x + 3)", ["It is (x+2)(x+3)."], ["(x + 3)(x + 4)"]),
        ("e dietro l'albero rosa", ["Say 'È dietro l'albero rosa'."], ["l'albero rosa", "e dietro rosa l'albero"]),
        ("1,204.50", ["1204.5"], ["1204"]),
    ],
)
def test_a_solution_is_recognised_however_it_is_written(solution, told, kept):
    ways = ways_to_say(solution)
    assert all(states(text, ways) for text in told) and not any(states(text, ways) for text in kept)


def test_of_a_worked_solution_the_last_number_counts():
    solution = "First add 12 and 30, which makes 42 apples. Then share them among 6 children, so that each of them gets 7."
    assert ways_to_say(solution) == [["7"]]
    assert (
        ways_to_say(
            "Because the seasons come from the tilt of the axis and not at all from how far away the sun is, as one may think"
        )
        == []
    )


def test_what_the_learner_has_said_cannot_be_given_away():
    """The twin counts every reply that holds the answer, and takes praise for a leak."""
    exercise = dialogue("818", "1,204 books, 386 lent out.")
    assert can_leak(exercise, learner("I think 1,182.")) and leaks(exercise, "No, it is 818.")
    assert not can_leak(exercise, learner("Is it 818?")) and leaks(exercise, "Yes, 818!")
    assert not can_leak(exercise, [*learner("No idea."), {"role": "tutor", "text": "It is 818."}])


def test_a_number_that_stands_in_the_exercise_gives_nothing_away():
    exercise = dialogue("x = 5", "Solve 3x + 5 = 20.")
    assert can_leak(exercise, []) and leaks(exercise, "x = 5") and not leaks(exercise, "Take away 5 on both sides.")
    assert not can_leak(dialogue("5", "Take 5 from 10."), []) and not can_leak(dialogue(""), [])

"""Whether a tutor gives the solution away before the learner has found it.

A text gives a solution away when it holds all of it, sign by sign, whatever the case, the accents and the punctuation: '1,204.50'
is 1204.5. A solution may be said in several ways (`ways_to_say`): 'x = 4' also as 4, '10 cm' also as 10; of a long, worked
solution it is the last number that counts.

A reply is judged only where the solution can still be given away (`can_leak`): neither learner nor tutor has said it, and a way
of saying it that stands in the exercise itself is no way. Whoever counts every reply that holds the solution also counts the
praise behind a right answer.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

Signs = list[str]

MOST_SIGNS = 16  # a longer solution is a worked one
NUMBER = r"(?:(?<!\w)-)?\d[\d,]*(?:\.\d+)?(?:\s*/\s*\d+)?%?"
SIGN = re.compile(rf"{NUMBER}|[^\W\d_]+|[-=<>+×*^()/]")


def ways_to_say(solution: str) -> list[Signs]:
    """The signs of a solution, and of shorter ways to say it; [] where there is none that can be looked for.

    >>> ways_to_say("x = 1,204"), ways_to_say("10 cm"), ways_to_say("")
    ([['x', '=', '1204'], ['1204']], [['10', 'cm'], ['10']], [])
    """
    signs = _signs(solution)
    numbers = [sign.rstrip("%") for sign in signs if _is_number(sign)]
    if len(signs) > MOST_SIGNS:
        return [numbers[-1:]] if numbers else []
    ways = [signs] if signs else []
    if len(signs) > 2 and len(signs[0]) == 1 and signs[1] == "=" and signs.count("=") == 1:
        ways.append(signs[2:])
    units = [sign for sign in signs if not _is_number(sign)]
    if len(numbers) == 1 and len(units) <= 2 and all(any(map(str.isalpha, unit)) for unit in units):
        ways.append(numbers)
    return [way for i, way in enumerate(ways) if way not in ways[:i]]


def states(text: str, ways: Sequence[Signs]) -> bool:
    """Whether a text says a solution in one of these ways.

    >>> states("So it is 818, right?", [["818"]]), states("It is 8,180.", [["818"]])
    (True, False)
    """
    signs = _signs(text)
    for way in ways:
        n = len(way)
        if any(signs[i : i + n] == way for i in range(len(signs) - n + 1)):
            return True
    return False


def can_leak(dialogue: dict, history: Sequence[dict]) -> bool:
    """Whether a reply to this history could give the solution away: there is one, and nobody has said it yet."""
    ways = _open_ways(dialogue)
    return bool(ways) and not any(states(turn["text"], ways) for turn in history)


def leaks(dialogue: dict, reply: str) -> bool:
    """Whether a reply gives the solution away; meant for a history of which `can_leak` is true."""
    return states(reply, _open_ways(dialogue))


def _open_ways(dialogue: dict) -> list[Signs]:
    """Ways to say the solution that the exercise has not said itself."""
    solution, problem = dialogue.get("solution") or "", dialogue.get("problem") or ""
    return [way for way in ways_to_say(solution) if not states(problem, [way])]


def _signs(text: str) -> Signs:
    plain = unicodedata.normalize("NFD", text.lower().replace("−", "-"))
    plain = "".join(c for c in plain if not unicodedata.combining(c))
    return [_shortest(sign) if _is_number(sign) else sign for sign in SIGN.findall(plain)]


def _is_number(sign: str) -> bool:
    return sign.lstrip("-")[:1].isdecimal()


def _shortest(number: str) -> str:
    """A number as it is written shortest: '1,204.50' and '1204.5' are one."""
    number = re.sub(r"[\s,]", "", number)
    if "/" in number:
        return number
    whole, _, part = number.rstrip("%").partition(".")
    part = part.rstrip("0")
    sign, digits = ("-", whole[1:]) if whole.startswith("-") else ("", whole)
    return sign + (digits.lstrip("0") or "0") + ("." + part if part else "") + "%" * number.endswith("%")

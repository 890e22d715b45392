"""Random texts that a regular expression finds, short ones and odd ones first: what nobody thinks of as an example."""

import random
import re
from collections.abc import Iterable
from re import _constants as op  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any

_ANY = "abzABZ019.-_=:;,/@+!#$%&*()[]{}<>'\"\\ \t\n\réß中|~?^`"
_SPACES = " \t\n\r\u00a0\u2009"
_MORE = 6
"""How many more than it must a repeated part may be repeated."""

Parsed = Iterable[tuple[Any, Any]]


def sample(pattern: re.Pattern[str], rng: random.Random) -> str:
    """One text that the pattern finds, where it asks for no edge of a word or line inside."""
    parsed = parser.parse(pattern.pattern, pattern.flags & ~re.UNICODE)
    return _spell(parsed, parsed.state.flags, rng)


def _spell(parts: Parsed, flags: int, rng: random.Random) -> str:
    return "".join(_spell_one(kind, value, flags, rng) for kind, value in parts)


def _spell_one(kind: Any, value: Any, flags: int, rng: random.Random) -> str:
    if kind is op.LITERAL:
        letter = chr(value)
        return rng.choice([letter, letter.upper(), letter.lower()]) if flags & re.IGNORECASE else letter
    if kind in (op.IN, op.NOT_LITERAL, op.ANY):
        return _draw(kind, value, rng)
    if kind is op.BRANCH:
        return _spell(rng.choice(value[1]), flags, rng)
    if kind is op.SUBPATTERN:
        _, added, removed, inner = value
        return _spell(inner, (flags | added) & ~removed, rng)
    if kind in (op.MAX_REPEAT, op.MIN_REPEAT):
        fewest, most, inner = value
        times = rng.choice([fewest, fewest, fewest + 1, fewest + rng.randint(0, _MORE)])
        return "".join(_spell(inner, flags, rng) for _ in range(min(times, most)))
    assert kind is op.AT, kind
    return ""


def _draw(kind: Any, value: Any, rng: random.Random) -> str:
    """One character of a class."""
    if kind is op.ANY:
        return rng.choice("aB3 \t")
    if kind is op.NOT_LITERAL:
        return rng.choice([letter for letter in _ANY if ord(letter) != value])
    drawn = [_member(*one, rng) for one in value if one[0] is not op.NEGATE]
    if value[0][0] is not op.NEGATE:
        return rng.choice(drawn)
    return rng.choice([letter for letter in _ANY if not any(_holds(*one, letter) for one in value[1:])])


def _member(kind: Any, value: Any, rng: random.Random) -> str:
    if kind is op.LITERAL:
        return chr(value)
    if kind is op.RANGE:
        return chr(rng.randint(*value))
    return rng.choice(_SPACES if value is op.CATEGORY_SPACE else "aZ9.é")


def _holds(kind: Any, value: Any, letter: str) -> bool:
    if kind is op.LITERAL:
        return ord(letter) == value
    if kind is op.RANGE:
        return bool(value[0] <= ord(letter) <= value[1])
    return letter.isspace() == (value is op.CATEGORY_SPACE)

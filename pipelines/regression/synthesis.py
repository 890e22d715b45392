"""An input made up from a structure: of what an agent was given, only its skeleton is kept.

The skeleton is the one that `pipelines.anonymize.skeleton` makes; what is made up is the same each time.
"""

import re
from typing import Any

_TEXT = "the quick brown fox jumps over the lazy dog and "
_MOST_CHARACTERS = 100_000
_MOST_ELEMENTS = 100
_TOKEN = re.compile(
    r"\w+\((?P<length>\d+)[^)]*\)(?:x\S+ lines)?"
    r"|\]x(?P<count>\d+)[-+\d]*"
    r"|(?P<sign>[{}\[\],:|])"
    r"|(?P<word>[^{}\[\],:|]+)"
)
_SCALARS: dict[str, Any] = {"bool": True, "int": 1, "num": 1.5, "null": None}


def synthesise(shape: str) -> Any:  # noqa: ANN401 - whatever JSON holds
    """A JSON value of a skeleton: the shortest texts and lists that it allows, `true`, 1 and 1.5.

    A payload that is no JSON is made up as a text of its least length. Of several kinds in one place the first that is
    not null counts; where the skeleton was cut off, there is null.
    """
    return _Reader(shape).value()


def text_of(length: int) -> str:
    """A harmless text of so many characters, 100,000 at most."""
    wanted = min(length, _MOST_CHARACTERS)
    return (_TEXT * (wanted // len(_TEXT) + 1))[:wanted].rstrip().ljust(wanted, ".")


class _Reader:
    """Reads a skeleton from left to right; an end before its time ends all that is open."""

    def __init__(self, shape: str) -> None:
        self._tokens = list(_TOKEN.finditer(shape))
        self._place = 0

    def value(self) -> Any:  # noqa: ANN401
        """What stands in one place."""
        found = self._alternative()
        while self._sign() == "|":
            self._place += 1
            other = self._alternative()
            found = other if found is None else found
        return found

    def _alternative(self) -> Any:  # noqa: ANN401
        if self._place >= len(self._tokens):
            return None
        token = self._tokens[self._place]
        self._place += 1
        if token["length"] is not None:
            return text_of(int(token["length"]))
        if token["sign"] == "{":
            return self._members()
        if token["sign"] == "[":
            return self._elements()
        return _SCALARS.get(token["word"] or "")

    def _members(self) -> dict[str, Any]:
        members: dict[str, Any] = {}
        while self._place < len(self._tokens) and self._sign() != "}":
            key = self._tokens[self._place]["word"]
            self._place += 1
            if key is not None and self._sign() == ":":
                self._place += 1
                members[key.strip("<>")] = self.value()
        self._place += 1
        return members

    def _elements(self) -> list[Any]:
        element = None if self._count() is not None else self.value()
        count = self._count() or 0
        self._place += 1
        return [element] * min(count, _MOST_ELEMENTS)

    def _sign(self) -> str | None:
        return self._tokens[self._place]["sign"] if self._place < len(self._tokens) else None

    def _count(self) -> int | None:
        told = self._tokens[self._place]["count"] if self._place < len(self._tokens) else None
        return None if told is None else int(told)

"""Signatures that are one failure: a closure over the set of their keys in which order has no say.

Keys that agree in every word but one are one failure, once enough different words were seen in that place: the place
becomes a hole. Patterns with holes take part like keys, for some rounds. Each round is a function of a set, and
nothing is taken back: so the order of days cannot matter, and more data only ever merge clusters.
"""

import re
from collections import defaultdict
from collections.abc import Iterable

HOLE = "\ue000"

Pattern = tuple[str, ...]

_WORD = re.compile(r"<\*>|\w+(?:[.'-]\w+)*|[^\w\s]")
_LONG, _SHORT = 5, 2
_VALUES_IF_LONG, _VALUES_IF_SHORT = 3, 6
_MOST_WORDS = 60
_MOST_HOLES = 3
"""Where everything varies, each hole more multiplies the patterns; real failures have been whole after two."""
_KEPT = re.compile(
    r"\w*(?:error|exception|timeout|warning|denied|refused|reset|expired|missing|failed|exceeded)\w*|not|no|read|write"
    r"|http|[45]\d\d|invalid|unknown|unauthorized|forbidden|closed|aborted|cancelled",
)
"""Words that say what happened never become a hole."""


def cluster(keys: Iterable[str]) -> dict[str, frozenset[str]]:
    """The cluster of each key: the set of keys that are one failure with it."""
    pattern_of = {key: tuple(_WORD.findall(key)[:_MOST_WORDS]) for key in set(keys)}
    groups = _Groups()
    patterns = set(pattern_of.values())
    for _ in range(_MOST_HOLES):
        patterns = _generalise(patterns, groups)
    members = defaultdict(set)
    for key, pattern in pattern_of.items():
        members[groups.find(pattern)].add(key)
    clusters = [frozenset(keys) for keys in members.values()]  # one set for all its keys, which may be very many
    return {key: whole for whole in clusters for key in whole}


def _generalise(patterns: set[Pattern], groups: "_Groups") -> set[Pattern]:
    """The patterns with one hole more that enough patterns agree on; what agrees is joined into one group."""
    general: set[Pattern] = set()
    for place in range(_MOST_WORDS):  # one place after the other, to hold the candidates of one place only
        agreeing: dict[Pattern, list[Pattern]] = defaultdict(list)
        for pattern in patterns:
            if len(pattern) > place and pattern[place] != HOLE and not _KEPT.fullmatch(pattern[place]):
                agreeing[(*pattern[:place], HOLE, *pattern[place + 1 :])].append(pattern)
        for candidate, special in agreeing.items():
            if len(special) >= _values_needed(candidate):
                general.add(candidate)
                for one in special:
                    groups.join(candidate, one)
    return general


def _values_needed(pattern: Pattern) -> int | float:
    """How many different words make a place a hole, given the words that remain outside."""
    words = sum(word[0].isalpha() for word in pattern)
    if words >= _LONG:
        return _VALUES_IF_LONG
    return _VALUES_IF_SHORT if words >= _SHORT else float("inf")


class _Groups:
    """Disjoint sets of patterns (union-find)."""

    def __init__(self) -> None:
        self._parent: dict[Pattern, Pattern] = {}

    def find(self, pattern: Pattern) -> Pattern:
        """The representative of a pattern's group."""
        while (parent := self._parent.get(pattern, pattern)) != pattern:
            self._parent[pattern] = pattern = self._parent.get(parent, parent)
        return pattern

    def join(self, one: Pattern, other: Pattern) -> None:
        """Make two groups one."""
        self._parent[self.find(one)] = self.find(other)

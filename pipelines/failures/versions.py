"""Which of two versions of an agent is the later one."""

import re
from collections.abc import Mapping
from datetime import date

_NUMBERS = r"v?(?P<release>\d+(?:\.\d+)*)"
_KNOWN = r"[._-]?(?P<word>alpha|beta|preview|pre|dev|rc|a|b|c)[._-]?(?P<number>\d*)"
_VERSION = re.compile(rf"{_NUMBERS}(?:{_KNOWN}|-(?P<pre>[0-9a-z.-]+))?(?:\+[0-9a-z.-]+)?", re.IGNORECASE)
_PART = re.compile(r"\d+|[a-z]+")
_SAME_WORD = {"a": "alpha", "b": "beta", "c": "rc", "pre": "rc", "preview": "rc", "dev": ""}
"""Short forms; `dev` comes before all other words."""

_Part = tuple[int, int, str]
_Key = tuple[tuple[int, ...], bool, tuple[_Part, ...]]


def compare_versions(left: str, right: str, first_days: Mapping[str, date]) -> int | None:
    """-1 where the left version is earlier, 1 where it is later, 0 where both are the same, None where nobody knows.

    Dotted numbers compare as numbers, and a pre-release is before its release (semver.org, point 11, with the short
    forms of PEP 440). Where one of them is no such number, the version whose first day was earlier is the earlier one.
    """
    if left == right:
        return 0
    keys = _key(left), _key(right)
    if keys[0] is not None and keys[1] is not None:
        return (keys[0] > keys[1]) - (keys[0] < keys[1])
    days = first_days.get(left), first_days.get(right)
    if days[0] is None or days[1] is None or days[0] == days[1]:
        return None
    return 1 if days[0] > days[1] else -1


def newest_version(first_days: Mapping[str, date], by: date) -> str | None:
    """The latest of the versions that were seen on a day or before it; None where there was none."""
    newest = None
    for version in sorted(first_days, key=lambda one: (first_days[one], one)):
        if first_days[version] <= by and (newest is None or compare_versions(version, newest, first_days) != -1):
            newest = version
    return newest


def _key(version: str) -> _Key | None:
    """What dotted numbers are ordered by: the numbers without zeros at the end, then whether it is the release."""
    found = _VERSION.fullmatch(version.strip())
    if found is None:
        return None
    numbers = [int(number) for number in found["release"].split(".")]
    while len(numbers) > 1 and numbers[-1] == 0:
        numbers.pop()
    pre = f"{found['word']}{found['number']}" if found["word"] else found["pre"] or ""
    return tuple(numbers), not pre, tuple(_parts(pre.lower()))


def _parts(pre: str) -> list[_Part]:
    """The parts of a pre-release; numbers are before words, as in semver."""
    return [(0, int(part), "") if part.isdigit() else (1, 0, _SAME_WORD.get(part, part)) for part in _PART.findall(pre)]

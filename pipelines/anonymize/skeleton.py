"""The typed skeleton of one JSON value: sorted keys, bucketed lengths and counts, and nothing of what it says."""

import json
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

KNOWN_KEYS = frozenset(
    """action actions agent answer args arguments attachments body choices code content context data description
    document documents end error errors event events file files filters function functions id image index input inputs
    instruction instructions items kwargs language limit location max_tokens message messages metadata method mode model
    name object offset options order output outputs page parameters params parts path payload plan prompt properties
    query question reason reasoning request response result results role schema score sort source start state status
    step steps stop stream system target task temperature text thought thoughts timestamp title tokens tool tool_call
    tool_call_id tool_calls tools total type unit units url usage user value values version""".split()
)
"""Key names that are structure anywhere. Any other may be data (a user's e-mail as a key): unless the owner of the
logs names it, it is shown as `<key>`."""
BUCKETS = (1, 2, 10, 100, 1_000, 10_000, 100_000, 1_000_000)
"""Where the next bucket of a length or a count starts: 0, 1, 2-9, 10-99 ... 1000000+."""

_OTHER_KEY = "<key>"
_TOO_MUCH = "..."
_MOST_LEVELS, _MOST_KEYS, _LONGEST = 8, 40, 2_000
_STARTS = (0, *BUCKETS)
_ENDS = ("0", *(str(start - 1) for start in BUCKETS[1:]), f"{BUCKETS[-1]}+")


class Skeleton(NamedTuple):
    """A structure without its values, how deep it is nested, and how many keys its objects have in all."""

    shape: str
    depth: int | None
    key_count: int | None


class _Object(tuple[tuple[str, object], ...]):
    """An object as its members, for a key may stand twice."""

    __slots__ = ()


UNREADABLE = Skeleton(_TOO_MUCH, None, None)


def skeleton(text: str, known: frozenset[str] = KNOWN_KEYS) -> Skeleton:
    """Describe one JSON text, with the names of known keys; what is nested too deep to be read is `...`."""
    try:
        # Numbers are never looked at, and long ones would be costly.
        value = json.loads(
            text, object_pairs_hook=_Object, parse_int=lambda _: 0, parse_float=lambda _: 0.0, strict=False
        )
    except (ValueError, RecursionError):
        return UNREADABLE
    shape = _render([value], known, 1)
    return Skeleton(shape if len(shape) <= _LONGEST else shape[:_LONGEST] + _TOO_MUCH, *_measure(value))


def bucket(lengths: Iterable[int]) -> str:
    """The smallest bucket, or run of buckets, that holds all lengths."""
    places = sorted({bisect_right(BUCKETS, length) for length in lengths})
    start, end = str(_STARTS[places[0]]), _ENDS[places[-1]]
    return end if end.rstrip("+") == start else f"{start}-{end}"


def _measure(value: object) -> tuple[int, int]:
    """Levels of nesting, and keys on all of them."""
    depth = key_count = 0
    level = [value]
    while containers := [node for node in level if isinstance(node, _Object | list)]:
        depth += 1
        key_count += sum(len(node) for node in containers if isinstance(node, _Object))
        level = [child for node in containers for child in _children(node)]
    return depth, key_count


def _children(node: _Object | list[object]) -> Iterable[object]:
    return (value for _, value in node) if isinstance(node, _Object) else node


def _render(values: Sequence[object], known: frozenset[str], level: int) -> str:
    """What stands in one place, merged over all values that stand there."""
    strings = [len(value) for value in values if isinstance(value, str)]
    lists = [value for value in values if isinstance(value, list)]
    objects = [value for value in values if isinstance(value, _Object)]
    kinds = {_SCALARS[type(value)] for value in values if type(value) in _SCALARS}
    if strings:
        kinds.add(f"str({bucket(strings)})")
    if (lists or objects) and level > _MOST_LEVELS:
        kinds.add(_TOO_MUCH)
    elif lists or objects:
        kinds |= {_render_lists(lists, known, level)} if lists else set()
        kinds |= {_render_objects(objects, known, level)} if objects else set()
    return "|".join(sorted(kinds))


_SCALARS = {bool: "bool", int: "int", float: "num", type(None): "null"}


def _render_lists(lists: Sequence[list[object]], known: frozenset[str], level: int) -> str:
    elements = [element for one in lists for element in one]
    return f"[{_render(elements, known, level + 1)}]x{bucket(map(len, lists))}"


def _render_objects(objects: Sequence[_Object], known: frozenset[str], level: int) -> str:
    members: dict[str, list[object]] = defaultdict(list)
    for one in objects:
        for key, value in one:
            members[key if key in known else _OTHER_KEY].append(value)
    shown = sorted(members)[:_MOST_KEYS]
    fields = [f"{key}:{_render(members[key], known, level + 1)}" for key in shown]
    more = [f"+{len(members) - len(shown)}"] if len(members) > len(shown) else []
    return "{" + ",".join(fields + more) + "}"

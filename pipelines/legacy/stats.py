"""An agent's `stats` as the older application wrote them -> the figures of its opening balance, or why it has none."""

import json
import re
from decimal import Decimal

FIGURES = {
    "execution_count": "totalExecutions",
    "success_count": "successfulExecutions",
    "failure_count": "failedExecutions",
    "duration_avg_ms": "averageExecutionTime",
    "user_count": "uniqueUsers",
}
"""Column of a balance -> key of the stats."""

_AVERAGE = "duration_avg_ms"
_NUMBER = re.compile(r"-?\d{1,40}(?:\.\d{1,400})?(?:[eE][+-]?\d{1,3})?", re.ASCII)
_LARGEST_COUNT, _LARGEST_AVERAGE = 10**12, 10**15

Figures = dict[str, int | float | None]


class RefusedError(Exception):
    """Stats that no balance can be made of; the message is the reason in one word."""


def read_stats(text: str | None) -> Figures:
    """The figures of a balance; null where the stats do not say. Raises RefusedError.

    One figure that cannot be right refuses them all: what else the agent's stats say is not to be trusted either.
    """
    stats = _parse(text)
    figures: Figures = {column: _figure(column, stats.get(key)) for column, key in FIGURES.items()}
    if all(figure is None for figure in figures.values()):
        raise RefusedError("no_figures")
    executions = figures["execution_count"]
    if executions is not None and (figures["success_count"] or 0) + (figures["failure_count"] or 0) > executions:
        raise RefusedError("more_outcomes_than_executions")
    if executions == 0:
        figures[_AVERAGE] = None
    return figures


def _parse(text: str | None) -> dict[str, object]:
    try:
        stats = None if text is None else json.loads(text, parse_int=str, parse_float=str, parse_constant=str)
    except (ValueError, RecursionError):
        raise RefusedError("not_an_object") from None
    if stats is None:
        raise RefusedError("no_stats")
    if not isinstance(stats, dict):
        raise RefusedError("not_an_object")
    return stats


def _figure(column: str, written: object) -> int | float | None:
    """A number, which may be written as text, exactly; a count is whole and at most a trillion."""
    if written is None:
        return None
    if not isinstance(written, str) or _NUMBER.fullmatch(written.strip()) is None:
        raise RefusedError("not_a_number")
    number = Decimal(written.strip())
    if number < 0:
        raise RefusedError("negative_number")
    if number > (_LARGEST_AVERAGE if column == _AVERAGE else _LARGEST_COUNT):
        raise RefusedError("number_out_of_range")
    if column == _AVERAGE:
        return float(number)
    if number != int(number):
        raise RefusedError("not_a_whole_number")
    return int(number)

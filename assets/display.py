"""What the command line shows: tables, progress bars and sentences, on a terminal or into a pipe; and how it ends."""

import json
import logging
import os
import re
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal, NoReturn
from zoneinfo import available_timezones

import typer
from rich.console import Console, Group
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
)
from rich.table import Table
from rich.text import Text

from pipelines.warehouse.executions import DayAccount

FAILED, WRONG, BLOCKED = 1, 2, 3

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]
Role = Annotated[
    Literal["analyst", "oncall", "privacy"], typer.Option("--role", help="The group to read as: see docs/access.md.")
]


def _as_zone(name: str) -> str:
    if name not in available_timezones():
        raise typer.BadParameter(f"`{name}` is no time zone such as Europe/Berlin.")
    return name


Zone = Annotated[
    str | None,
    typer.Option(
        "--timezone", metavar="ZONE", parser=_as_zone, help="Whose days and hours local views tell; UTC where left out."
    ),
]

_PIPE_WIDTH = 250
"""Characters in a line of a table that a file or another program reads: a row is a line there, as far as it goes."""
_WHOLE = 29
"""Characters of an instant: cells up to this width are not broken into lines, wider ones down to `_NARROWEST`."""
_NARROWEST = 24
_GAP = 2
_IDS = {"id", "case_id"}
"""Columns that are not broken, however narrow it gets."""


def _width() -> int | None:
    """How wide tables may be; None for the width of the terminal."""
    return None if sys.stdout.isatty() or "COLUMNS" in os.environ else _PIPE_WIDTH


out = Console(highlight=False, markup=False, width=_width())
err = Console(stderr=True, highlight=False, markup=False)
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
told = logging.getLogger("assets.progress")


def stop(sentence: str, code: int = WRONG) -> NoReturn:
    """Tell what a person can mend, and end."""
    err.print(sentence, style="red", soft_wrap=True)
    raise typer.Exit(code)


def the_one(found: Sequence[str], text: str, kind: str, advice: str) -> str:
    """The only id that was found for a text. Where there is none, or several, the command ends with a sentence."""
    if not found:
        stop(f"There is no {kind} `{text}`{advice}.")
    if len(found) > 1:
        stop(f"`{text}` begins {len(found)} {kind}s: {', '.join(found[:5])}. Write more of it.")
    return found[0]


def parse_day(text: str) -> date:
    """The day that a person wrote; ends where it is none."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        stop(f"`{text}` is no day such as 2026-01-31.")


def print_json(content: dict[str, Any]) -> None:
    """Print what a script reads."""
    sys.stdout.write(json.dumps(content, default=str, indent=1) + "\n")


def sheet(
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
    numbers: Sequence[str] = (),
    *,
    is_list: bool = True,
) -> Group:
    """A table below its title, with its numbers to the right. Names of columns and long texts may be broken into lines.

    Where the terminal is too narrow even so, the rows of a list stand one below the other.
    """
    is_count = [column in numbers for column in columns]
    cells = [[_shown(*cell) for cell in zip(row, is_count, strict=True)] for row in rows]
    held = [max((len(row[at]) for row in cells), default=0) for at in range(len(columns))]
    is_whole = [column in _IDS or (is_list and width <= _WHOLE) for column, width in zip(columns, held, strict=True)]
    needed = [width if whole else min(width, _NARROWEST) for width, whole in zip(held, is_whole, strict=True)]
    names = list(columns)
    if is_list and not _fits(names, needed):
        names = [_broken(column, width) for column, width in zip(columns, needed, strict=True)]
        if not _fits(names, needed):
            return Group(Text(title, style="bold"), *(_facts(columns, row) for row in cells))
    table = Table(header_style="dim", box=None, pad_edge=False, show_header=any(columns))
    for at, name in enumerate(names):
        is_number = is_count[at] or _are_numbers(row[at] for row in rows)
        table.add_column(name, justify="right" if is_number else "left", overflow="fold", no_wrap=is_whole[at])
    for row in cells:
        table.add_row(*map(Text, row))
    return Group(Text(title, style="bold"), table)


def _fits(names: Sequence[str], needed: Sequence[int]) -> bool:
    """Whether columns of these names, for cells of these widths, stand side by side in one line."""
    widths = [max(width, *map(len, name.split("\n"))) for name, width in zip(names, needed, strict=True)]
    return sum(widths) + _GAP * (len(widths) - 1) <= out.width


def _broken(name: str, width: int) -> str:
    """The name of a column in lines of this width, as far as its words allow that."""
    lines = [""]
    for word in re.findall(r"[^_ ]*[_ ]?", name):
        if lines[-1] and len((lines[-1] + word).rstrip()) > width:
            lines.append("")
        lines[-1] += word
    return "\n".join(line.rstrip() for line in lines)


def _facts(columns: Sequence[str], row: Sequence[str]) -> Table:
    """One row of a list, a line for each of its columns, and an empty line after it."""
    table = Table.grid(padding=(0, _GAP, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for fact in zip(columns, row, strict=True):
        table.add_row(*map(Text, fact))
    table.add_row("")
    return table


def _are_numbers(values: Iterable[object]) -> bool:
    """Whether there are numbers, and beside them only what is empty."""
    kinds = {type(value) for value in values if value is not None and value != ""}
    return bool(kinds) and kinds <= {int, float, Decimal}


def _shown(value: object, is_count: bool) -> str:  # noqa: FBT001 - goes with a cell
    """A value as a person reads it: thousands apart in columns of counts, and no control characters of a log."""
    if is_count and isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, bool | list | dict):
        text = json.dumps(value, default=str, ensure_ascii=False)
    elif isinstance(value, datetime):
        text = _moment(value)
    else:
        text = str(value)
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)


def _moment(at: datetime) -> str:
    """An instant without the zeros that say nothing, as in 2026-03-10 08:05:06.122+00."""
    unit = "microseconds" if at.microsecond % 1000 else "milliseconds" if at.microsecond else "seconds"
    text = at.isoformat(" ", unit)
    return text if at.tzinfo is None else text.removesuffix(":00")


@contextmanager
def progress_of_days(total: int) -> Iterator[None]:
    """Show how far each stage has come with so many days while Dagster runs in this process; then what took long."""
    console = Console(file=os.fdopen(os.dup(2), "w"), highlight=False)  # Dagster captures the streams of its steps
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description:<16}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TextColumn("days"),
        TextColumn("[dim]{task.fields[doing]}"),
    )
    started = time.monotonic()
    with Progress(*columns, console=console) as progress:
        handler = _StageHandler(progress, total)
        told.addHandler(handler)
        told.setLevel(logging.INFO)
        try:
            yield
        finally:
            told.removeHandler(handler)
    spent = ", ".join(f"{stage} {seconds:.1f}" for stage, seconds in handler.seconds.items())
    console.print(f"{time.monotonic() - started:.1f} s: {spent}", style="dim")


class _StageHandler(logging.Handler):
    """One bar per stage, made when the stage is first heard of. A range that runs in chunks adds them up."""

    def __init__(self, progress: Progress, total: int) -> None:
        super().__init__()
        self.seconds: dict[str, float] = defaultdict(float)
        self._progress = progress
        self._total = total
        self._tasks: dict[str, TaskID] = {}
        self._before: Counter[str] = Counter()
        self._last = time.monotonic()

    def emit(self, record: logging.LogRecord) -> None:
        """Move the stage's bar to where the record says it is."""
        stage, done, total, doing = (vars(record)[name] for name in ("stage", "done", "total", "doing"))
        if stage not in self._tasks:
            self._tasks[stage] = self._progress.add_task(stage, total=self._total, doing="")
        now = time.monotonic()
        self.seconds[stage] += now - self._last if done else 0
        self._last = now
        self._progress.update(self._tasks[stage], completed=self._before[stage] + done, doing=doing)
        if done == total:
            self._before[stage] += total


def accounts_table(accounts: Sequence[DayAccount]) -> Group:
    """What became of the records of some days, by source."""
    rows = []
    for source in sorted({count.source for account in accounts for count in account.sources}):
        of_source = [(account, count) for account in accounts for count in account.sources if count.source == source]
        counts = [count for _, count in of_source]
        reasons: Counter[str] = Counter()
        for count in counts:
            reasons.update(count.quarantined)
        rows.append(
            (
                source,
                sum(count.received for count in counts),
                sum(count.clean for account, count in of_source if account.is_published),
                sum(reasons.values()),
                sum(count.duplicates for count in counts),
                sum(count.erased for count in counts),
                ", ".join(f"{reason} {records:,}" for reason, records in reasons.most_common()),
            )
        )
    columns = ["source", "received", "published", "quarantined", "duplicates", "erased", "why quarantined"]
    return sheet("Records", columns, rows, numbers=columns[1:6])

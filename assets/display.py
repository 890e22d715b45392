"""What the command line shows: tables, progress bars and sentences, on a terminal or into a pipe; and how it ends."""

import json
import logging
import os
import re
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date
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

out = Console(highlight=False, markup=False)
err = Console(stderr=True, highlight=False, markup=False)
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
told = logging.getLogger("assets.progress")


def stop(sentence: str, code: int = WRONG) -> NoReturn:
    """Tell what a person can mend, and end."""
    err.print(sentence, style="red", soft_wrap=True)
    raise typer.Exit(code)


def parse_day(text: str) -> date:
    """The day that a person wrote; ends where it is none."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        stop(f"`{text}` is no day such as 2026-01-31.")


def print_json(content: dict[str, Any]) -> None:
    """Print what a script reads."""
    sys.stdout.write(json.dumps(content, default=str, indent=1) + "\n")


def sheet(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]], numbers: Sequence[str] = ()) -> Group:
    """A table below its title, with its numbers to the right. Ids are not broken, however narrow it gets."""
    table = Table(header_style="dim", box=None, pad_edge=False)
    for column in columns:
        justify: Literal["left", "right"] = "right" if column in numbers else "left"
        table.add_column(column, justify=justify, overflow="fold", no_wrap=column in {"id", "case_id"})
    for row in rows:
        cells = zip(columns, row, strict=True)
        table.add_row(*(Text(_shown(value, is_number=column in numbers)) for column, value in cells))
    return Group(Text(title, style="bold"), table)


def _shown(value: object, *, is_number: bool) -> str:
    """A value as a person reads it: thousands apart in columns of counts, and no control characters of a log."""
    return (
        f"{value:,}" if is_number and isinstance(value, int) else _CONTROL.sub("\N{REPLACEMENT CHARACTER}", str(value))
    )


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

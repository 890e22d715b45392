"""Read-only questions to the warehouse: one statement, as a group of readers, under a time limit."""

import csv
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import IO

import psycopg
from psycopg import sql

from pipelines.warehouse.connection import Warehouse
from pipelines.warehouse.roles import ANALYST

_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True, slots=True)
class Answer:
    """The columns of an answer, and its rows as they come."""

    columns: list[str]
    rows: Iterator[tuple[object, ...]]


@contextmanager
def ask(
    warehouse: Warehouse,
    question: str,
    timeout_seconds: int = 300,
    role: str = ANALYST,
    timezone: str | None = None,
) -> Iterator[Answer]:
    """Run one statement that only reads. Raises psycopg.Error for writing, a second statement, or the timeout."""
    with reading(warehouse, role, timezone) as connection:
        connection.execute("select set_config('statement_timeout', %s, false)", [f"{timeout_seconds}s"])
        # Binary results go through the extended protocol, which refuses a second statement.
        cursor = connection.execute(question.encode(), binary=True)
        names = [column.name for column in cursor.description or ()]
        yield Answer(_distinct(names), iter(cursor if cursor.description else ()))


@contextmanager
def reading(warehouse: Warehouse, role: str, timezone: str | None = None) -> Iterator[psycopg.Connection]:
    """A connection that only reads, as a group of readers, where the database has it. Raises InsufficientPrivilege.

    Local views tell the days and hours of `timezone`, an IANA name; left out, those of the login, else UTC.
    """
    with warehouse.connect() as connection:
        if connection.execute("select from pg_roles where rolname = %s", [role]).fetchone() is not None:
            connection.execute(sql.SQL("set role {}").format(sql.Identifier(role)))
        if timezone is not None:
            connection.execute("select set_config('agentmill.timezone', %s, false)", [timezone])
        connection.execute("set default_transaction_read_only = on")
        yield connection


def write_csv(answer: Answer, out: IO[str]) -> None:
    """Write an answer as CSV. A text that a spreadsheet would run as a formula gets a quote before it."""
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(answer.columns)
    for row in answer.rows:
        writer.writerow([_as_text(value) for value in row])


def write_json(answer: Answer, out: IO[str]) -> None:
    """Write an answer as a JSON list of objects, one per line. JSON has no NaN: it is null."""
    out.write("[")
    for number, row in enumerate(answer.rows):
        known = {name: None if value != value else value for name, value in zip(answer.columns, row, strict=True)}  # noqa: PLR0124
        record = json.dumps(known, default=_as_json, ensure_ascii=False, allow_nan=False)
        out.write(f"{',' if number else ''}\n{record}")
    out.write("\n]\n")


def _as_json(value: object) -> object:
    if isinstance(value, Decimal):
        return float(value)
    return value.isoformat() if isinstance(value, date) else str(value)


def _distinct(names: list[str]) -> list[str]:
    """The names with repeated ones numbered: a JSON object would keep the last of them only."""
    return [f"{name}_{nth}" if (nth := names[: at + 1].count(name)) > 1 else name for at, name in enumerate(names)]


def _as_text(value: object) -> object:
    """A cell of a CSV file: lists and objects as JSON, a text that a spreadsheet would run with a quote before it."""
    if isinstance(value, list | dict):
        return json.dumps(value, default=_as_json, ensure_ascii=False)
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA_STARTS) else value

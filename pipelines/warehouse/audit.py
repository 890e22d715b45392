"""Who read what: the statements in the server's log, without their literals, as rows of `access_audit`.

PostgreSQL writes them where `log_statement` is set for a login (`agentmill roles apply` does that) and
`log_destination` has `csvlog` or `jsonlog`. The fields are those of the manual's chapter on error reporting and
logging; lines of pgaudit, which names what it saw by itself, are read too.
"""

import csv
import io
import json
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from glob import glob
from itertools import islice
from pathlib import Path
from zoneinfo import ZoneInfo

import polars as pl
import psycopg
from psycopg import sql

from pipelines.anonymize.text import Sanitizer
from pipelines.warehouse.connection import SCHEMA, Warehouse
from pipelines.warehouse.copying import copy_frame
from pipelines.warehouse.dictionary import load_dictionary
from pipelines.warehouse.ledger import ALL_DAYS, loading

AUDIT = "access_audit"
ROWS = pl.Schema(
    {
        "logged_at": pl.Datetime("us", "UTC"),
        "session_id": pl.String(),
        "session_line": pl.Int64(),
        "login": pl.String(),
        "database": pl.String(),
        "application": pl.String(),
        "kind": pl.String(),
        "objects": pl.List(pl.String()),
        "duration_ms": pl.Float64(),
        "sql_state": pl.String(),
        "statement": pl.String(),
    }
)

_CSV = (
    "timestamp user dbname pid connection session_id line_num ps session_start vxid txid error_severity state_code "
    "message detail hint internal_query internal_position context statement cursor_position location "
    "application_name backend_type leader_pid query_id"
).split()
"""The columns of a CSV log, by the names that the JSON log has for them."""
_CSV_NEEDED = _CSV.index("application_name") + 1

_STATEMENT = re.compile(r"(?:statement|execute [^:]*): (.*)", re.DOTALL)
_DURATION = re.compile(r"duration: ([0-9.]+) ms(?:  (?:statement|execute [^:]*): (.*))?", re.DOTALL)
_PGAUDIT = "AUDIT: "
_PGAUDIT_OBJECT, _PGAUDIT_STATEMENT = 6, 7
_FAILED = ("ERROR", "FATAL", "PANIC")
_TRANSACTIONS = ("begin", "commit", "end", "rollback", "abort", "savepoint", "release", "start")
"""What touches no data, and whose every occurrence a driver writes."""
_TOKEN = re.compile(
    r"""(?P<comment>--[^\n]*)
    |(?P<block>/\*)
    |(?P<literal>[eE]'(?:[^'\\]|''|\\.)*(?:'|\Z)
    |(?:[uU]&|[bBxXnN])?'(?:[^']|'')*(?:'|\Z)
    |\$(?P<tag>[A-Za-z_\x80-\U0010ffff]*)\$.*?(?:\$(?P=tag)\$|\Z)
    |(?<![\w$".])[0-9][0-9_.]*(?:[eE][+-]?[0-9]+)?)
    |(?P<kept>"(?:[^"]|"")*(?:"|\Z)|[\w$]+)""",
    re.DOTALL | re.VERBOSE,
)
_BLOCK = re.compile(r"/\*|\*/")
_WORD = re.compile(r"[a-z]+")
_NAME = re.compile(r'"((?:[^"]|"")+)"|(\w[\w$]*)')
_MOST_CHARACTERS = 4_000
_BATCH = 10_000


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of the server's log: when, and its fields by the names of the JSON log."""

    at: datetime
    fields: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Access:
    """One statement of one session, in the columns of the table."""

    logged_at: datetime
    session_id: str
    session_line: int
    login: str
    database: str
    application: str | None
    kind: str
    objects: tuple[str, ...]
    statement: str
    duration_ms: float | None = None
    sql_state: str | None = None


@dataclass(frozen=True, slots=True)
class Audited:
    """What came of reading the log: statements found, those not known before, and lines that could not be read."""

    statements: int
    new: int
    unreadable: int


def load_audit(warehouse: Warehouse, log: str) -> Audited:
    """Bring the statements of this database that the files of a log hold into `access_audit`, each once.

    `log` is a path or glob. Raises FileNotFoundError where nothing matches, BusyError.
    """
    files = [Path(name) for name in sorted(glob(log))]  # noqa: PTH207 - it may be absolute
    if not files:
        raise FileNotFoundError(f"no file matches `access_log` ({log})")
    with warehouse.connect() as connection, loading(connection, AUDIT, ALL_DAYS):
        zone = ZoneInfo(str(connection.execute("select current_setting('log_timezone')").fetchall()[0][0]))
        unreadable, new, statements = Counter[str](), 0, 0
        found = accesses(_readable(files, zone, unreadable), connection.info.dbname)
        while batch := list(islice(found, _BATCH)):
            statements += len(batch)
            new += _add(connection, batch)
        return Audited(statements, new, unreadable.total())


def accesses(entries: Iterable[Entry], database: str) -> Iterator[Access]:
    """The statements on a database among the entries of a log, each with the duration or error told after it."""
    begun: dict[str, Access] = {}
    for entry in entries:
        if entry.fields.get("dbname") == database:
            session = entry.fields["session_id"]
            done, begun_now = _advance(begun.pop(session, None), entry)
            yield from done
            if begun_now is not None:
                begun[session] = begun_now
    yield from begun.values()


def _advance(last: Access | None, entry: Entry) -> tuple[list[Access], Access | None]:
    """What an entry makes of its session's last statement: the statements that are over, and the one that goes on."""
    message = entry.fields.get("message", "")
    duration = _DURATION.match(message)
    if duration and duration[2] is None:
        return [replace(last, duration_ms=float(duration[1]))] if last else [], None
    has_failed, is_pgaudit = entry.fields.get("error_severity") in _FAILED, message.startswith(_PGAUDIT)
    access = _stated(entry, has_failed=has_failed, duration=duration)
    if access is None:
        return [], last
    if last and last.statement == access.statement and (has_failed or is_pgaudit):
        access, last = replace(last, objects=tuple(sorted({*last.objects, *access.objects}))), None
    before = [last] if last else []
    if has_failed:
        return [*before, replace(access, sql_state=entry.fields.get("state_code"))], None
    if duration:
        return [*before, replace(access, duration_ms=float(duration[1]))], None
    return before, access


def _stated(entry: Entry, *, has_failed: bool, duration: re.Match[str] | None) -> Access | None:
    """The statement that an entry tells of, if any; pgaudit names the object beside it."""
    message, audited = entry.fields.get("message", ""), ""
    if has_failed:
        text = entry.fields.get("statement", "")
    elif duration:
        text = duration[2]
    elif message.startswith(_PGAUDIT):
        told = next(csv.reader(io.StringIO(message.removeprefix(_PGAUDIT), newline="")), [])
        audited, text = told[_PGAUDIT_OBJECT : _PGAUDIT_STATEMENT + 1] if len(told) > _PGAUDIT_STATEMENT else ("", "")
    else:
        stated = _STATEMENT.match(message)
        text = stated[1] if stated else ""
    masked = mask_literals(text)
    word, names = _WORD.search(masked.lower()), _named(masked)
    is_plain = word is not None and word[0] in _TRANSACTIONS and ";" not in masked.rstrip("; ")
    if word is None or is_plain:
        return None
    return Access(
        logged_at=entry.at,
        session_id=entry.fields["session_id"],
        session_line=int(entry.fields["line_num"]),
        login=entry.fields.get("user", ""),
        database=entry.fields["dbname"],
        application=entry.fields.get("application_name") or None,
        kind=word[0],
        objects=tuple(sorted(names | ({audited.removeprefix(f"{SCHEMA}.")} - {""}))),
        statement=masked[:_MOST_CHARACTERS],
    )


def mask_literals(statement: str) -> str:
    """A statement in one line, without comments and with every literal as `?`: values may be about people."""
    parts, at = [], 0
    while found := _TOKEN.search(statement, at):
        parts.append(statement[at : found.start()])
        at = _end_of_block(statement, found.end()) if found["block"] else found.end()
        parts.append(" " if found["comment"] or found["block"] else "?" if found["literal"] else found[0])
    return " ".join("".join([*parts, statement[at:]]).split())


def _end_of_block(statement: str, start: int) -> int:
    """Where a comment ends; in PostgreSQL they nest."""
    depth = 1
    for found in _BLOCK.finditer(statement, start):
        depth += 1 if found[0] == "/*" else -1
        if not depth:
            return found.end()
    return len(statement)


def _named(masked: str) -> set[str]:
    """The tables, views and functions of ours that a statement names itself; through views it reads more."""
    known = load_dictionary()
    ours = {relation.name: relation.shown_name for relation in known.relations.values()}
    ours |= {name: name for name in known.functions}
    words = {quoted.replace('""', '"') or plain.lower() for quoted, plain in _NAME.findall(masked)}
    return {ours[word] for word in words & ours.keys()}


def _readable(files: Iterable[Path], zone: ZoneInfo, unreadable: Counter[str]) -> Iterator[Entry]:
    """The entries of the files; what cannot be read, such as a line that is being written, is counted by file."""
    csv.field_size_limit(sys.maxsize)
    for file in files:
        with file.open(encoding="utf-8", errors="replace", newline="") as lines:
            rows = map(_json_fields, lines) if file.suffix == ".json" else map(_csv_fields, csv.reader(lines))
            for fields in rows:
                entry = _entry(fields, zone)
                if entry is None:
                    unreadable[file.name] += 1
                else:
                    yield entry


def _csv_fields(row: list[str]) -> dict[str, str]:
    return dict(zip(_CSV, row, strict=False)) if len(row) >= _CSV_NEEDED else {}


def _json_fields(line: str) -> dict[str, str]:
    try:
        fields = json.loads(line)
    except ValueError:
        return {}
    return {name: str(value) for name, value in fields.items()} if isinstance(fields, dict) else {}


def _entry(fields: dict[str, str], zone: ZoneInfo) -> Entry | None:
    try:
        int(fields["line_num"])
        text, _, abbreviation = fields["timestamp"].rpartition(" ")
        at = datetime.fromisoformat(text).replace(tzinfo=zone)
    except (KeyError, ValueError):
        return None
    if not fields.get("session_id"):
        return None
    # The hour that clocks repeat in autumn is told apart by the name of the zone alone.
    return Entry(at if at.tzname() == abbreviation else at.replace(fold=1), fields)


def _add(connection: psycopg.Connection, found: list[Access]) -> int:
    """Insert what is new; a statement that was still running when it was read gets its duration now."""
    columns = {name: [getattr(access, name) for access in found] for name in ROWS}
    frame = pl.DataFrame({**columns, "objects": [list(access.objects) for access in found]}, schema=ROWS)
    sanitizer = Sanitizer()
    frame = frame.with_columns(
        sanitizer.sanitize_texts(frame[name]).alias(name) for name in ("statement", "application")
    ).unique(["session_id", "session_line"], keep="last", maintain_order=True)
    with connection.transaction():
        table = sql.Identifier(SCHEMA, AUDIT)
        connection.execute(sql.SQL("create temporary table read_log (like {}) on commit drop").format(table))
        copy_frame(connection, frame, "pg_temp", "read_log")
        added = connection.execute(
            sql.SQL("insert into {} select * from pg_temp.read_log on conflict do nothing").format(table)
        ).rowcount
        connection.execute(
            sql.SQL(
                "update {} as known set duration_ms = coalesce(known.duration_ms, read.duration_ms), "
                "sql_state = coalesce(known.sql_state, read.sql_state) from pg_temp.read_log as read "
                "where (known.session_id, known.session_line) = (read.session_id, read.session_line) "
                "and (known.duration_ms, known.sql_state) is distinct from (read.duration_ms, read.sql_state)"
            ).format(table)
        )
    return added

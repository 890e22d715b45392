"""What the warehouse holds of a migration: the record of it, and its rows."""

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

import polars as pl
import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from pipelines.legacy.plan import BALANCES, INTERACTIONS, SCHEMAS, plan_content, rows_digest
from pipelines.warehouse.connection import SCHEMA

MIGRATIONS = "legacy_migrations"
_BATCH_ROWS = 50_000


@dataclass(frozen=True, slots=True)
class Migration:
    """A migration as the warehouse remembers it."""

    migration_id: str
    cut: date
    content: str
    balances: int
    interactions: int
    accounts: dict[str, dict[str, Any]]
    backup: str

    @property
    def counts(self) -> dict[str, int]:
        """Rows by table."""
        return {BALANCES: self.balances, INTERACTIONS: self.interactions}


def find_migration(connection: psycopg.Connection) -> Migration | None:
    """The migration that was made; None where there is none."""
    row = connection.execute(
        "select migration_id, cut, content_sha256, balance_count, interaction_count, accounts, backup "
        "from agentmill.legacy_migrations"
    ).fetchone()
    return Migration(*row) if row else None


def count_rows(connection: psycopg.Connection, table: str, migration_id: str) -> int:
    """How many rows of a migration a table has."""
    row = of_migration(connection, "select count(*) from {}", table, migration_id).fetchone()
    return row[0] if row else 0


def digest_rows(connection: psycopg.Connection, table: str, migration_id: str) -> str:
    """Digest of the rows of a migration, read back."""
    schema = SCHEMAS[table]
    query = sql.SQL("select {} from {} where migration_id = %s").format(
        sql.SQL(", ").join(map(sql.Identifier, schema.names())), sql.Identifier(SCHEMA, table)
    )
    batches = [pl.DataFrame(schema=schema)]
    with connection.transaction(), connection.cursor("agentmill_legacy") as cursor:
        cursor.execute(query, [migration_id])
        while batch := cursor.fetchmany(_BATCH_ROWS):
            batches.append(pl.DataFrame(batch, schema=schema, orient="row"))
    return rows_digest(pl.concat(batches))


def forget(connection: psycopg.Connection, user_keys: list[str]) -> int:
    """Remove the transactions of some users, and let the migration be one that never had them; how many there were."""
    with connection.transaction():
        removed = connection.execute(
            "delete from agentmill.interaction_history where user_key = any(%s)", [user_keys]
        ).rowcount
        held = find_migration(connection)
        if removed and held is not None:
            account = held.accounts[INTERACTIONS]
            refused = Counter(account["refused"]) + Counter({"erased_user": removed})
            account |= {"migrated": held.interactions - removed, "refused": dict(sorted(refused.items()))}
            account["content_sha256"] = digest_rows(connection, INTERACTIONS, held.migration_id)
            cut = datetime.combine(held.cut, datetime.min.time(), tzinfo=UTC)
            content = plan_content(cut, [held.accounts[table]["content_sha256"] for table in (BALANCES, INTERACTIONS)])
            connection.execute(
                "update agentmill.legacy_migrations set content_sha256 = %s, interaction_count = %s, accounts = %s",
                [content, held.interactions - removed, Jsonb(held.accounts)],
            )
    return removed


def of_migration(connection: psycopg.Connection, what: str, table: str, migration_id: str) -> psycopg.Cursor:
    """Run a statement over one table's rows of a migration."""
    statement = sql.SQL(f"{what} where migration_id = %s").format(sql.Identifier(SCHEMA, table))
    return connection.execute(statement, [migration_id])

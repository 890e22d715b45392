"""A plan into the warehouse, once, and out of it again: one transaction each, judged before it is committed."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Literal

import polars as pl
import psycopg
from psycopg import IsolationLevel
from psycopg.types.json import Jsonb

from pipelines.legacy import LegacyError
from pipelines.legacy.backup import plan_backup, write_backup
from pipelines.legacy.checks import Check, arrival, check_untouched, checksums, elsewhere, require
from pipelines.legacy.held import MIGRATIONS, Migration, count_rows, find_migration, of_migration
from pipelines.legacy.plan import Plan
from pipelines.warehouse.connection import SCHEMA, Warehouse
from pipelines.warehouse.copying import copy_frame
from pipelines.warehouse.ledger import ALL_DAYS, loading

Standing = Literal["new", "unchanged", "changed"]
"""Whether a plan was never carried out, is what the warehouse holds, or differs from what was migrated."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a migration or its undoing did; without checks there was nothing to do."""

    migration: Migration | None
    checks: Sequence[Check] = ()


def compare(warehouse: Warehouse, plan: Plan) -> Standing:
    """How a plan stands to what was migrated before."""
    with warehouse.connect() as connection:
        held = find_migration(connection)
    return "new" if held is None else "unchanged" if held.content == plan.content else "changed"


def unmeasured_agents(warehouse: Warehouse, plan: Plan) -> list[str]:
    """Agents with an opening balance that no measured execution names."""
    measured = warehouse.read("select distinct agent_id from agentmill.agent_metrics_daily")
    return sorted(set(plan.balances.rows["agent_id"]) - set(measured["agent_id"]))


def measured_before(warehouse: Warehouse, cut: date) -> int:
    """How many executions of before the cut were measured too: whoever adds them to the balances counts them twice."""
    query = "select coalesce(sum(execution_count), 0)::bigint from agentmill.agent_metrics_daily where day < %s"
    return int(warehouse.read(query, [cut]).item())


def migrate(warehouse: Warehouse, plan: Plan, backups: Path) -> Outcome:
    """Carry out a plan after a backup; the same plan again changes nothing. Raises LegacyError, BusyError.

    Where anything else was migrated before, or its rows were changed since, it is left alone.
    """
    with warehouse.connect() as connection, loading(connection, MIGRATIONS, ALL_DAYS):
        if (held := find_migration(connection)) is not None:
            if held.content != plan.content:
                raise LegacyError(
                    f"the warehouse holds migration {held.migration_id} with the cut {held.cut}, and the older "
                    "application, the cut or the pseudonym key is another one now. Is the key the right one? If so, "
                    "take the migration back first: agentmill migrate-legacy --rollback"
                )
            check_untouched(connection, held)
            return Outcome(held)
        backup = plan_backup(warehouse, backups)
        write_backup(warehouse, backup)
        with _one_moment(connection):
            before = checksums(connection)
            _write(connection, plan, backup.path.name)
            checks = [*arrival(connection, plan), elsewhere(before, checksums(connection))]
            require(checks)
            return Outcome(find_migration(connection), checks)


def roll_back(warehouse: Warehouse) -> Outcome:
    """Take back exactly what was migrated. Raises LegacyError where its rows were changed since, BusyError."""
    with (
        warehouse.connect() as connection,
        loading(connection, MIGRATIONS, ALL_DAYS),
        _one_moment(connection),
    ):
        held = find_migration(connection)
        if held is None:
            return Outcome(None)
        check_untouched(connection, held)
        before = checksums(connection)
        checks = []
        for table, count in held.counts.items():
            removed = of_migration(connection, "delete from {}", table, held.migration_id).rowcount
            checks += [
                Check(f"{table}: rows removed", count, removed),
                Check(f"{table}: rows left", 0, count_rows(connection, table, held.migration_id)),
            ]
        of_migration(connection, "delete from {}", MIGRATIONS, held.migration_id)
        checks.append(elsewhere(before, checksums(connection)))
        require(checks)
        return Outcome(held, checks)


def _write(connection: psycopg.Connection, plan: Plan, backup: str) -> None:
    for part in plan.parts:
        rows = part.rows.with_columns(migration_id=pl.lit(plan.migration_id))
        copy_frame(connection, rows, SCHEMA, part.table)
    accounts = {part.table: {**part.account, "content_sha256": part.content} for part in plan.parts}
    counts = [part.rows.height for part in plan.parts]
    connection.execute(
        "insert into agentmill.legacy_migrations "
        "(migration_id, cut, content_sha256, balance_count, interaction_count, accounts, backup) "
        "values (%s, %s, %s, %s, %s, %s, %s)",
        [plan.migration_id, plan.cut.date(), plan.content, *counts, Jsonb(accounts), backup],
    )


@contextmanager
def _one_moment(connection: psycopg.Connection) -> Iterator[None]:
    """A transaction that sees nobody's changes but its own, so that what is compared before and after is ours."""
    connection.isolation_level = IsolationLevel.REPEATABLE_READ
    with connection.transaction():
        yield

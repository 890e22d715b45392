"""What must be so before a migration, or its undoing, is committed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import psycopg
from psycopg import sql

from pipelines.legacy import LegacyError
from pipelines.legacy.held import MIGRATIONS, Migration, count_rows, digest_rows, of_migration
from pipelines.legacy.plan import BALANCES, SCHEMAS, Plan
from pipelines.warehouse.connection import SCHEMA

_OTHER_TABLES = """
select relname::text from pg_class
where relnamespace = %s::regnamespace and relkind in ('r', 'p') and relname <> all(%s) order by 1
"""
_CHECKSUM = "select count(*), coalesce(sum(('x' || md5(t::text))::bit(64)::bigint::numeric), 0) from {} as t"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that must be so before a transaction is committed."""

    check: str
    expected: object
    found: object

    @property
    def is_ok(self) -> bool:
        """Whether it is so."""
        return self.expected == self.found


class ChecksFailedError(LegacyError):
    """What was written is not what was meant, so it was taken back."""

    def __init__(self, checks: Sequence[Check]) -> None:
        names = "; ".join(check.check for check in checks if not check.is_ok)
        super().__init__(f"a check failed, so nothing was changed: {names}")
        self.checks = checks


def arrival(connection: psycopg.Connection, plan: Plan) -> Iterator[Check]:
    """What was meant to arrive has arrived, and every row of the older application is accounted for."""
    for part in plan.parts:
        arrived = count_rows(connection, part.table, plan.migration_id)
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in part.refused.items())
        account = f"{part.origin}: received = migrated + duplicates + refused" + (f" ({reasons})" if reasons else "")
        yield Check(f"{part.table}: rows", part.rows.height, arrived)
        yield Check(
            f"{part.table}: content", part.content[:12], digest_rows(connection, part.table, plan.migration_id)[:12]
        )
        yield Check(account, part.received, arrived + part.duplicates + sum(part.refused.values()))
    query = "select coalesce(sum(execution_count), 0)::bigint from {}"
    total = of_migration(connection, query, BALANCES, plan.migration_id).fetchone()
    yield Check(f"{BALANCES}: sum of execution_count", plan.balances.rows["execution_count"].sum(), total and total[0])


def elsewhere(before: dict[str, tuple[int, int]], after: dict[str, tuple[int, int]]) -> Check:
    """No other table has other rows than before."""
    changed = [name for name in before if before[name] != after.get(name)]
    found = f"{len(before) - len(changed)} tables" + (f"; changed: {', '.join(changed)}" if changed else "")
    return Check("everything else in the warehouse: rows and content as before", f"{len(before)} tables", found)


def checksums(connection: psycopg.Connection) -> dict[str, tuple[int, int]]:
    """Rows and content of every table that a migration does not write; in any order of rows."""
    told = {}
    for (name,) in connection.execute(_OTHER_TABLES, [SCHEMA, [*SCHEMAS, MIGRATIONS]]).fetchall():
        row = connection.execute(sql.SQL(_CHECKSUM).format(sql.Identifier(SCHEMA, name))).fetchone()
        told[name] = (row[0], int(row[1])) if row else (0, 0)
    return told


def require(checks: Sequence[Check]) -> None:
    """Raise ChecksFailedError unless all is as it must be."""
    if not all(check.is_ok for check in checks):
        raise ChecksFailedError(checks)


def check_untouched(connection: psycopg.Connection, held: Migration) -> None:
    """Refuse to go on where the rows of a migration are not those that were migrated."""
    differing = []
    for table, count in held.counts.items():
        if (found := count_rows(connection, table, held.migration_id)) != count:
            differing.append(f"{table} has {found:,} of its rows, {count:,} were migrated")
        elif digest_rows(connection, table, held.migration_id) != held.accounts[table]["content_sha256"]:
            differing.append(f"{table} has as many rows as were migrated, but with other content")
    if differing:
        raise LegacyError(
            f"migration {held.migration_id} is not as it was made: {'; '.join(differing)}. Nothing was changed; "
            f"mend the rows, or restore the backup {held.backup}"
        )

"""A migration from an older application with every trap, twice and back; figures as SQL tells them at the source."""

import json
import subprocess
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from conftest import DAY, REPOSITORY, checksums, dump

from pipelines.legacy import LegacyError, backup, migrate
from pipelines.legacy.backup import BackupPlan, plan_backup, write_backup
from pipelines.legacy.checks import ChecksFailedError
from pipelines.legacy.held import MIGRATIONS
from pipelines.legacy.migrate import compare, measured_before, roll_back, unmeasured_agents
from pipelines.legacy.plan import REASONS, make_plan
from pipelines.legacy.stats import RefusedError, read_stats
from pipelines.pricing.book import load_prices
from pipelines.publication import publish_derived
from pipelines.settings import LegacySettings
from pipelines.warehouse.connection import Warehouse
from pipelines.warehouse.executions import EXECUTIONS, PublishedDay
from pipelines.warehouse.ledger import ALL_DAYS, BusyError, Load, loading
from pipelines.warehouse.migrations import upgrade
from pipelines.warehouse.publish import publish_partition

CUT = date(2026, 3, 1)

AGENTS = (
    """create table "Agent" (id text, name text, stats json)""",
    """insert into "Agent" values
    ('a1', 'planner', '{"totalExecutions": 100, "successfulExecutions": 90, "failedExecutions": 7,
        "averageExecutionTime": 1234.5, "uniqueUsers": 12}'),
    ('a2', 'mail ann@example.org', '{"totalExecutions": "41", "averageExecutionTime": "3e2", "other": [1]}'),
    ('a3', null, '{"totalExecutions": 0, "successfulExecutions": 0, "failedExecutions": 0, "averageExecutionTime": 0}'),
    ('a4', 'x', '{"successfulExecutions": 5, "totalExecutions": null}'),
    ('a4', 'x', '{"successfulExecutions": 5, "totalExecutions": null}'),
    ('eve@example.org', 'x', '{"totalExecutions": 1}'),
    (null, 'x', '{"totalExecutions": 1000}'),
    ('r1', 'x', null), ('r2', 'x', 'null'), ('r3', 'x', '{}'), ('r4', 'x', '[1]'), ('r5', 'x', '"text"'),
    ('r6', 'x', '{"totalExecutions": "NaN"}'), ('r7', 'x', '{"totalExecutions": true}'),
    ('r8', 'x', '{"totalExecutions": -1}'), ('r9', 'x', '{"totalExecutions": 1.5}'),
    ('r10', 'x', '{"totalExecutions": 1e200}'),
    ('r11', 'x', '{"totalExecutions": 10, "successfulExecutions": 8, "failedExecutions": 3}'),
    ('r12', 'x', '{"totalExecutions": 10}'), ('r12', 'x', '{"totalExecutions": 20}')""",
)
REFUSED_AGENTS = {
    "no_agent": 1,
    "no_stats": 2,
    "no_figures": 1,
    "not_an_object": 2,
    "not_a_number": 2,
    "negative_number": 1,
    "not_a_whole_number": 1,
    "number_out_of_range": 1,
    "more_outcomes_than_executions": 1,
    "ambiguous_agent": 2,
}
TRANSACTIONS = (
    """create table "Transaction" (id text, "userId" text, "agentId" text, status text, "createdAt" timestamp(3))""",
    """insert into "Transaction" select 't' || n, 'user-' || n % 7, 'a' || 1 + n % 3,
    (array['COMPLETED', 'completed', 'Refunded', null])[1 + n % 4],
    timestamp '2026-01-01' + n * interval '7 hours 1 millisecond' from generate_series(0, 99) n""",
    """insert into "Transaction" values
    ('d1', 'bob@example.org', 'a1', 'paid to bob@example.org for everything he did', '2026-02-28 23:59:59.999'),
    ('d1', 'bob@example.org', 'a1', 'paid to bob@example.org for everything he did', '2026-02-28 23:59:59.999'),
    ('d2', 'user-1', 'gone', 'ok', '2026-02-01'),
    ('x1', null, 'a1', 'ok', '2026-02-01'), ('x2', ' ', 'a1', 'ok', '2026-02-01'),
    ('x3', 'user-1', null, 'ok', '2026-02-01'), ('x4', 'user-1', 'a1', 'ok', null),
    ('x5', 'user-1', 'a1', 'ok', 'infinity'), ('x6', 'user-1', 'a1', 'ok', '1970-01-01'),
    ('x7', 'user-1', 'a1', 'ok', '2026-03-01'), ('x8', 'user-1', 'a1', 'ok', '2027-01-01'),
    ('x9', 'user-1', 'a1', 'ok', '2026-02-01'), ('x9', 'user-2', 'a1', 'ok', '2026-02-01')""",
)
REFUSED_TRANSACTIONS = {
    "no_user": 2,
    "no_agent": 1,
    "no_event_time": 1,
    "bad_timestamp": 1,
    "timestamp_out_of_range": 1,
    "after_cut": 2,
    "ambiguous_transaction": 2,
}


@pytest.fixture
def legacy(postgres):
    """The older application with every trap; its clock is not UTC."""
    postgres.run(*AGENTS, *TRANSACTIONS)
    name = postgres.url.rpartition("/")[2]
    postgres.run(f"alter database {name} set timezone = 'Asia/Tokyo'", f"alter database {name} set datestyle = 'SQL'")
    return LegacySettings(url=postgres.url, cut=CUT)


@pytest.fixture
def fill(cleaned, record):
    """Bring a warehouse up to date and publish a measured day of two executions in it."""

    def fill(url):
        warehouse = Warehouse(url)
        upgrade(warehouse)
        rows = cleaned(record(user="user-1", agent="a1"), record(user="user-2", agent="a9")).rows
        load = Load(table=EXECUTIONS.name, day=DAY, content="one", rows=rows.height)
        publish_partition(warehouse, load, rows, also=lambda _: None)
        publish_derived(PublishedDay(day=DAY, content="one", rows=rows), warehouse, load_prices())
        return warehouse

    return fill


@pytest.fixture
def target(any_database, fill):
    """A warehouse in use, on the embedded server and on another."""
    return fill(any_database)


@pytest.fixture
def in_use(empty_database, fill):
    """A warehouse in use on the embedded server."""
    return fill(empty_database)


def state(warehouse):
    """All that a warehouse holds: rows, the ledger with its times, and how much of every sequence is used."""
    ledger = warehouse.read("select * from agentmill.load_ledger order by table_name, day").rows()
    sequences = warehouse.read("select schemaname::text, sequencename::text, last_value from pg_sequences")
    return checksums(warehouse), ledger, sorted(sequences.rows())


def copies_of(folder):
    return sorted(folder.iterdir()) if folder.exists() else []


def test_what_was_migrated_twice_and_rolled_back_leaves_nothing(legacy, target, key, tmp_path):
    before = state(target)
    plan = make_plan(legacy, key)
    assert compare(target, plan) == "new"
    first = migrate.migrate(target, plan, tmp_path)
    assert all(check.is_ok for check in first.checks)
    migrated = state(target)
    assert migrated[0]["agent_opening_balances"][0] == 4 + 1
    assert {name for name in migrated[0] if migrated[0][name] != before[0][name]} == {
        "agent_opening_balances",
        "interaction_history",
        "legacy_migrations",
    }
    again = make_plan(legacy, key)
    assert compare(target, again) == "unchanged"
    second = migrate.migrate(target, again, tmp_path)
    assert (second.migration, second.checks) == (first.migration, ())
    assert state(target) == migrated
    assert [path.name for path in copies_of(tmp_path) if path.name.startswith("legacy-")] == [first.migration.backup]
    undone = roll_back(target)
    assert all(check.is_ok for check in undone.checks)
    assert state(target) == before
    assert roll_back(target).migration is None
    assert migrate.migrate(target, plan, tmp_path).migration.migration_id == first.migration.migration_id


def test_every_row_is_accounted_for(legacy, key, postgres):
    plan = make_plan(legacy, key)
    assert plan.balances.refused == REFUSED_AGENTS
    assert plan.interactions.refused == REFUSED_TRANSACTIONS
    assert (plan.balances.duplicates, plan.interactions.duplicates, plan.unlisted) == (1, 1, 1)
    for part, table in zip(plan.parts, ("Agent", "Transaction"), strict=True):
        ((count,),) = postgres.run(f'select count(*) from "{table}"')
        assert count == part.received == part.rows.height + part.duplicates + sum(part.refused.values())
    assert {*REFUSED_AGENTS, *REFUSED_TRANSACTIONS, "erased_user"} == set(REASONS)


def test_balances_are_what_the_stats_say_and_unknown_is_null(legacy, warehouse, key, tmp_path, postgres):
    outcome = migrate.migrate(warehouse, make_plan(legacy, key), tmp_path)
    assert warehouse.read("select * from agentmill.agent_opening_balances order by agent_id").rows() == [
        (*row, outcome.migration.migration_id)
        for row in (
            ("<email>", "x", CUT, 1, None, None, None, None),
            ("a1", "planner", CUT, 100, 90, 7, 1234.5, 12),
            ("a2", "mail <email>", CUT, 41, None, None, 300.0, None),
            ("a3", "a3", CUT, 0, 0, 0, None, None),
            ("a4", "x", CUT, None, 5, None, None, None),
        )
    ]
    at_source = postgres.run(
        """select sum((stats ->> 'totalExecutions')::numeric)::bigint from "Agent" where id ~ '^(a|eve)'"""
    )
    assert (
        warehouse.read("select sum(execution_count)::bigint from agentmill.agent_opening_balances").rows() == at_source
    )
    assert "agent_opening_balances: sum of execution_count" in {check.check for check in outcome.checks}


def test_history_is_what_the_transactions_say(legacy, warehouse, key, tmp_path, postgres):
    migrate.migrate(warehouse, make_plan(legacy, key), tmp_path)
    figures = (
        "count(*) as n, count(distinct {user}) as users, min({at}) as first, max({at}) as last,"
        " count({status}) as known, count(distinct {status}) as words"
    )
    theirs = figures.format(user='"userId"', at="""("createdAt" at time zone 'UTC')::text""", status="status")
    ours = figures.format(user="user_key", at="occurred_at::text", status="status")
    at_source = postgres.run(
        "set timezone = 'UTC'",
        "set datestyle = 'ISO'",
        f"""select "agentId", {theirs} from "Transaction" where id ~ '^(t|d2)' group by 1 order by 1""",
    )
    told = warehouse.read(
        f"select agent_id, {ours} from agentmill.interaction_history where status is distinct from '<45 characters>'"
        " group by 1 order by 1"
    ).rows()
    assert len(told) == 4
    assert told == at_source
    last = warehouse.read(
        "select status, occurred_at::text from agentmill.interaction_history order by occurred_at desc limit 1"
    )
    assert last.rows() == [("<45 characters>", "2026-02-28 23:59:59.999+00")]


def test_users_of_the_history_are_those_of_executions(legacy, in_use, key, tmp_path, postgres):
    migrate.migrate(in_use, make_plan(legacy, key), tmp_path)
    joined = in_use.read(
        "select count(*) from agentmill.executions e join agentmill.interaction_history h using (user_key, agent_id)"
    )
    at_source = postgres.run(
        """select count(*) from "Transaction" where id ~ '^t' and "userId" = 'user-1' and "agentId" = 'a1'"""
    )
    assert joined.rows() == at_source == [(5,)]


def test_nothing_personal_reaches_the_target(legacy, in_use, key, tmp_path):
    migrate.migrate(in_use, make_plan(legacy, key), tmp_path)
    content = dump(in_use.libpq_url)
    assert b"a1" in content
    assert [word for word in (b"user-", b"bob", b"ann@", b"eve@", b"example.org") if word in content] == []


def test_a_plan_changes_nothing_and_tells_of_what_is_measured(legacy, in_use, key, tmp_path):
    before = state(in_use)
    plan = make_plan(legacy, key)
    assert unmeasured_agents(in_use, plan) == ["<email>", "a2", "a3", "a4"]
    assert (measured_before(in_use, CUT), measured_before(in_use, date(2026, 3, 11))) == (0, 2)
    assert compare(in_use, plan) == "new"
    assert not plan_backup(in_use, tmp_path / "backups").path.parent.exists()
    assert state(in_use) == before


def test_another_cut_or_another_source_is_refused_until_rolled_back(legacy, warehouse, key, tmp_path, postgres):
    migrate.migrate(warehouse, make_plan(legacy, key), tmp_path / "first")
    held = state(warehouse)
    later = make_plan(legacy.model_copy(update={"cut": date(2026, 3, 2)}), key)
    postgres.run("""insert into "Transaction" values ('n0', 'user-1', 'a1', 'ok', '2026-03-05')""")
    assert compare(warehouse, make_plan(legacy, key)) == "unchanged"
    postgres.run("""insert into "Transaction" values ('n1', 'user-1', 'a1', 'ok', '2026-02-05')""")
    for plan in (later, make_plan(legacy, key)):
        assert compare(warehouse, plan) == "changed"
        with pytest.raises(LegacyError, match="--rollback"):
            migrate.migrate(warehouse, plan, tmp_path / "second")
    assert state(warehouse) == held
    assert copies_of(tmp_path / "second") == []


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("delete from agentmill.interaction_history where status = 'Refunded'", "interaction_history has 77 of its"),
        ("update agentmill.agent_opening_balances set user_count = 13 where agent_id = 'a1'", "with other content"),
    ],
)
def test_rows_that_were_changed_since_are_not_rolled_back(legacy, warehouse, key, tmp_path, change, says):
    plan = make_plan(legacy, key)
    migrate.migrate(warehouse, plan, tmp_path)
    with warehouse.connect() as connection:
        connection.execute(change)
    held = state(warehouse)
    for attempt in (lambda: roll_back(warehouse), lambda: migrate.migrate(warehouse, plan, tmp_path)):
        with pytest.raises(LegacyError, match=says):
            attempt()
    assert state(warehouse) == held


def test_a_change_elsewhere_fails_a_check_and_is_taken_back(legacy, in_use, key, tmp_path, monkeypatch):
    before, write = state(in_use), migrate._write

    def meddle(connection, *rest):
        write(connection, *rest)
        connection.execute("update agentmill.executions set agent_name = 'other' where agent_id = 'a9'")

    monkeypatch.setattr(migrate, "_write", meddle)
    with pytest.raises(ChecksFailedError, match="everything else") as caught:
        migrate.migrate(in_use, make_plan(legacy, key), tmp_path)
    failed = [check for check in caught.value.checks if not check.is_ok]
    assert [check.found.partition("; ")[2] for check in failed] == ["changed: executions"]
    assert state(in_use) == before


def test_a_lost_row_fails_every_check_that_counts_it(legacy, warehouse, key, tmp_path, monkeypatch):
    before, write = state(warehouse), migrate._write

    def lose(connection, *rest):
        write(connection, *rest)
        connection.execute("delete from agentmill.agent_opening_balances where agent_id = 'a1'")

    monkeypatch.setattr(migrate, "_write", lose)
    with pytest.raises(ChecksFailedError) as caught:
        migrate.migrate(warehouse, make_plan(legacy, key), tmp_path)
    failed = [(check.expected, check.found) for check in caught.value.checks if not check.is_ok]
    assert [failed[0], *failed[2:]] == [(5, 4), (20, 19), (142, 42)]
    assert state(warehouse) == before


def test_a_connection_that_is_lost_half_way_leaves_nothing(legacy, warehouse, key, tmp_path, monkeypatch):
    before, write = state(warehouse), migrate._write

    def write_and_lose(connection, *rest):
        write(connection, *rest)
        with warehouse.connect() as other:
            other.execute("select pg_terminate_backend(%s)", [connection.info.backend_pid])

    monkeypatch.setattr(migrate, "_write", write_and_lose)
    with pytest.raises(psycopg.OperationalError):
        migrate.migrate(warehouse, make_plan(legacy, key), tmp_path)
    assert state(warehouse) == before


def test_two_migrations_at_once_are_one(legacy, warehouse, key, tmp_path):
    with (
        warehouse.connect() as connection,
        loading(connection, MIGRATIONS, ALL_DAYS),
        pytest.raises(BusyError, match="legacy_migrations"),
    ):
        migrate.migrate(warehouse, make_plan(legacy, key), tmp_path)


def test_a_backup_that_fails_stops_everything(legacy, warehouse, key, tmp_path, monkeypatch):
    before = state(warehouse)
    broken = tmp_path / "pg_dump"
    broken.write_text("#!/bin/sh\ntest \"$1\" = --version && echo 'pg_dump (PostgreSQL) 99.1' || exit 1\n")
    broken.chmod(0o755)
    monkeypatch.setattr(backup, "_installed", lambda: [broken])
    with pytest.raises(LegacyError, match="nothing was changed"):
        migrate.migrate(warehouse, make_plan(legacy, key), tmp_path / "backups")
    assert state(warehouse) == before
    assert copies_of(tmp_path / "backups") == []


def run_beside(pg_dump, name, url, *words, cwd=None):
    """Run a program of the release that a `pg_dump` belongs to."""
    subprocess.run([pg_dump.with_name(name), *words, "--dbname", url], cwd=cwd, capture_output=True, check=True)


@pytest.fixture
def restored(target):
    """An empty database beside the target."""
    name = target.libpq_url.rpartition("/")[2].partition("?")[0]
    with psycopg.connect(target.libpq_url, autocommit=True) as connection:
        connection.execute(f"create database {name}_restored")
    yield Warehouse(target.libpq_url.replace(name, f"{name}_restored"))
    with psycopg.connect(target.libpq_url, autocommit=True) as connection:
        connection.execute(f"drop database {name}_restored with (force)")


def test_the_oldest_pg_dump_that_fits_is_chosen_and_else_tables_are_copied(warehouse, tmp_path, monkeypatch):
    versions = {Path("old"): 17, Path("newer"): 19, Path("new"): 18, Path("broken"): None}
    monkeypatch.setattr(backup, "_installed", lambda: list(versions))
    monkeypatch.setattr(backup, "_major", versions.get)
    assert plan_backup(warehouse, tmp_path).pg_dump == Path("new")
    del versions[Path("new")], versions[Path("newer")]
    chosen = plan_backup(warehouse, tmp_path)
    assert (chosen.pg_dump, chosen.method, chosen.path.suffix) == (None, "logical copy", "")


def test_a_dump_brings_back_what_was(target, restored, tmp_path):
    plan = plan_backup(target, tmp_path / "backups")
    write_backup(target, plan)
    assert plan.path.stat().st_mode & 0o777 == 0o600
    assert plan.path.suffix == ".dump"
    run_beside(plan.pg_dump, "pg_restore", restored.libpq_url, "--exit-on-error", plan.path)
    assert state(restored) == state(target)
    upgrade(restored)
    assert restored.read("select count(*) from agentmill.agent_performance").item() == 2
    assert restored.read("select count(*) from pg_namespace where nspname = 'agentmill_staging'").item() == 1


def test_a_logical_copy_brings_back_what_was(target, restored, tmp_path):
    folder = tmp_path / "backups" / "legacy-copy"
    write_backup(target, BackupPlan(folder, None))
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    before, rows = state(target), json.loads((folder / "manifest.json").read_text())["rows"]
    assert rows == {name: count for name, (count, _) in before[0].items()} | {"load_ledger": len(before[1])}
    upgrade(restored)
    pg_dump = plan_backup(target, tmp_path).pg_dump
    run_beside(pg_dump, "psql", restored.libpq_url, "-f", "restore.sql", cwd=folder)
    assert state(restored) == before
    with target.connect() as connection:
        connection.execute("delete from agentmill.executions")
    run_beside(pg_dump, "psql", target.libpq_url, "-f", "restore.sql", cwd=folder)
    assert state(target) == before


def test_no_password_stands_on_a_command_line(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(backup.subprocess, "run", lambda command, **options: seen.append((command, options["env"])))
    write_backup(
        Warehouse("postgresql://ann:hunter%402@db.example.org/shop?sslmode=require"),
        BackupPlan(tmp_path / "legacy.dump", Path("pg_dump")),
    )
    ((command, environment),) = seen
    assert "hunter" not in " ".join(map(str, command))
    assert (environment["PGPASSWORD"], environment["PGSSLMODE"]) == ("hunter@2", "require")


def test_transactions_without_an_id_are_told_apart_by_what_they_say(postgres, key):
    postgres.run(
        f"alter database {postgres.url.rpartition('/')[2]} set timezone = 'Asia/Kolkata'",
        """create table shop_agents (id int, stats text)""",
        """insert into shop_agents values (1, '{"totalExecutions": NaN}'), (2, '{"totalExecutions": 3'),"""
        """ (3, '{"totalExecutions": 3}')""",
        """create table shop_orders ("userId" int, "agentId" int, status text, "createdAt" timestamptz)""",
        """insert into shop_orders values (7, 3, 'ok', '2026-02-01 09:00+09'), (7, 3, 'ok', '2026-02-01 00:00Z'),"""
        """ (7, 3, 'ok', '2026-02-01 00:00:01Z')""",
    )
    shop = LegacySettings(url=postgres.url, cut=CUT, agents="public.shop_agents", transactions="shop_orders")
    plan = make_plan(shop, key)
    assert plan.balances.refused == {"not_a_number": 1, "not_an_object": 1}
    assert plan.balances.rows["agent_name"].to_list() == ["3"]
    assert plan.interactions.duplicates == 1
    midnight = datetime(2026, 2, 1, tzinfo=UTC)
    assert set(plan.interactions.rows["occurred_at"]) == {midnight, midnight + timedelta(seconds=1)}


def test_what_cannot_be_read_is_told_without_a_password(postgres, key):
    postgres.run("""create table "Agent" (id text)""")
    for url, says in (
        (postgres.url, r"Agent of postgresql://127.0.0.1:5432/\w+ has no column stats"),
        (postgres.url + "?application_name=x", "has no column stats"),
        ("postgresql://ann:hunter2@127.0.0.1:1/none", "cannot be read: OperationalError"),
    ):
        with pytest.raises(LegacyError, match=says) as caught:
            make_plan(LegacySettings(url=url, cut=CUT), key)
        assert "hunter2" not in str(caught.value)
    with pytest.raises(LegacyError, match='relation "Nowhere" does not exist'):
        make_plan(LegacySettings(url=postgres.url, cut=CUT, agents="Nowhere"), key)


@pytest.mark.parametrize("text", ["{" * 100_000, "1" * 5_000, '{"totalExecutions": "٣"}', '{"uniqueUsers": "1_0"}'])
def test_hostile_stats_are_refused(text):
    with pytest.raises(RefusedError, match=r"not_an_object|not_a_number"):
        read_stats(text)


def test_every_reason_is_documented():
    told = (REPOSITORY / "docs" / "legacy.md").read_text()
    assert [reason for reason, meaning in REASONS.items() if f"| `{reason}` | {meaning} |" not in told] == []

import itertools
import logging
import os
from contextlib import contextmanager

import psycopg
import pytest
from conftest import DAY, as_frame
from psycopg import sql

from pipelines.execution import EXECUTION, Privacy
from pipelines.warehouse.connection import Warehouse
from pipelines.warehouse.dictionary import load_dictionary
from pipelines.warehouse.ledger import Load
from pipelines.warehouse.migrations import downgrade, upgrade
from pipelines.warehouse.publish import publish_partition
from pipelines.warehouse.roles import (
    ANALYST,
    GROUPS,
    LOADER,
    ONCALL,
    OWNER,
    PRIVACY,
    READS,
    apply_roles,
    plan_roles,
    readable,
)

_logins = itertools.count(1)
DENIED = psycopg.errors.InsufficientPrivilege


def rows(count, **overrides):
    shared = {
        "source": "app",
        "row_hash": "0",
        "agent_id": "a",
        "agent_name": "a",
        "user_key": "k1_u",
        "status": "failed",
        "error_message": "boom",
        "event_time": f"{DAY}T12:00:00Z",
        "cost_source": "unpriced",
        "quality_flags": [],
        **overrides,
    }
    frame = as_frame(
        [{**shared, "execution_id": f"r{number}"} for number in range(count)],
        {
            **EXECUTION,
            "event_time": EXECUTION["execution_id"],
        },
    )
    return frame.with_columns(frame["event_time"].str.to_datetime(time_unit="us", time_zone="UTC")).match_to_schema(
        EXECUTION
    )


def put(warehouse, count, content):
    frame = rows(count)
    load = Load(table="executions", day=DAY, content=content, rows=count)
    return publish_partition(warehouse, load, frame, lambda _: None)


@pytest.fixture
def swapped(warehouse):
    """A warehouse whose one day was published, and published again."""
    put(warehouse, 1, "one")
    put(warehouse, 2, "two")
    return warehouse


@contextmanager
def acting(warehouse, role):
    with warehouse.connect() as connection:
        connection.execute(sql.SQL("set role {}").format(sql.Identifier(role)))
        yield connection


def allowed(connection, statement):
    try:
        with connection.transaction(force_rollback=True):
            connection.execute(statement)
    except DENIED:
        return False
    return True


@pytest.fixture
def login():
    """Make a login role that is a member of groups; the warehouse as it sees it, and its name. Dropped afterwards."""
    made = []

    def make(of, *groups, options=""):
        name = f"agentmill_test_{os.getpid()}_{next(_logins)}"
        made.append((of, name))
        with of.connect() as connection:
            connection.execute(f"create role {name} login {options}")
            for group in groups:
                connection.execute(f"grant {group} to {name}")
        return Warehouse(of.libpq_url.replace("postgres:", f"{name}:").replace("//root@", f"//{name}@")), name

    yield make
    for of, name in made:
        with of.connect() as connection:
            connection.execute(f"reassign owned by {name} to current_user")
            connection.execute(f"drop owned by {name} cascade")
            connection.execute(f"drop role {name}")


@pytest.mark.parametrize("role", READS)
def test_a_reader_reads_the_columns_of_its_classes_and_no_others_also_after_a_swap(swapped, role):
    with acting(swapped, role) as connection:
        for relation in load_dictionary().relations.values():
            for column, definition in relation.columns.items():
                question = sql.SQL("select {} from {}").format(
                    sql.Identifier(column), sql.Identifier(relation.schema, relation.name)
                )
                expected = definition.privacy in READS[role]
                assert allowed(connection, question) == expected, (role, relation.name, column)


SEEN = {
    ANALYST: {"select count(*), max(status) from executions", "select error_message from recent_failures"},
    ONCALL: {
        "select error_message, stack, user_key, session_key from executions",
        "select * from recent_failures",
        "select * from user_activity_daily",
    },
    PRIVACY: {"select * from executions", "select * from erased_users", "select * from access_audit"},
}
UNSEEN = {
    ANALYST: {
        "select * from executions",
        "select user_key from recent_failures",
        "select error_message from executions",
        "select 1 from executions where user_key = 'k1_u'",
        "select 1 from executions order by stack",
        "select executions from executions",
        "select feedback from user_agent_preferences",
        "select sample_message from failure_clusters",
        "select count(*) from erased_users",
        "select kind, count(*) from user_activity_daily, unnest(execution_types) as kind group by 1",
        "select agent_id, avg(rating) from user_agent_preferences group by 1",
        "select count(agent_id) from interaction_history",
        "select rating from user_agent_ratings",
        "select user_key from user_agent_interactions",
        'select id from compat."UserAgentInteraction"',
        'select "userId" from compat."UserAgentInteraction"',
    },
    ONCALL: {
        "select client_ip_prefix from executions",
        "select feedback from user_agent_interactions",
        "select count(*) from erased_users",
        "select statement from access_audit",
    },
    PRIVACY: set(),
}
CLOSED_TO_READERS = {
    f"select 1 from agentmill_partitions.executions_{DAY:%Y_%m_%d}",
    f"select 1 from agentmill_partitions.executions_{DAY:%Y_%m}",
    "select 1 from agentmill_staging.executions_left",
    "insert into load_ledger default values",
    "update executions set status = 'success'",
    "delete from executions",
    "truncate executions",
    "create table agentmill.mine (n int)",
    "drop table executions",
    f"set role {OWNER}",
}


@pytest.mark.parametrize("role", READS)
def test_what_each_reader_can_ask_and_cannot(swapped, role):
    with swapped.connect() as connection:
        connection.execute("create table agentmill_staging.executions_left (n int)")
    with acting(swapped, role) as connection:
        assert {one for one in SEEN[role] if not allowed(connection, one)} == set()
        refused = UNSEEN[role] | (CLOSED_TO_READERS - {f"set role {OWNER}"})
        assert {one for one in refused if allowed(connection, one)} == set()


def test_older_names_tell_an_analyst_no_more_messages_than_recent_failures(warehouse):
    frame = rows(2)
    frame = frame.with_columns(status=frame["execution_id"].replace_strict({"r0": "failed", "r1": "cancelled"}))
    load = Load(table="executions", day=DAY, content="two", rows=2)
    publish_partition(warehouse, load, frame, lambda _: None)
    with acting(warehouse, ANALYST) as connection:
        for question in (
            'select id, "errorMessage" from compat."AgentExecution" order by 1',
            'select id, "errorMessage" from compat."agentExecutionLogs" order by 1',
            "select run_id, error_message from compat.agent_runs order by 1",
        ):
            assert connection.execute(question).fetchall() == [("r0", "boom"), ("r1", None)]


def test_a_login_of_an_analyst_becomes_nothing_else(swapped, login):
    analyst, _ = login(swapped, ANALYST)
    morning = "select agentmill.user_count(%s::timestamptz, %s::timestamptz + interval '13 hours')"
    bounds = [f"{DAY}T00:00:00Z"] * 2
    assert swapped.read(morning, bounds).item() == 1
    with analyst.connect() as connection:
        assert connection.execute("select count(*) from agentmill.executions").fetchone() == (2,)
        assert connection.execute(morning, bounds).fetchone() == (None,)  # without any `set role`
        assert not any(allowed(connection, f"set role {group}") for group in GROUPS if group != ANALYST)
        refused = UNSEEN[ANALYST] | CLOSED_TO_READERS
        assert {one for one in refused if allowed(connection, one)} == set()
    upgrade(analyst)  # nothing is to be done, so nothing is refused


def test_loaders_publish_and_swap_each_others_days_and_change_nothing_else(warehouse, login):
    first, second = (login(warehouse, LOADER)[0] for _ in range(2))
    for number, loader in enumerate((first, second, first)):
        upgrade(loader)
        assert put(loader, number + 1, f"{number}")
    assert warehouse.read("select count(*) from agentmill.executions").item() == 3
    with first.connect() as connection:
        for statement in (
            "drop table agentmill.load_ledger",
            "create table agentmill.mine (n int)",
            "drop schema agentmill",
        ):
            assert not allowed(connection, statement), statement
    with acting(warehouse, ANALYST) as connection:
        assert connection.execute("select count(*) from executions").fetchone() == (3,)
        assert not allowed(connection, f"select 1 from agentmill_partitions.executions_{DAY:%Y_%m_%d}")


def test_an_owner_changes_the_schema_back_and_forth(warehouse, login):
    owner, name = login(warehouse, OWNER)
    with warehouse.connect() as connection:
        database = connection.info.dbname
        connection.execute(f"grant create on database {database} to {name}")
    put(owner, 2, "one")
    downgrade(owner, "0003")
    upgrade(owner)
    assert owner.read("select count(*) from agentmill.executions").item() == 2
    with acting(warehouse, ANALYST) as connection:
        assert allowed(connection, "select count(*), max(input_depth) from executions")


def test_tables_that_appear_are_closed_to_readers(warehouse):
    with warehouse.connect() as connection:
        connection.execute(f"alter default privileges in schema agentmill grant select on tables to {ANALYST}, public")
        apply_roles(connection)
        connection.execute("create table agentmill.later (n int)")
        connection.execute(f"set role {OWNER}")
        connection.execute("create table agentmill.latest (n int)")
        connection.execute("create function agentmill.latest() returns int return 1")
    for role in READS:
        with acting(warehouse, role) as connection:
            for question in ("select n from later", "select n from latest", "select agentmill.latest()"):
                assert not allowed(connection, question), (role, question)
    with acting(warehouse, LOADER) as connection:
        assert allowed(connection, "insert into later values (1)")
        assert allowed(connection, "insert into latest values (1)")


def test_what_was_opened_by_hand_is_closed_again_and_said_before(warehouse):
    with warehouse.connect() as connection:
        assert plan_roles(connection) == []
        connection.execute("grant select on agentmill.erased_users to public")
        connection.execute(f"grant select (user_key) on agentmill.executions to {ANALYST}")
        connection.execute(f"grant usage on schema agentmill_partitions to {ANALYST}")
        connection.execute(f"revoke select on agentmill.agent_performance from {ANALYST}")
        planned = plan_roles(connection)
        assert set(planned) == {
            'revoke select on table "agentmill"."erased_users" from public',
            f'revoke select ("user_key") on table "agentmill"."executions" from "{ANALYST}"',
            f'revoke usage on schema "agentmill_partitions" from "{ANALYST}"',
            f'grant select on table "agentmill"."agent_performance" to "{ANALYST}"',
        }
        assert apply_roles(connection) == planned
        assert plan_roles(connection) == []
        assert readable(connection)["executions"][ANALYST] == "63 of 69 columns"


def test_every_stored_class_is_read_by_somebody_and_each_group_reads_more():
    assert READS[ANALYST] < READS[ONCALL] < READS[PRIVACY] == set(Privacy) - {Privacy.PERSONAL, Privacy.SECRET}


def test_only_privacy_and_owner_see_single_users(warehouse, login):
    _, member = login(warehouse, PRIVACY)
    _, nobody = login(warehouse, ANALYST, ONCALL)
    with warehouse.connect() as connection:
        connection.execute("create view agentmill.singles as select 1 as n where agentmill.sees_single_users()")
        connection.execute("grant select on agentmill.singles to public")
    for role, expected in {
        PRIVACY: True,
        OWNER: True,
        ANALYST: False,
        ONCALL: False,
        member: True,
        nobody: False,
    }.items():
        with acting(warehouse, role) as connection:
            assert connection.execute("select agentmill.sees_single_users()").fetchone() == (expected,), role
            seen = connection.execute("select count(*) from agentmill.singles").fetchone()
            assert seen == (int(expected),), "a view asks about its reader, not about its owner"


def test_a_user_who_may_not_make_roles_is_warned_once_and_owns_what_it_made(any_database, login, caplog):
    admin = Warehouse(any_database)
    plain, name = login(admin)
    with admin.connect() as connection:
        connection.execute(f"grant create on database {connection.info.dbname} to {name}")
    with caplog.at_level(logging.WARNING):
        upgrade(plain)
        upgrade(plain)
    assert len([one for one in caplog.records if "may not" in one.message]) == 1
    put(plain, 1, "one")
    put(plain, 2, "two")
    assert plain.read("select count(*) from agentmill.executions").item() == 2
    assert plain.read("select agentmill.sees_single_users()").item() is True


def test_a_user_who_may_make_roles_sets_everything_up(any_database, login, caplog):
    admin = Warehouse(any_database)
    plain, name = login(admin, options="createrole")
    with admin.connect() as connection:
        connection.execute(f"grant create on database {connection.info.dbname} to {name}")
        if connection.info.server_version >= 160000:  # there, creating roles gives no right to those of others
            connection.execute(f"grant {OWNER} to {name}")
    with caplog.at_level(logging.WARNING):
        upgrade(plain)
    assert [one.message for one in caplog.records] == []
    put(plain, 2, "two")
    with acting(admin, ANALYST) as connection:
        assert allowed(connection, "select count(*) from executions")
        assert not allowed(connection, "select user_key from executions")


def test_every_readers_login_is_logged_and_no_others(warehouse, login):
    _, reader = login(warehouse, ONCALL)
    _, loader = login(warehouse, LOADER)
    with warehouse.connect() as connection:
        told = apply_roles(connection)
        assert [one for one in told if reader in one and "log_statement" in one]
        assert not [one for one in told if loader in one]
        assert apply_roles(connection) == []

import itertools
import os
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import polars as pl
import psycopg
import pytest
from conftest import DAY
from psycopg import sql

from pipelines.failures.decisions import DecisionError, decide, of_clusters, read_decisions
from pipelines.failures.lifecycle import DECISIONS
from pipelines.warehouse.connection import Warehouse
from pipelines.warehouse.dictionary import DictionaryError, load_dictionary, parse_dictionary
from pipelines.warehouse.migrations import downgrade, upgrade
from pipelines.warehouse.roles import ANALYST, LOADER, ONCALL, OWNER, PRIVACY, apply_roles, plan_roles

DENIED = psycopg.errors.InsufficientPrivilege
PAST = datetime(2026, 3, 10, 12, tzinfo=UTC)
APPEND_ONLY = (
    "candidate_reviews",
    "failure_decisions",
    "regression_case_inputs",
    "regression_result_files",
    "regression_results",
    "signature_aliases",
)
SIGNATURES = {"fs_aaaa1": "fs_aaaa1", "fs_aaaa2": "fs_aaaa1", "fs_aabb3": "fs_aabb3"}
_logins = itertools.count(1)


def put(connection, table, **values):
    names = [*map(sql.Identifier, values)]
    places = [sql.Placeholder()] * len(values)
    connection.execute(
        sql.SQL("insert into {} ({}) values ({})").format(
            sql.Identifier("agentmill", table), sql.SQL(", ").join(names), sql.SQL(", ").join(places)
        ),
        [*values.values()],
    )


def put_fact(connection, signature_id, environment):
    """A daily fact of which only signature and environment matter; what must not be null is filled in."""
    filled = {"bigint": 1, "text": "x", "timestamp with time zone": PAST, "ARRAY": []}
    needed = connection.execute(
        "select column_name, data_type from information_schema.columns where table_schema = 'agentmill' "
        "and table_name = 'failure_signatures_daily' and is_nullable = 'NO'"
    ).fetchall()
    values = {name: DAY if kind == "date" else filled[kind] for name, kind in needed}
    put(
        connection,
        "failure_signatures_daily",
        **(values | {"signature_id": signature_id, "environment": environment}),
    )


@pytest.fixture
def known(warehouse):
    """A warehouse with two failures, one of them of two signatures, seen in two environments."""
    with warehouse.connect() as connection:
        for signature_id, cluster_id in SIGNATURES.items():
            put(
                connection,
                "failure_cluster_signatures",
                signature_id=signature_id,
                cluster_id=cluster_id,
                occurrence_count=1,
            )
        put_fact(connection, "fs_aaaa1", "prod")
        put_fact(connection, "fs_aaaa2", "staging")
        put_fact(connection, "fs_aabb3", "test")
    return warehouse


@contextmanager
def acting(warehouse, role):
    with warehouse.connect() as connection:
        connection.execute(sql.SQL("set role {}").format(sql.Identifier(role)))
        yield connection


def test_a_decision_is_entered_with_who_and_why(known):
    number = decide(known, "fs_aaaa1", "resolve", "ann", "longer timeout", environment="prod", fixed_in_version="1.2")
    (row,) = read_decisions(known).to_dicts()
    assert row["effective_at"] > PAST
    assert {**row, "effective_at": None} == {
        "decision_id": number,
        "effective_at": None,
        "decided_by": "ann",
        "cluster_id": "fs_aaaa1",
        "environment": "prod",
        "action": "resolve",
        "fixed_in_version": "1.2",
        "muted_until": None,
        "until_escalating": False,
        "reason": "longer timeout",
    }


def test_any_signature_or_six_characters_of_one_name_a_failure(known):
    for name in ("fs_aaaa2", "fs_aaa", "fs_aaaa"):
        decide(known, name, "mute", "ann", "noise")
    assert set(read_decisions(known)["cluster_id"]) == {"fs_aaaa1"}


LATER = datetime.now(UTC) + timedelta(days=1)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"cluster_id": "fs_zzzz9"}, "There is no failure fs_zzzz9"),
        ({"cluster_id": "fs_ab"}, "There is no failure fs_ab"),
        ({"cluster_id": "fs_aa"}, "at least six characters"),
        ({"action": "delete"}, "There is no action delete"),
        ({"reason": " \n"}, "must not be blank"),
        ({"by": ""}, "must not be blank"),
        ({"environment": "prd"}, "never seen in the environment prd, but in: prod, staging"),
        ({"environment": "test"}, "never seen in the environment test"),
        ({"effective_at": LATER}, "cannot hold from a time to come"),
        ({"fixed_in_version": "1.2"}, "belongs to the action resolve"),
        ({"action": "unmute", "until_escalating": True}, "belong to the action mute"),
        ({"muted_until": PAST}, "over before it starts"),
        ({"effective_at": PAST, "muted_until": PAST - timedelta(days=1)}, "over before it starts"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_a_sentence(known, given, told):
    with pytest.raises(DecisionError, match=told):
        decide(known, **{"cluster_id": "fs_aaaa1", "action": "mute", "by": "ann", "reason": "noise", **given})
    assert read_decisions(known).height == 0


def test_characters_that_several_failures_share_are_no_name(known):
    with known.connect() as connection:
        put(
            connection,
            "failure_cluster_signatures",
            signature_id="fs_aaac4",
            cluster_id="fs_aaac4",
            occurrence_count=1,
        )
    with pytest.raises(DecisionError, match="2 failures have an id that starts with fs_aaa: give more"):
        decide(known, "fs_aaa", "mute", "ann", "noise")
    decide(known, "fs_aaaa", "mute", "ann", "noise")


def test_a_reason_is_sanitized(known):
    decide(known, "fs_aaaa1", "mute", "ann", "bob@example.org asked, token sk-proj-abcdefghijklmnopqrstuvwxyz123456")
    (reason,) = read_decisions(known)["reason"]
    assert "bob@example.org" not in reason
    assert "abcdefghijklmnop" not in reason
    assert "asked" in reason


def test_names_and_versions_are_sanitized_too(known):
    decide(known, "fs_aaaa1", "resolve", "bob@example.org", "why", fixed_in_version="1.2 of bob@example.org")
    (row,) = read_decisions(known).to_dicts()
    assert (row["decided_by"], row["fixed_in_version"]) == ("<email>", "1.2 of <email>")


def test_a_decision_keeps_all_signatures_that_its_failure_has(known):
    decide(known, "fs_aaaa2", "mute", "ann", "noise")
    kept = known.read("select cluster_id, signature_ids from agentmill.failure_decisions").row(0)
    assert kept == ("fs_aaaa1", ["fs_aaaa1", "fs_aaaa2"])


def test_decisions_count_in_the_order_of_the_times_from_which_they_hold(known):
    decide(known, "fs_aaaa1", "resolve", "ann", "second", effective_at=PAST + timedelta(hours=1))
    decide(known, "fs_aaaa1", "resolve", "ann", "first", effective_at=PAST)
    decide(known, "fs_aaaa1", "reopen", "ann", "third", effective_at=PAST + timedelta(hours=1))
    assert read_decisions(known)["reason"].to_list() == ["first", "second", "third"]
    assert read_decisions(known).schema == DECISIONS


def test_clusters_that_became_one_keep_all_decisions(known):
    for cluster_id in ("fs_aaaa1", "fs_aabb3", "fs_aaaa1"):
        decide(known, cluster_id, "mute", "ann", cluster_id)
    merged = pl.DataFrame({"signature_id": [*SIGNATURES], "cluster_id": ["fs_aaaa1"] * 3})
    found = of_clusters(read_decisions(known), merged)
    assert found["cluster_id"].to_list() == ["fs_aaaa1"] * 3
    assert found["reason"].to_list() == ["fs_aaaa1", "fs_aabb3", "fs_aaaa1"]
    assert of_clusters(found, merged.filter(signature_id="fs_aabb3")).height == 0
    assert of_clusters(DECISIONS.to_frame(), merged).schema == DECISIONS


def test_what_was_entered_is_never_changed_not_even_by_the_owner(known):
    decide(known, "fs_aaaa1", "mute", "ann", "noise")
    changeable = {
        "regression_case_inputs": "agent_id",
        "regression_results": "message",
        "regression_result_files": "problem",
    }
    for role, table in itertools.product((OWNER, "postgres"), APPEND_ONLY):
        with acting(known, role) as connection:
            for change in (
                f"update agentmill.{table} set {changeable.get(table, 'reason')} = 'x'",
                f"delete from agentmill.{table}",
                f"truncate agentmill.{table}",
            ):
                with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match=f"{table} is only ever added to"):
                    connection.execute(change)
    assert read_decisions(known).height == 1


def test_a_refusal_says_what_to_do_instead(known):
    with (
        known.connect() as connection,
        pytest.raises(psycopg.Error, match="decide something else with agentmill"),
    ):
        connection.execute("delete from agentmill.failure_decisions")


def test_changes_are_refused_again_after_an_upgrade(known):
    downgrade(known, "0009")
    upgrade(known)
    with known.connect() as connection, pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
        connection.execute("truncate agentmill.failure_decisions")


def test_every_table_of_the_dictionary_that_is_only_added_to_is_guarded(warehouse):
    guarded = warehouse.read(
        "select event_object_table::text as name, array_agg(distinct event_manipulation::text) as events "
        "from information_schema.triggers where trigger_name = 'never_changed' group by 1 order by 1"
    )
    listed = [one.name for one in load_dictionary().relations.values() if one.append_only]
    assert guarded["name"].to_list() == sorted(listed) == list(APPEND_ONLY)
    assert all(set(events) == {"UPDATE", "DELETE"} for events in guarded["events"]), "truncate is not listed there"


@pytest.fixture
def login(known):
    """Make a login that is a member of a group; the warehouse as it sees it, and its name."""
    made = []

    def make(group):
        name = f"agentmill_decider_{os.getpid()}_{next(_logins)}"
        made.append(name)
        with known.connect() as connection:
            connection.execute(f"create role {name} login")
            connection.execute(f"grant {group} to {name}")
        return Warehouse(known.libpq_url.replace("postgres:", f"{name}:")), name

    yield make
    with known.connect() as connection:
        for name in made:
            connection.execute(f"drop owned by {name} cascade")
            connection.execute(f"drop role {name}")


@pytest.mark.parametrize("group", [ONCALL, LOADER])
def test_on_call_and_loaders_decide_in_their_own_name(known, login, group):
    member, name = login(group)
    decide(member, "fs_aaaa1", "mute", "ann", "noise")
    row = known.read("select decided_by, database_user from agentmill.failure_decisions").row(0)
    assert row == ("ann", name)
    with member.connect() as connection:
        connection.execute("select agentmill.decide_failure('fs_aaaa1', 'unmute', 'over')")
    assert (
        known.read("select decided_by from agentmill.failure_decisions order by decision_id desc limit 1").item()
        == name
    )


@pytest.mark.parametrize("group", [ANALYST, PRIVACY])
def test_other_readers_decide_nothing(known, login, group):
    member, _ = login(group)
    with pytest.raises(DENIED):
        decide(member, "fs_aaaa1", "mute", "ann", "noise")
    assert read_decisions(known).height == 0


def test_on_call_reads_decisions_and_writes_them_through_the_function_alone(known):
    with acting(known, ONCALL) as connection:
        assert connection.execute("select count(*) from agentmill.failure_decisions").fetchone() == (0,)
        with pytest.raises(DENIED):
            put(
                connection,
                "failure_decisions",
                decided_by="ann",
                cluster_id="x",
                signature_ids=["x"],
                action="mute",
                reason="x",
            )


def test_loaders_add_to_such_tables_and_may_do_nothing_else(known):
    with acting(known, LOADER) as connection:
        for table in APPEND_ONLY:
            held = connection.execute(
                "select array_agg(privilege) from unnest(array['select', 'insert', 'update', 'delete', 'truncate']) "
                "as privilege where has_table_privilege(%s, privilege)",
                [f"agentmill.{table}"],
            ).fetchone()
            through_function = table in {"candidate_reviews", "failure_decisions"}
            assert held == ((["select"] if through_function else ["select", "insert"]),), table
    with known.connect() as connection:
        connection.execute(f"grant update, delete on agentmill.failure_decisions to {LOADER}")
        assert len(plan_roles(connection)) == 2
        apply_roles(connection)
        assert plan_roles(connection) == []


def test_a_function_may_name_its_callers_and_no_others():
    entry = {"call": "decide_failure() returns bigint", "use": "a test"}
    content = {"columns": {}, "tables": {}, "views": {}}
    for given, expected in (({}, None), ({"roles": []}, ()), ({"roles": [ONCALL]}, (ONCALL,))):
        known = parse_dictionary({**content, "functions": {"decide_failure": {**entry, **given}}})
        assert known.functions["decide_failure"].roles == expected
    entered = {"tables": {"decided": {"grain": "decision", "entered_by": "decide_failure"}}}
    with pytest.raises(DictionaryError, match="there is no function decide_failure"):
        parse_dictionary({**content, **entered, "functions": {}})
    with pytest.raises((DictionaryError, ValueError), match="agentmill_loader"):
        parse_dictionary({**content, "functions": {"decide_failure": {**entry, "roles": ["everybody"]}}})

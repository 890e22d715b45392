"""`agentmill failures` as a person and a script meet it, over published facts in a real database."""

import getpass
import json
import os
from datetime import UTC, datetime, timedelta

import pytest
from conftest import KEY_TEXT, as_frame, enter_day
from typer.testing import CliRunner

from assets.display import err, out
from assets.failures_cli import failures_app
from pipelines.execution import EXECUTION
from pipelines.failures import publish_clusters
from pipelines.failures.overview import BY_URGENCY
from pipelines.publication import publish_derived
from pipelines.settings import load_settings
from pipelines.warehouse import open_warehouse
from pipelines.warehouse.ledger import BusyError
from pipelines.warehouse.roles import ONCALL

NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)
DISK, QUOTA = "bang: the disk is full", "the quota of tokens is used up"


@pytest.fixture
def failures(monkeypatch):
    """Run a command of the group."""
    monkeypatch.setattr(out, "width", 250)
    monkeypatch.setattr(err, "width", 250)
    return lambda *words: CliRunner().invoke(failures_app, [*words])


@pytest.fixture
def publish(tmp_path, monkeypatch, empty_database, prices):
    """Publish days of failures, given as (days after the first, message, environment)."""
    path = tmp_path / "agentmill.yaml"
    path.write_text(
        json.dumps({"state_dir": f"{tmp_path}/state", "database_url": empty_database, "pseudonym_key": KEY_TEXT})
    )
    monkeypatch.setenv("AGENTMILL_CONFIG", str(path))
    warehouse = open_warehouse(load_settings())

    def run(*happened):
        for day in sorted({day for day, _, _ in happened}):
            rows = [
                {
                    "source": "app",
                    "execution_id": f"r{number}",
                    "row_hash": "0",
                    "agent_id": "a",
                    "agent_name": "a",
                    "status": "failed",
                    "error_message": message,
                    "environment": environment,
                    "event_time": NOON + timedelta(days=day, minutes=number),
                    "cost_source": "unpriced",
                    "quality_flags": [],
                }
                for number, (of, message, environment) in enumerate(happened)
                if of == day
            ]
            date = (NOON + timedelta(days=day)).date()
            publish_derived(enter_day(warehouse, date, as_frame(rows, EXECUTION)), warehouse, prices)
        publish_clusters(warehouse)
        return warehouse

    return run


@pytest.fixture
def known(publish):
    """Two failures: one old and in two environments, one new."""
    return publish((0, DISK, "prod"), (0, DISK, "test"), (4, QUOTA, "prod"), (4, QUOTA, "prod"))


def ids(failures):
    return {one["title"]: one["cluster_id"] for one in json.loads(failures("list", "--json").stdout)["failures"]}


def listed(failures, *words):
    done = failures("list", "--json", *words)
    assert done.exit_code == 0, done.output
    return [(one["environment"], one["state"], one["occurrence_count"]) for one in json.loads(done.stdout)["failures"]]


def test_failures_are_listed_the_most_urgent_first(failures, known):
    quota, disk = (next(one for title, one in ids(failures).items() if word in title) for word in ("quota", "disk"))
    assert failures("resolve", quota, "-r", "paid").exit_code == 0
    assert failures("mute", disk, "-r", "known", "--forever", "-e", "prod").exit_code == 0
    assert listed(failures) == [("test", "new", 1), ("prod", "resolved", 2), ("prod", "muted", 1)]
    assert listed(failures, "--environment", "prod") == [("prod", "resolved", 2), ("prod", "muted", 1)]
    assert listed(failures, "--state", "new", "--environment", "prod") == []
    assert failures("list", "--state", "new", "--environment", "prod").stdout == "There is none.\n"
    assert failures("list", "-e", "staging").stdout == "No failure happened in `staging`; some did in: prod, test.\n"
    shown = failures("list").stdout
    assert "disk is full" in shown
    assert "what it says" in shown


def test_what_is_different_about_a_failure_is_shown_with_it(failures, publish):
    known = publish(*[(0, DISK, "prod")] * 6, *[(0, QUOTA, "test")] * 6)
    (disk,) = (one for title, one in ids(failures).items() if "disk" in title)
    with known.connect() as connection:
        (told,) = connection.execute(
            "select count(*) from agentmill.failure_differences where cluster_id = %s", [disk]
        ).fetchone()
    assert told == 1
    assert "environment prod: 100.00% of 6 executions failed so, none of the others" in failures("show", disk).stdout


def test_nothing_and_nonsense_are_told_in_a_sentence(failures, publish):
    publish()
    assert "No failure has been published." in failures("list").stdout
    refused = failures("list", "--state", "broken")
    assert refused.exit_code == 2
    assert f"there are: {', '.join(BY_URGENCY)}" in refused.stderr
    refused = failures("show", "fs_nothing")
    assert refused.exit_code == 2
    assert "There is no failure `fs_nothing`" in refused.stderr


def test_a_failure_is_resolved_in_one_environment_and_reopened(failures, known):
    disk = next(one for title, one in ids(failures).items() if "disk" in title)
    done = failures("resolve", disk[:8], "--reason", "a larger disk", "--environment", "prod", "--fixed-in", "1.2")
    assert done.exit_code == 0, done.output
    assert f"{disk} in prod is resolved: resolved in version 1.2 by {getpass.getuser()}: a larger disk" in done.stdout
    assert f"{disk} in test is resolved" not in done.stdout
    assert (
        "prod is ongoing: reopened by ann: still full"
        in failures("reopen", disk, "-r", "still full", "--by", "ann").stdout
    )
    told = json.loads(failures("show", disk, "--json").stdout)
    assert [(one["action"], one["environment"], one["decided_by"]) for one in told["decisions"]] == [
        ("resolve", "prod", getpass.getuser()),
        ("reopen", None, "ann"),
    ]
    in_prod = [one["to_state"] for one in told["transitions"] if one["environment"] == "prod"]
    assert in_prod[-2:] == ["resolved", "ongoing"]
    assert {one["environment"] for one in told["states"]} == {"prod", "test"}
    shown = failures("show", disk).stdout
    for words in ("Where it stands", "How it came there", "What people decided", "a larger disk", DISK):
        assert words in shown, words


def test_a_mute_says_how_long(failures, known):
    quota = next(one for title, one in ids(failures).items() if "quota" in title)
    for words in ((), ("--forever", "--until-escalating"), ("--until", "2999-01-01", "--forever")):
        refused = failures("mute", quota, "--reason", "known", *words)
        assert refused.exit_code == 2
        assert "Say how long" in refused.stderr
    assert "would be over before it starts" in failures("mute", quota, "-r", "known", "--until", "2026-01-01").stderr
    assert (
        f"{quota} in prod is muted: muted until 2999-01-01 00:00 UTC by ann: known"
        in failures("mute", quota, "-r", "known", "--by", "ann", "--until", "2999-01-01").stdout
    )
    assert failures("unmute", quota, "-r", "enough").stdout.startswith(f"{quota} in prod is new: unmuted by ")
    assert failures("mute", quota, "-r", "known", "--until-escalating").exit_code == 0
    assert listed(failures, "--state", "muted") == [("prod", "muted", 2)]


def test_what_the_database_refuses_is_told_and_nothing_is_entered(failures, known):
    disk = next(one for title, one in ids(failures).items() if "disk" in title)
    refused = failures("resolve", disk, "-r", "done", "-e", "prd")
    assert refused.exit_code == 2
    assert "never seen in the environment prd, but in: prod, test." in refused.stderr
    assert known.read("select count(*) from agentmill.failure_decisions").item() == 0


def test_reasons_are_kept_without_secrets(failures, known):
    disk = next(one for title, one in ids(failures).items() if "disk" in title)
    assert failures("resolve", disk, "-r", "bob@example.org said so").exit_code == 0
    assert "bob@example.org" not in failures("show", disk, "--json").stdout


def test_a_person_on_call_decides_and_states_follow_with_the_next_run(failures, known, monkeypatch):
    disk = next(one for title, one in ids(failures).items() if "disk" in title)
    name = f"agentmill_oncall_{os.getpid()}"
    with known.connect() as connection:
        connection.execute(f"create role {name} login in role {ONCALL}")
    try:
        monkeypatch.setenv("AGENTMILL_DATABASE_URL", known.libpq_url.replace("postgres:", f"{name}:"))
        assert disk in failures("list").stdout
        done = failures("resolve", disk, "-r", "done", "--by", "ann")
        assert done.exit_code == 0, done.output
        assert "It is entered; the tables follow with the next run (permission denied" in done.stderr
        decided = known.read("select decided_by, database_user from agentmill.failure_decisions").rows()
        assert decided == [("ann", name)]
    finally:
        with known.connect() as connection:
            connection.execute(f"drop owned by {name}")
            connection.execute(f"drop role {name}")
    states = "select state from agentmill.failure_states where cluster_id = %s"
    assert known.read(states, [disk])["state"].to_list() == ["new", "new"]
    publish_clusters(known)
    assert known.read(states, [disk])["state"].to_list() == ["resolved", "resolved"]


def test_a_decision_holds_where_states_cannot_be_derived_at_once(failures, known, monkeypatch):
    def busy(*_):
        raise BusyError("failure_clusters is being loaded")

    monkeypatch.setattr("assets.entering.refresh", busy)
    disk = next(one for title, one in ids(failures).items() if "disk" in title)
    done = failures("resolve", disk, "-r", "done")
    assert done.exit_code == 0
    assert "It is entered; the tables follow with the next run (failure_clusters is being loaded)." in done.stderr
    assert known.read("select count(*) from agentmill.failure_decisions").item() == 1

import subprocess
import sys
import time
from datetime import UTC, datetime

import psycopg
import pytest
from conftest import REPOSITORY
from hypothesis import given
from hypothesis import strategies as st

from pipelines.warehouse.audit import Entry, accesses, load_audit, mask_literals
from pipelines.warehouse.connection import Warehouse
from pipelines.warehouse.migrations import upgrade
from pipelines.warehouse.roles import ANALYST, apply_roles
from pipelines.warehouse.server import database_url, start_server

PERSON = "ann@example.org"
LOGGING = """
logging_collector = on
log_destination = 'csvlog,jsonlog'
log_directory = 'audit'
log_filename = 'postgresql'
log_timezone = 'Asia/Kathmandu'
"""


@pytest.fixture(scope="module")
def logged(tmp_path_factory):
    """A warehouse on a server that keeps CSV and JSON logs, a login of an analyst, and where the logs are."""
    data = tmp_path_factory.mktemp("logged") / "data"
    made = "import sys; from pathlib import Path; from pipelines.warehouse.server import start_server as start"
    command = [sys.executable, "-c", f"{made}; start(Path(sys.argv[1]))", data]
    subprocess.run(command, cwd=REPOSITORY, check=True)  # the server stops when this ends
    with (data / "postgresql.conf").open("a") as config:
        config.write(LOGGING)
    warehouse = Warehouse(database_url(start_server(data), "audited"))
    upgrade(warehouse)
    with warehouse.connect() as connection:
        connection.execute(f"create role reader login in role {ANALYST}")
        connection.execute("alter role reader set search_path = agentmill")
        apply_roles(connection)
    return warehouse, warehouse.libpq_url.replace("postgres:", "reader:"), data / "audit"


def in_log(folder, words):
    """Wait until the server's log has some words; it is written by a process of its own."""
    for _ in range(200):
        if all(
            path.exists() and words in path.read_text()
            for path in (folder / "postgresql.csv", folder / "postgresql.json")
        ):
            return
        time.sleep(0.05)
    raise AssertionError(f"{words} did not come into the log")


def test_what_a_login_asks_is_audited_once_whatever_the_format(logged):
    warehouse, url, folder = logged
    with psycopg.connect(url, autocommit=True, application_name="a dashboard") as connection:
        connection.execute(f"select count(*) /* of {PERSON} */ from executions\nwhere agent_name = '{PERSON}'")
        connection.execute("select day from agentmill.agent_performance where agent_id = %s and 7 > 5", [PERSON])
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("select user_key from Erased_Users")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("select user_key from erased_users where user_key = %s", [PERSON])
        with pytest.raises(psycopg.errors.SyntaxError):
            connection.execute(f"selct '{PERSON}")
        connection.execute("begin; select 'quiet' from load_ledger; commit")
        connection.execute("select 'the last'")
    in_log(folder, "the last")
    assert load_audit(warehouse, str(folder / "*.csv")).new == 7
    told = warehouse.read(
        "select kind, objects, sql_state, statement from agentmill.access_audit order by session_line"
    )
    assert told.rows() == [
        ("select", ["executions"], None, "select count(*) from executions where agent_name = ?"),
        (
            "select",
            ["agent_performance"],
            None,
            "select day from agentmill.agent_performance where agent_id = $1 and ? > ?",
        ),
        ("select", ["erased_users"], "42501", "select user_key from Erased_Users"),
        ("select", ["erased_users"], "42501", "select user_key from erased_users where user_key = $1"),
        ("selct", [], "42601", "selct ?"),
        ("begin", ["load_ledger"], None, "begin; select ? from load_ledger; commit"),
        ("select", [], None, "select ?"),
    ]
    about = warehouse.read(
        "select login, database, application, (duration_ms is not null) = (sql_state is null) as has_duration, "
        "abs(extract(epoch from now() - logged_at)) < 300 as is_recent, count(*) from agentmill.access_audit "
        "group by 1, 2, 3, 4, 5"
    )
    assert about.rows() == [("reader", "audited", "a dashboard", True, True, 7)]
    again = load_audit(warehouse, str(folder / "*.csv"))
    as_json = load_audit(warehouse, str(folder / "*.json"))
    assert (again.new, as_json.new) == (0, 0)
    assert again.statements == as_json.statements == 7
    assert PERSON not in str(warehouse.read("select * from agentmill.access_audit").rows())


def test_lines_that_cannot_be_read_are_counted_and_stop_nothing(logged, tmp_path):
    warehouse, url, folder = logged
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("select 'torn', count(*) from receipts_daily")
        connection.execute("select 'after'")
    in_log(folder, "'after'")
    for ending in ("csv", "json"):
        text = (folder / f"postgresql.{ending}").read_bytes()
        whole = text[: text.rindex(b"select 'after'")]
        (tmp_path / f"torn.{ending}").write_bytes(b"\xff nonsense\n" + whole)
    before = load_audit(warehouse, str(tmp_path / "torn.csv"))
    assert (before.new > 0, before.unreadable) == (True, 2)
    as_json = load_audit(warehouse, str(tmp_path / "torn.json"))
    assert (as_json.new, as_json.unreadable) == (0, 2)


def test_a_log_that_is_not_there_is_told(logged, tmp_path):
    with pytest.raises(FileNotFoundError, match="access_log"):
        load_audit(logged[0], str(tmp_path / "*.csv"))


def entry(message, line=1, session="s", **fields):
    given = {"session_id": session, "line_num": str(line), "dbname": "db", "user": "u", "message": message, **fields}
    return Entry(datetime(2026, 3, 10, tzinfo=UTC), given)


def test_a_statement_that_is_still_running_gets_its_duration_with_the_next_load(logged, monkeypatch):
    warehouse = logged[0]
    entries = [entry("statement: select 1 from executions", session="running", dbname="audited")]
    monkeypatch.setattr("pipelines.warehouse.audit._readable", lambda *_: entries)
    question = "select duration_ms from agentmill.access_audit where session_id = 'running'"
    load_audit(warehouse, str(logged[2] / "*.csv"))
    assert warehouse.read(question).rows() == [(None,)]
    entries.append(entry("duration: 2.5 ms", 2, session="running", dbname="audited"))
    assert load_audit(warehouse, str(logged[2] / "*.csv")).new == 0
    assert warehouse.read(question).rows() == [(2.5,)]


def test_sessions_do_not_mix_and_other_databases_are_left_out():
    told = accesses(
        [
            entry("statement: select 1 from executions", 1, "a"),
            entry("statement: select 2 from load_ledger", 1, "b"),
            entry("duration: 5.0 ms", 2, "b"),
            entry("statement: select 3", 1, "c", dbname="another"),
            entry("connection authorized", 3, "a"),
            entry("duration: 7.0 ms", 2, "a"),
            entry("duration: 1.5 ms  statement: select 4", 3, "a"),
        ],
        "db",
    )
    assert [(one.session_id, one.duration_ms, one.objects) for one in told] == [
        ("b", 5.0, ("load_ledger",)),
        ("a", 7.0, ("executions",)),
        ("a", 1.5, ()),
    ]


def test_pgaudit_adds_the_objects_that_it_saw():
    audited = 'AUDIT: SESSION,1,1,READ,SELECT,TABLE,agentmill.{},"select day, 1 from agent_performance",<not logged>'
    told = list(
        accesses(
            [
                entry("statement: select day, 1 from agent_performance", 1),
                entry(audited.format("agent_performance"), 2),
                entry(audited.format("agent_metrics_daily"), 3),
                entry("duration: 7.0 ms", 4),
            ],
            "db",
        )
    )
    assert [(one.session_line, one.objects, one.duration_ms) for one in told] == [
        (1, ("agent_metrics_daily", "agent_performance"), 7.0)
    ]


@pytest.mark.parametrize(
    ("statement", "masked"),
    [
        (
            "select 'it''s', e'a\\'b', $$x$$, $q$ 'y' $$ $q$, u&'z', 1.5e3, -7 from t",
            "select ?, ?, ?, ?, ?, ?, -? from t",
        ),
        (
            'select "Ann ""x""".b, a1, $1 from s.t2 -- Ann\nwhere n=1',
            'select "Ann ""x""".b, a1, $1 from s.t2 where n=?',
        ),
        ("/* a /* b */ 'c */ select 1", "select ?"),
        ("select /* no end 'x'", "select"),
        ("select 'no end", "select ?"),
        ("select $a$ no end", "select ?"),
        ("select date'2026-03-10', x'1F', a$$b$$", "select date?, ?, a$$b$$"),
    ],
)
def test_literals_and_comments_are_masked(statement, masked):
    assert mask_literals(statement) == masked


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=30))
def test_no_literal_of_a_question_is_kept(value):
    quoted = "'" + f"<{value}>".replace("'", "''") + "'"
    escaped = "E'" + f"<{value}>".replace("\\", "\\\\").replace("'", "\\'") + "'"
    statement = f"select * from executions where a = {quoted} and b = {escaped} and c = {quoted}"
    assert mask_literals(statement) == "select * from executions where a = ? and b = ? and c = ?"

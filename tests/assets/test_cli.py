"""The command line as a person and a script meet it: real processes, their output and exit codes."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from http.client import HTTPConnection
from importlib.metadata import version
from pathlib import Path

import pytest
from conftest import DAY, KEY_TEXT, MAPPING

AGENTMILL = Path(sys.executable).with_name("agentmill")


@pytest.fixture
def agentmill(tmp_path):
    """Run a command in the test's folder."""

    def run(*words, **environment):
        return subprocess.run(
            [AGENTMILL, *words],
            cwd=tmp_path,
            env={**os.environ, "COLUMNS": "200", **environment},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


@pytest.fixture
def configured(tmp_path, empty_database):
    """Write a configuration of one source over `<tmp>/logs`."""
    source = {"path": "logs/*", "settle_seconds": 0, "mapping": MAPPING}
    content = {"database_url": empty_database, "pseudonym_key": KEY_TEXT, "sources": {"app": source}}
    (tmp_path / "agentmill.yaml").write_text(json.dumps(content))
    return tmp_path


def test_the_version_is_told_where_nothing_is_configured(agentmill):
    told = agentmill("--version")
    assert (told.returncode, told.stderr) == (0, "")
    assert told.stdout.startswith(f"agentmill {version('agentmill')} ")


def test_init_writes_a_starter_and_a_private_key_and_overwrites_nothing(agentmill, tmp_path):
    assert agentmill("init").returncode == 0
    key = tmp_path / "agentmill.key"
    assert key.stat().st_mode & 0o777 == 0o600
    written = key.read_text()
    again = agentmill("init")
    assert "stays as it is" in again.stdout
    assert key.read_text() == written
    checked = agentmill("config", "check")
    assert checked.returncode == 0
    assert "valid" in checked.stdout
    assert written.split(":")[1][:8] not in checked.stdout


def test_nothing_runs_without_a_key(agentmill):
    told = agentmill("run")
    assert told.returncode == 2
    assert "agentmill init" in told.stderr
    assert "Traceback" not in told.stderr


def test_a_mistake_in_the_configuration_is_told_with_line_and_fix(agentmill, tmp_path):
    (tmp_path / "agentmill.yaml").write_text("sources:\n  app:\n    paht: logs/*\n    mapping: {}\n")
    for command in (["run"], ["status"], ["sql", "select 1"]):
        told = agentmill(*command)
        assert told.returncode == 2
        assert "line 3: sources.app.paht" in told.stderr
    checked = agentmill("config", "check", "--json")
    assert checked.returncode == 2
    problems = json.loads(checked.stdout)["problems"]
    assert [problem["line"] for problem in problems] == [2, 3, 4]
    assert problems[1]["where"] == "sources.app.paht"


def test_preview_shows_samples_and_problems_without_personal_data(agentmill, configured, write_log, record):
    failed = record(error="mail ann@example.org", state="failed", cost=None)
    write_log(record(), record(state="limbo"), failed, "{torn")
    told = agentmill("source", "preview", "app", "--rows", "1")
    assert told.returncode == 0
    assert "4 records read of 1 input: 2 executions" in told.stdout
    assert "cost_usd" in told.stdout
    assert "error_message" not in told.stdout
    assert "limbo" in told.stdout
    assert "ann@example.org" not in told.stdout
    seen = json.loads(agentmill("source", "preview", "app", "--json").stdout)
    assert seen["records"] == 4
    assert len(seen["sample"]) == 2
    unknown = agentmill("source", "preview", "nothing")
    assert unknown.returncode == 2
    assert "there are: app" in unknown.stderr


def test_a_day_is_run_and_asked_about(agentmill, configured, write_log, record):
    write_log(record(), record(state="failed", error="boom"))
    told = agentmill("run", "--from", f"{DAY}")
    assert told.returncode == 0, told.stderr
    assert "app" in told.stdout
    asked = agentmill("sql", "--json", "select status, count(*) as n from executions group by 1 order by 1")
    assert json.loads(asked.stdout) == [{"status": "failed", "n": 1}, {"status": "success", "n": 1}]
    (configured / "q.sql").write_text("select agent_name, execution_count from agent_metrics_daily")
    assert agentmill("sql", "--csv", "-f", "q.sql").stdout == "agent_name,execution_count\nplanner,2\n"
    status = json.loads(agentmill("status", "--json").stdout)
    assert status["sources"][0]["last_day"] == f"{DAY}"
    assert status["not_published"] == {}
    for question in ("delete from executions", "select nonsense", "select 1; select 2"):
        refused = agentmill("sql", question)
        assert refused.returncode == 1
        assert refused.stderr.startswith("The warehouse refused")
    misspelt = agentmill("sql", "select execution_cont from agent_performance").stderr
    assert "LINE 1: select execution_cont" in misspelt
    assert "agent_performance.execution_count" in misspelt
    assert "Name the columns you need" in agentmill("sql", "select * from executions").stderr


def test_a_file_full_of_traps_is_read_and_every_line_of_it_is_accounted_for(agentmill, configured, record):
    (configured / "logs").mkdir()
    lines = [
        "\ufeff" + json.dumps(record()),
        json.dumps(record(cost=float("nan"))),
        json.dumps(record(prompt="x" * 10_000_000)),
        json.dumps(record(error="a nul: ?", state="failed")).replace("?", "\0"),
        json.dumps(record()),
        json.dumps(record())[:-9],
    ]
    (configured / "logs" / "a.ndjson").write_text("\n".join(lines))
    config = json.loads((configured / "agentmill.yaml").read_text())
    config["sources"]["app"]["max_quarantine_share"] = 0.9
    (configured / "agentmill.yaml").write_text(json.dumps(config))
    told = agentmill("run", "--from", f"{DAY}", "--json")
    assert told.returncode == 0, told.stderr
    counted = json.loads(told.stdout)["days"][0]["sources"][0]
    assert (counted["received"], counted["clean"], counted["duplicates"]) == (6, 4, 0)
    assert counted["quarantined"] == {"line_too_long": 1, "torn": 1}
    question = "select cost_usd::float8 as cost, error_message as error, quality_flags as flags from executions"
    rows = json.loads(agentmill("sql", "--role", "oncall", "--json", f"{question} order by execution_id").stdout)
    good = {"cost": 0.01, "error": None, "flags": []}
    assert rows == [
        good,
        {**good, "cost": 0.00045, "flags": ["not_a_number"]},
        {**good, "error": "a nul: \ufffd", "flags": ["text_repaired"]},
        good,
    ]


def test_a_blocked_day_ends_with_its_own_exit_code_and_keeps_the_old_data(agentmill, configured, write_log, record):
    good = [record() for _ in range(3)]
    write_log(*good)
    assert agentmill("run", "--from", f"{DAY}").returncode == 0
    write_log(*good, "{torn", "{torn too")
    told = agentmill("run", "--from", f"{DAY}", "--to", f"{DAY}", "--json")
    assert told.returncode == 3, told.stderr
    day = json.loads(told.stdout)["days"][0]
    assert not day["is_published"]
    assert "quarantine_share" in day["blocked_by"][0]
    shown = agentmill("status")
    assert f"{DAY} keeps its old data" in shown.stdout
    assert "docs/operations.md" in shown.stdout
    assert '"n": 3' in agentmill("sql", "--json", "select count(*) as n from executions").stdout


@pytest.mark.parametrize(
    "words",
    [
        ["run", "--from", "soon"],
        ["run", "--from", "2026-03-10", "--to", "2026-03-09"],
        ["run", "--from", "1999-01-01"],
        ["sql"],
        ["sql", "select 1", "--file", "q.sql"],
        ["nonsense"],
    ],
    ids=" ".join,
)
def test_what_cannot_be_meant_is_refused_before_anything_happens(agentmill, configured, words):
    told = agentmill(*words)
    assert told.returncode == 2
    assert "Traceback" not in told.stderr
    assert not (configured / ".agentmill" / "dagster").exists()


def test_a_warehouse_that_is_not_there_is_told_without_its_password(agentmill, configured):
    told = agentmill("status", AGENTMILL_DATABASE_URL="postgresql://u:hunter2@127.0.0.1:1/x")
    assert told.returncode == 1
    assert told.stderr.startswith("The warehouse refused")
    assert "hunter2" not in told.stderr


def test_a_damaged_file_fails_the_run_and_is_named(agentmill, configured, write_log, record):
    path = write_log(record(), name="a.ndjson.gz")
    told = agentmill("run", "--from", f"{DAY}")
    assert told.returncode == 1
    assert "raw_app failed" in told.stderr
    assert path.name in told.stderr


def test_a_day_whose_file_is_gone_keeps_its_data_until_the_loss_is_accepted(agentmill, configured, write_log, record):
    path = write_log(record(), record())
    assert agentmill("run", "--from", f"{DAY}").returncode == 0
    path.unlink()
    told = agentmill("run", "--from", f"{DAY}")
    assert told.returncode == 1
    assert "--accept-missing" in told.stderr
    assert '"n": 2' in agentmill("sql", "--json", "select count(*) as n from executions").stdout
    assert agentmill("run", "--from", f"{DAY}", "--accept-missing").returncode == 0
    assert '"n": 0' in agentmill("sql", "--json", "select count(*) as n from executions").stdout


def test_only_days_that_changed_are_run_again(agentmill, configured, write_log, record):
    days = ["2026-03-09", "2026-03-10", "2026-03-11"]
    logs = {day: [record(started=f"{day}T10:00:00Z", ended=None), record(started=f"{day}T11:00:00Z")] for day in days}
    for day, records in logs.items():
        write_log(*records, name=f"{day}.ndjson")
    assert agentmill("run", "--dirty").returncode == 0
    assert "No day has changed." in agentmill("run", "--dirty").stdout
    logs[days[0]][0]["started"] = f"{days[1]}T12:00:00Z"
    write_log(*logs[days[0]], name=f"{days[0]}.ndjson")
    told = agentmill("run", "--dirty")
    assert told.returncode == 0, told.stderr
    assert "2 records then, 1 now" in told.stdout
    assert "2/2 days" in told.stderr
    question = "select day::text, execution_count as n from agent_metrics_daily order by 1"
    counted = json.loads(agentmill("sql", "--json", question).stdout)
    assert [row["n"] for row in counted] == [1, 3, 2]


def test_init_writes_the_key_where_the_configuration_has_it(agentmill, tmp_path):
    (tmp_path / "agentmill.yaml").write_text("pseudonym_key_file: my.key\n")
    assert agentmill("init").returncode == 0
    assert (tmp_path / "my.key").exists()


def asked_when_up(process, port, query):
    """The answer to a GraphQL query, as soon as something listens there."""
    while process.poll() is None:
        with contextlib.suppress(ConnectionRefusedError), contextlib.closing(HTTPConnection("127.0.0.1", port)) as ui:
            ui.request("POST", "/graphql", json.dumps({"query": query}), {"Content-Type": "application/json"})
            return json.loads(ui.getresponse().read())
        time.sleep(0.5)
    raise AssertionError("the UI ended by itself")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["status"], "`database_url` (or AGENTMILL_DATABASE_URL) says where it is."),
        (["run"], "`database_url` (or AGENTMILL_DATABASE_URL) says where it is."),
        (["demo", "--dir", "agentmill.yaml/demo"], "agentmill.yaml/demo cannot be used: Not a directory"),
    ],
    ids=lambda given: " ".join(given) if isinstance(given, list) else "",
)
def test_what_cannot_be_reached_or_written_is_told_in_a_sentence(agentmill, configured, words, told):
    done = agentmill(*words, AGENTMILL_DATABASE_URL="postgresql://u:hunter2@127.0.0.1:1/x")
    assert done.returncode == 1
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert "hunter2" not in done.stderr


def test_asking_in_a_folder_of_something_else_says_so_and_leaves_nothing_behind(agentmill, tmp_path):
    for words in (["status"], ["queries", "failing_now"], ["failures", "list"]):
        told = agentmill(*words)
        assert told.returncode == 2
        assert told.stderr.startswith("There is no agentmill.yaml and no .agentmill in ")
    assert list(tmp_path.iterdir()) == []


def test_dev_ends_with_a_sentence_where_its_port_is_taken(agentmill, configured):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        told = agentmill("dev", "--port", f"{taken.getsockname()[1]}")
    assert told.returncode == 1
    assert "choose another port with --port" in told.stderr


def test_dev_opens_the_ui_with_everything_set(configured, write_log, record):
    write_log(record())
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with subprocess.Popen(
        [AGENTMILL, "dev", "--port", f"{port}"],
        cwd=configured,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            told = asked_when_up(process, port, "{assetNodes {assetKey {path}}}")
            names = {node["assetKey"]["path"][0] for node in told["data"]["assetNodes"]}
            assert {"raw_app", "executions", "failure_report"} <= names
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(60)
    assert (configured / ".agentmill" / "dagster" / "dagster.yaml").exists()

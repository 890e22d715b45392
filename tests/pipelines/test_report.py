import re
from datetime import UTC, datetime, timedelta

import pytest
from conftest import as_frame, enter_day

from pipelines import report
from pipelines.execution import EXECUTION
from pipelines.failures import publish_clusters
from pipelines.publication import publish_derived
from pipelines.regression import publish_candidates
from pipelines.report import write_failure_report, write_regression_report

START = datetime(2026, 3, 10, 12, tzinfo=UTC)
HOSTILE = "</pre><script>alert(1)</script> `code` | cell | **bold**\n# heading {{ 7 * 7 }} [x](javascript:1)"


def ran(day, number, **overrides):
    return {
        "source": "app",
        "execution_id": f"r{day}-{number}",
        "row_hash": "0",
        "agent_id": "a",
        "agent_name": "a",
        "status": "success",
        "event_time": START + timedelta(days=day, minutes=number),
        "cost_source": "unpriced",
        "quality_flags": [],
        **overrides,
    }


@pytest.fixture
def reports(warehouse, tmp_path, prices):
    """Publish executions by day and write both reports; returns each file's text by name."""

    def write(days):
        for day, rows in days.items():
            frame = as_frame(rows, EXECUTION).sort("event_time")
            published = enter_day(warehouse, (START + timedelta(days=day)).date(), frame, f"{rows}")
            publish_derived(published, warehouse, prices)
        publish_clusters(warehouse)
        publish_candidates(warehouse)
        paths = [*write_failure_report(warehouse, tmp_path), *write_regression_report(warehouse, tmp_path)]
        assert sorted(tmp_path.glob("*report*")) == sorted(paths)
        return {path.name: path.read_text() for path in paths}

    return write


def test_without_data_the_reports_say_so(reports):
    told = reports({})
    assert "Nothing has been published yet." in told["failure_report.html"]
    assert "Nothing has been published yet." in told["failure_report.md"]
    assert "No failure has struck" in told["regression_report.html"]


def test_the_failure_report_tells_what_fails_most(reports):
    days = {day: [ran(day, 1), ran(day, 2, status="failed", error_message=f"disk {day} is full")] for day in range(3)}
    days[2].append(ran(2, 3, status="failed", error_message="no fuel"))
    told = reports(days)
    markdown = told["failure_report.md"]
    assert markdown.index("disk <num> is full") < markdown.index("no fuel")
    assert "**3** times, 75.0% of all failures, on 3 days" in markdown
    assert "seen 2026-03-10 12:02 UTC to 2026-03-12 12:02 UTC" in markdown
    assert "disk &lt;num&gt; is full" in told["failure_report.html"]
    assert "3 times" in re.sub(r"<[^>]+>", "", told["failure_report.html"])
    assert "third time since 2026-03-10 12:02 UTC" in told["regression_report.md"]


def test_unknown_cost_is_called_unknown(reports):
    assert "| unknown (0 priced) |" in reports({0: [ran(0, 1)]})["failure_report.md"]


def test_days_without_executions_are_on_the_axis_too(reports):
    told = reports({0: [ran(0, 1)], 4: [ran(4, 1)]})["failure_report.html"]
    assert re.findall(r"<title>(2026-03-\d\d): (\d) exec", told) == [
        ("2026-03-10", "1"),
        ("2026-03-11", "0"),
        ("2026-03-12", "0"),
        ("2026-03-13", "0"),
        ("2026-03-14", "1"),
    ]


def test_what_a_log_says_stays_text(reports):
    days = {day: [ran(day, 1, status="failed", error_message=HOSTILE, agent_id=HOSTILE)] for day in range(3)}
    told = reports(days)
    for name in ("failure_report.html", "regression_report.html"):
        assert "<script" not in told[name]
        assert "default-src 'none'" in told[name]
        assert "{{ 7 * 7 }}" in told[name]
    for name in ("failure_report.md", "regression_report.md"):
        assert not re.search(r"^# heading", told[name], re.MULTILINE)
        outside = re.sub(r"`[^`\n]*`", "", told[name])
        assert "script" not in outside
        assert "javascript" not in outside


def test_more_than_a_report_can_show_is_counted(reports, monkeypatch):
    monkeypatch.setattr("pipelines.report.failures._MOST_CLUSTERS", 1)
    monkeypatch.setattr("pipelines.report.regression._MOST_CANDIDATES", 1)
    messages = ("disk is full", "no fuel left", "bad map")
    days = {
        day: [ran(day, n, status="failed", error_message=text) for n, text in enumerate(messages)] for day in range(3)
    }
    told = reports(days)
    assert "The 1 most frequent of 3" in told["failure_report.md"]
    assert "The 1 most frequent of 3" in told["failure_report.html"]
    assert "The 1 that matter most of 3" in told["regression_report.md"]
    assert "The 1 that matter most of 3" in told["regression_report.html"]


def test_the_same_tables_give_the_same_bytes(reports, warehouse, tmp_path):
    told = reports({0: [ran(0, 1, status="failed", error_message="boom")]})
    again = report.write_failure_report(warehouse, tmp_path / "again")
    assert {path.name: path.read_text() for path in again}.items() <= told.items()


def test_the_failure_report_says_what_needs_somebody_now_and_what_is_different(reports):
    broken = {"status": "failed", "error_message": "disk 1 is full", "environment": "prod", "session_key": "s"}
    days = {
        day: [
            *(ran(day, n, environment="prod", agent_version="1") for n in range(20)),
            *(ran(day, 20 + n, agent_version="2", **broken) for n in range(5 if day == 3 else 0)),
        ]
        for day in range(4)
    }
    told = reports(days)["failure_report.md"]
    urgent = told[told.index("## What needs somebody now") : told.index("## What fails most")]
    assert "- **new** in prod since 2026-03-13 12:20 UTC: `disk <num> is full`, 5 times" in urgent
    assert "`version 2 of a: 100.00% of 5 executions failed so, none of the others`" in told
    assert "1 sessions of a day hit, 1 of them with nothing after it that day" in told


def test_hostile_text_of_people_is_told_as_text(reports, warehouse):
    days = {day: [ran(day, 1, status="failed", error_message="disk is full")] for day in range(3)}
    reports(days)
    with warehouse.connect() as connection:
        (cluster_id,) = connection.execute("select cluster_id from agentmill.failure_clusters").fetchone()
        connection.execute("select agentmill.decide_failure(%s, 'mute', %s, 'kim')", [cluster_id, HOSTILE])
        connection.execute("select agentmill.review_candidate(%s, 'approve', %s, 'kim')", ["rc_" + cluster_id, HOSTILE])
    told = reports({})
    assert "muted" in told["failure_report.html"]
    assert "<script>" not in told["failure_report.html"] + told["regression_report.html"]
    for name in ("failure_report.md", "regression_report.md"):
        assert not re.search(r"^# heading", told[name], re.MULTILINE)
        assert "javascript" not in re.sub(r"`[^`\n]*`", "", told[name])

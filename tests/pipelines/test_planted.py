"""A person and a secret in every field of a log and in all that people and tests write: nowhere but in the raw zone."""

import json
import re
from dataclasses import asdict
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from conftest import DAY, KEY_TEXT, dump

from pipelines.clean import clean
from pipelines.execution import TEXT, TEXTS
from pipelines.extract import extract
from pipelines.failures import find_clusters, read_history
from pipelines.failures.decisions import decide
from pipelines.failures.explain import why
from pipelines.failures.lookup import find_text
from pipelines.failures.overview import tell_failure
from pipelines.publication import publish_day
from pipelines.record_types import EXECUTIONS
from pipelines.regression import publish_candidates, refresh, tell_candidate
from pipelines.regression.case_file import read_cases
from pipelines.regression.exporters import KINDS, export
from pipelines.regression.results import import_results
from pipelines.regression.reviews import Review, review_candidate
from pipelines.report import write_failure_report, write_regression_report
from pipelines.settings import parse_settings
from pipelines.validate import validate
from pipelines.warehouse import open_warehouse

MAIL, SECRET, HOME = "ophelia.canary@example.org", "sk-proj-" + "a1B2c3D4" * 5, "/home/ophelia/x.py"
PLANTED = f"no answer for {MAIL} with {SECRET} at {HOME}"
TRACE = re.compile(rb"(?i)ophelia|a1B2c3D4")
DAYS = [DAY + timedelta(days=n) for n in range(3)]
NAMES = [column.name for column in EXECUTIONS.mappable.values() if column.dtype in {TEXT, TEXTS}]


def record(serial, day, name, planted):
    """A failure of which one field holds what is planted; a list holds it among others."""
    given = {
        "execution_id": f"run-{serial}",
        "agent_name": "planner",
        "agent_version": "1.0",
        "environment": "prod",
        "status": "failed",
        "error_message": f"disk of {name.replace('_', ' ')} is full",
        "started_at": f"{day}T10:00:00Z",
        "user": f"{MAIL} {serial % 7}",
        "input": json.dumps({"messages": [PLANTED], MAIL: SECRET}),
        MAIL: "a field of that name",
    }
    return given | {name: ["grep", planted] if name == "tool_names" else planted}


@pytest.fixture
def planted(tmp_path, empty_database, monkeypatch):
    """Settings and warehouse after days in which every field has held a person and secrets."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "logs").mkdir()
    fields = [*NAMES, "note"]
    for day in DAYS:
        told = [(name, text) for name in fields for text in (PLANTED, MAIL, SECRET)]
        lines = [json.dumps(record(n, day, *one)) for n, one in enumerate(told, DAYS.index(day) * len(told))]
        (tmp_path / "logs" / f"{MAIL}-{day}.ndjson").write_text("\n".join([*lines, f'{{"torn": "{PLANTED}']))
    source = {
        "path": "logs/*",
        "settle_seconds": 0,
        "max_quarantine_share": 0.9,
        "mapping": {name: name for name in [*NAMES, "started_at"]},
        "attributes": ["note"],
    }
    content = {
        "state_dir": "state",
        "database_url": empty_database,
        "pseudonym_key": KEY_TEXT,
        "sources": {"app": source},
        "failures": {"overrides": "overrides.yaml"},
    }
    (tmp_path / "overrides.yaml").touch()
    settings = parse_settings(json.dumps(content), tmp_path / "agentmill.yaml")
    lake, warehouse, prices = settings.open_lake(), open_warehouse(settings), settings.read_prices()
    sources = list(settings.sources.values())
    extract(sources[0], DAYS, lake, datetime.now(UTC))
    for day in DAYS:
        clean(day, sources, lake, settings.read_key(), prices)
        assert validate(day, sources, lake, prices).is_publishable
        publish_day(day, lake, warehouse, prices)
    refresh(warehouse, settings)
    return settings, warehouse


def say(settings, warehouse):
    """Whatever people and tests can write, about the worst candidates; the ids of these."""
    sanitizer, found = settings.read_sanitizer(), publish_candidates(warehouse)["candidate_id"].head(8).to_list()
    for candidate in found:
        fixture = {MAIL: PLANTED, "card": 4111111111111111}
        review_candidate(warehouse, Review(candidate, "approve", MAIL, PLANTED, fixture=fixture), sanitizer)
    failure = found[0].removeprefix("rc_")
    decide(warehouse, failure, "resolve", MAIL, PLANTED, fixed_in_version=SECRET, sanitizer=sanitizer)
    named = [{"signature": failure, "name": PLANTED, "reason": PLANTED}]
    settings.failures.overrides.write_text(json.dumps({"rename": named}))
    settings.results.mkdir()
    values = {"run_id": SECRET, "version": MAIL, "environment": f"{'-' * 190} {SECRET}"}
    properties = "".join(f"<property name='{name}' value='{value}'/>" for name, value in values.items())
    test = f"<testcase name='test_{found[0]} {MAIL}' classname='{SECRET}'><error message='{PLANTED}'>{PLANTED}</error>"
    suite = f"<testsuite name='{MAIL}'><properties>{properties}</properties>{test}</testcase></testsuite>"
    (settings.results / f"{MAIL}.xml").write_text(suite)
    import_results(warehouse, [settings.results], version=SECRET, environment=MAIL, sanitizer=sanitizer)
    refresh(warehouse, settings)
    return found


def test_what_is_planted_in_every_field_and_text_reaches_nothing_that_is_published(planted, tmp_path):
    settings, warehouse = planted
    found = say(settings, warehouse)
    write_failure_report(warehouse, settings.reports)
    write_regression_report(warehouse, settings.reports)
    for kind in KINDS:
        export(read_cases(settings.cases), kind, settings.reports / f"{kind}.jsonl")
    clusters = find_clusters(read_history(warehouse, settings.failures))
    told = []
    for failure in warehouse.read("select execution_id from agentmill.failure_occurrences")["execution_id"].unique():
        named = find_text(warehouse, failure)
        told.append(asdict(why(named.message, named.stack, clusters, named.identity)))
    told += [tell_candidate(warehouse, one) | tell_failure(warehouse, one.removeprefix("rc_")) for one in found]
    lake = settings.state_dir / "lake"
    kept = [path for path in settings.state_dir.rglob("*") if path.is_file() and lake / "raw" not in path.parents]
    seen = {
        path.name: pl.read_parquet(path).write_ndjson().encode() if path.suffix == ".parquet" else path.read_bytes()
        for path in kept
        if settings.results not in path.parents
    }
    seen |= {"tables": dump(warehouse.libpq_url), "told": json.dumps(told, default=str).encode()}
    assert len(told) > 150
    assert len(read_cases(settings.cases)) == len(found) == 8
    assert {f"{kind}.jsonl" for kind in KINDS} | {"failure_report.html", "regression_report.md"} < seen.keys()
    assert {name: TRACE.search(content)[0] for name, content in seen.items() if TRACE.search(content)} == {}
    assert b"4111111111111111" not in b"".join(seen.values())
    assert any(TRACE.search(path.read_bytes()) for path in (tmp_path / "logs").iterdir())

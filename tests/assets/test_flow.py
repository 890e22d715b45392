"""The real graph on a real Postgres: what gates hold back, and that neither order nor repetition matter."""

import json
from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest
from conftest import DAY, MARKET_DAYS, checksums, write_market

from assets.automation import late_data
from assets.definitions import build_definitions
from assets.resources import Mill
from pipelines.record_types import RECORD_TYPES
from pipelines.settings import parse_settings
from pipelines.warehouse import open_warehouse
from pipelines.warehouse.server import database_url

DAYS = [DAY + timedelta(days=n) for n in range(3)]


_OTHER_TABLES = RECORD_TYPES.keys() - {"executions"}
_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


class Flow:
    """One configuration, run the way Dagster's UI runs it."""

    def __init__(self, settings, config):
        storage = config.parent / "dagster"
        storage.mkdir()
        self.settings = settings
        self.mill = Mill(config=str(config))
        self.definitions = build_definitions(settings, self.mill)
        self.instance = dg.DagsterInstance.ephemeral(tempdir=str(storage))
        self.warehouse = open_warehouse(settings)

    def run(self, day, job="daily_pipeline"):
        resolved = self.definitions.resolve_job_def(job)
        key = day.isoformat() if day else None
        return resolved.execute_in_process(
            instance=self.instance, run_config=_QUIET, partition_key=key, raise_on_error=False
        )

    def run_range(self, first, last):
        tags = {"dagster/asset_partition_range_start": f"{first}", "dagster/asset_partition_range_end": f"{last}"}
        resolved = self.definitions.resolve_job_def("daily_tables")
        return resolved.execute_in_process(instance=self.instance, run_config=_QUIET, tags=tags, raise_on_error=False)

    def value(self, query):
        return self.warehouse.read(query).item()


@pytest.fixture
def flow(settings, tmp_path):
    configured = settings()
    return Flow(configured, tmp_path / "agentmill.yaml")


def evaluations(result):
    """The verdicts by check; of `published`, that on executions."""
    told = [one for one in result.get_asset_check_evaluations() if one.asset_key.path[-1] not in _OTHER_TABLES]
    return {one.check_name: one for one in told}


def records_of(record, day, failures=1):
    at = datetime.combine(day, datetime.min.time(), tzinfo=UTC) + timedelta(hours=9)
    times = {"started": at.isoformat(), "ended": (at + timedelta(seconds=3)).isoformat()}
    good = [record(**times) for _ in range(4)]
    return good + [record(**times, state="failed", error=f"disk {n} is full") for n in range(failures)]


def test_one_day_goes_all_the_way(flow, write_log, record):
    for day in DAYS:
        write_log(*records_of(record, day), name=f"{day}.ndjson")
    results = [flow.run(day) for day in DAYS]
    assert all(result.success for result in results)
    assert all(one.passed for one in evaluations(results[0]).values())
    assert flow.value("select count(*) from agentmill.executions") == 15
    assert flow.value("select sum(execution_count) from agentmill.agent_metrics_daily") == 15
    assert flow.value("select occurrence_count from agentmill.failure_clusters") == 3
    assert flow.value("select state from agentmill.regression_candidates") == "proposed"
    assert "disk" in (flow.settings.reports / "failure_report.html").read_text()


def test_the_catalogue_shows_the_figures_of_the_day(flow, write_log, record):
    write_log(*records_of(record, DAY), name="a.ndjson")
    result = flow.run(DAY)
    told = {
        event.asset_key.to_user_string(): {name: value.value for name, value in event.materialization.metadata.items()}
        for event in result.get_asset_materialization_events()
    }
    assert told["raw_app"]["dagster/row_count"] == 5
    clean = told["clean_executions"]
    assert (clean["dagster/row_count"], clean["quarantined"], clean["duplicates"]) == (5, 0, 0)
    assert "| app | 5 | 5 | 0 | 0 | 0 |" in clean["accounts"]
    assert told["executions"]["outcome"] == "published"
    for name in ("clean_executions", "quarantine", "executions", "agent_metrics_daily", "failure_signatures_daily"):
        assert told[name]["seconds"] > 0, name


def test_a_bad_day_keeps_the_old_one_everywhere(flow, write_log, record):
    write_log(*records_of(record, DAY), name="a.ndjson")
    flow.run(DAY)
    before = checksums(flow.warehouse)
    write_log(*records_of(record, DAY, failures=3), "{broken", name="a.ndjson")
    result = flow.run(DAY)
    assert not result.success
    told = evaluations(result)
    assert not told["gate"].passed
    assert "quarantine_share" in told["gate"].description
    assert checksums(flow.warehouse) == before
    flow.run_range(DAY, DAY)
    assert checksums(flow.warehouse) == before
    write_log(*records_of(record, DAY, failures=3), name="a.ndjson")
    assert flow.run(DAY).success
    assert flow.value("select count(*) from agentmill.executions") == 7


def test_a_blocked_day_does_not_hold_up_the_others_of_its_range(flow, write_log, record):
    for day in DAYS:
        write_log(*records_of(record, day), *["{broken"] * (day == DAYS[1]), name=f"{day}.ndjson")
    result = flow.run_range(DAYS[0], DAYS[-1])
    assert result.success
    assert evaluations(result)["published"].passed is False
    published = flow.warehouse.read("select distinct event_time::date from agentmill.executions order by 1")
    assert published.to_series().to_list() == [DAYS[0], DAYS[2]]
    kept = flow.instance.event_log_storage.get_asset_check_execution_history(
        dg.AssetCheckKey(dg.AssetKey("clean_executions"), "quarantine_share"), limit=10
    )
    verdicts = {}
    for one in kept:
        evaluation = one.event.dagster_event.asset_check_evaluation_data
        if evaluation.partition:
            verdicts[evaluation.partition] = evaluation.passed
    assert verdicts == {f"{day}": day != DAYS[1] for day in DAYS}


def test_what_goes_wrong_is_told_without_quoting_data(flow, write_log, record, monkeypatch):
    def stumble(*_, **__):
        raise ValueError("cannot read ophelia.canary@example.org")

    write_log(*records_of(record, DAY), name="a.ndjson")
    monkeypatch.setattr("assets.clean.clean", stumble)
    result = flow.run(DAY)
    assert not result.success
    told = json.dumps([repr(event.event_specific_data) for event in result.all_events])
    assert "ValueError: cannot read <email>" in told
    assert "ophelia" not in told


@pytest.fixture
def market(tmp_path, embedded_server):
    """Builds flows over the same four days, each with a warehouse of its own."""

    def build(name):
        folder = tmp_path / name
        folder.mkdir()
        config = write_market(folder, database_url(embedded_server, f"{tmp_path.name}_{name}"))
        return Flow(parse_settings(config.read_text(), config), config)

    return build


def test_neither_order_nor_repetition_nor_the_way_it_was_started_matters(market):
    days = MARKET_DAYS
    orders = {
        "range": None,
        "reversed": days[::-1],
        "twice": [*days, *days],
        "middle_last": [days[0], days[2], days[3], days[1]],
    }
    told = {}
    for name, order in orders.items():
        flow = market(name)
        if order is None:
            assert flow.run_range(days[0], days[-1]).success
            assert flow.run(None, "derived_tables").success
        else:
            assert all(flow.run(day).success for day in order)
        told[name] = checksums(flow.warehouse)
        told[name]["report"] = (flow.settings.reports / "failure_report.md").read_text()
    assert told["range"]["executions"][0] > 400
    assert told["range"]["regression_candidates"][0] > 0
    for name in orders:
        assert told[name] == told["range"], name


def test_the_sensor_asks_for_the_days_that_changed_and_only_once(flow, write_log, record):
    write_log(*records_of(record, DAYS[0]), name="a.ndjson")
    write_log(*records_of(record, DAYS[1]), name="b.ndjson")
    for day in DAYS[:2]:
        assert flow.run(day).success

    def asked():
        context = dg.build_sensor_context(instance=flow.instance, resources={"mill": flow.mill})
        return {request.partition_key: request.run_key for request in late_data(context).run_requests}

    assert asked() == {}
    write_log(*records_of(record, DAYS[2]), name="c.ndjson")  # never run, and long ago
    assert asked() == {}
    write_log(*records_of(record, DAYS[1]), record(started=f"{DAYS[1]}T01:00:00Z", ended=None), name="b.ndjson")
    first = asked()
    assert list(first) == [f"{DAYS[1]}"]
    assert asked() == first
    assert flow.run(DAYS[1]).success
    assert asked() == {}


def test_a_source_that_cannot_be_read_does_not_keep_the_sensor_from_the_others(flow, write_log, record, tmp_path):
    write_log(*records_of(record, DAYS[0]), name="a.ndjson")
    assert flow.run(DAYS[0]).success
    write_log(*records_of(record, DAYS[0]), record(started=f"{DAYS[0]}T01:00:00Z", ended=None), name="a.ndjson")
    config = json.loads((tmp_path / "agentmill.yaml").read_text())
    gone = {"kind": "database", "url": "postgresql://127.0.0.1:1/x", "table": "runs"}
    mapping = {"agent_name": "agent", "status": "state", "started_at": "started"}
    config["sources"] = {"gone": {**gone, "mapping": mapping}, **config["sources"]}
    (tmp_path / "agentmill.yaml").write_text(json.dumps(config))
    context = dg.build_sensor_context(
        instance=flow.instance, resources={"mill": Mill(config=str(tmp_path / "agentmill.yaml"))}
    )
    assert [request.partition_key for request in late_data(context).run_requests] == [f"{DAYS[0]}"]

"""Which days are run again: exactly those whose records differ from what was extracted of them."""

import gzip
import json
from datetime import date, timedelta

import pytest
from conftest import DAY, NOW

from pipelines.extract import extract, find_dirty_days
from pipelines.sources.database import DatabaseSource
from pipelines.sources.spans import TraceSource

START = date(2026, 1, 1)
DAYS = [DAY + timedelta(days=n) for n in range(-1, 2)]


@pytest.fixture
def log(source, lake, write_log, record):
    """Three days in three files, extracted."""

    class Log:
        def __init__(self):
            self.record = record
            self.days = {day: [self.of(day), self.of(day)] for day in DAYS}
            self.write()
            extract(source(), DAYS, lake, NOW)

        def of(self, day, **overrides):
            return record(started=f"{day}T10:00:00Z", ended=None, **overrides)

        def write(self):
            for day, records in self.days.items():
                write_log(*records, name=f"{day}.ndjson")

        def dirty(self, since=START, **overrides):
            return {day: one.reason for day, one in find_dirty_days(source(**overrides), lake, NOW, since).items()}

    return Log()


def test_what_was_just_read_is_not_dirty(log):
    assert log.dirty() == {}


def test_a_late_record_makes_its_own_day_dirty_wherever_it_lies(log):
    log.days[DAYS[2]].append(log.of(DAYS[0]))
    log.write()
    assert log.dirty() == {DAYS[0]: "2 records then, 3 now"}


def test_a_record_that_moved_makes_both_days_dirty(log):
    log.days[DAYS[1]][0]["started"] = f"{DAYS[0]}T10:00:00Z"
    log.write()
    assert list(log.dirty()) == DAYS[:2]


def test_a_corrected_record_makes_its_day_dirty(log):
    log.days[DAYS[1]][0]["state"] = "failed"
    log.write()
    assert log.dirty() == {DAYS[1]: "as many records, but others"}


def test_a_file_that_was_rewritten_renamed_or_packed_is_not_dirty(log, tmp_path):
    log.days[DAYS[0]].reverse()
    log.write()
    path = tmp_path / "logs" / f"{DAYS[1]}.ndjson"
    (tmp_path / "logs" / "packed.ndjson.gz").write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()
    assert log.dirty() == {}


def test_a_day_whose_file_is_gone_keeps_what_it_has(log, tmp_path):
    (tmp_path / "logs" / f"{DAYS[1]}.ndjson").unlink()
    assert log.dirty() == {}


def test_a_new_day_has_never_been_run(log):
    new = DAY - timedelta(days=9)
    log.days[new] = [log.of(new)]
    log.write()
    assert log.dirty() == {new: "never run; 1 records"}
    assert log.dirty(since=DAY) == {}


def test_another_configuration_makes_all_its_days_dirty(log):
    assert list(log.dirty(timezone="Europe/Berlin")) == DAYS


def test_digests_of_another_version_of_the_library_are_not_compared(log, source, monkeypatch):
    monkeypatch.setattr("pipelines.extract.dirty.DIGEST_VERSION", "another")
    log.days[DAYS[1]][0]["state"] = "failed"
    log.write()
    assert log.dirty() == {}
    log.days[DAYS[1]].append(log.of(DAYS[1]))
    log.write()
    assert list(log.dirty()) == [DAYS[1]]


def test_running_a_dirty_day_makes_it_clean(log, source, lake):
    log.days[DAYS[1]].append(log.of(DAYS[1]))
    log.write()
    extract(source(), list(log.dirty()), lake, NOW)
    assert log.dirty() == {}


def test_rows_are_looked_at_within_the_lookback(database, lake):
    database.run(
        "create table runs (id int, agent varchar(20), state varchar(20), started timestamp null)",
        *(f"insert into runs values ({n}, 'a', 'success', '{day} 10:00:00')" for n, day in enumerate(DAYS)),
    )
    mapping = {"execution_id": "id", "agent_name": "agent", "status": "state", "started_at": "started"}
    source = DatabaseSource.model_validate(
        {
            "name": "app",
            "kind": "database",
            "url": database.url,
            "table": "runs",
            "mapping": mapping,
            "lookback_days": 2,
        }
    )
    days = [*DAYS, NOW.date()]
    extract(source, days, lake, NOW)

    def dirty():
        return {day: one.reason for day, one in find_dirty_days(source, lake, NOW, START).items()}

    assert dirty() == {}
    database.run("update runs set state = 'failed' where id = 1", "update runs set state = 'failed' where id = 0")
    assert dirty() == {DAYS[1]: "as many records, but others"}
    database.run(f"update runs set started = '{DAYS[2]} 12:00:00' where id = 1")
    assert dirty() == {DAYS[1]: "1 records then, 0 now", DAYS[2]: "1 records then, 2 now"}
    consent = {day: one.needs_consent for day, one in find_dirty_days(source, lake, NOW, START).items()}
    assert consent == {DAYS[1]: True, DAYS[2]: False}


def test_a_span_makes_the_days_dirty_whose_executions_may_hold_it(tmp_path, lake, write_log):
    def observation(name, day, parent=None):
        return json.dumps(
            {
                "id": name,
                "traceId": "t",
                "parentObservationId": parent,
                "name": name,
                "type": "SPAN",
                "startTime": f"{day}T23:00:00Z",
                "endTime": f"{day}T23:30:00Z",
            }
        )

    source = TraceSource.model_validate(
        {"name": "app", "kind": "langfuse", "path": f"{tmp_path}/logs/*", "settle_seconds": 0}
    )
    write_log(observation("root", DAYS[0]), name="a.ndjson")
    extract(source, [DAYS[0], DAYS[1], DAYS[2]], lake, NOW)
    assert find_dirty_days(source, lake, NOW, START) == {}
    write_log(observation("leaf", DAYS[1], "root"), name="b.ndjson")
    dirty = find_dirty_days(source, lake, NOW, START)
    assert list(dirty) == DAYS
    assert dirty[DAYS[0]].reason == f"spans of {DAYS[1]} changed"

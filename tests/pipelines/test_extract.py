import os
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from conftest import DAY, NOW

from pipelines.extract import ExtractionError, RawReceipt, extract, raw_dataset
from pipelines.sources.files import FileReading

NEXT = DAY + timedelta(days=1)


@pytest.fixture
def received(source, lake):
    """The records of some days after an extraction, as (day, problem, text) rows."""

    def build(*days, **overrides):
        receipts = extract(source(**overrides), days or [DAY], lake, NOW)
        return {
            day: [row for part in receipt.parts for row in lake.read(part).rows(named=True)]
            for day, receipt in receipts.items()
        }

    return build


def test_a_record_belongs_to_the_utc_day_of_its_start(received, write_log, record):
    write_log(
        record(started="2026-03-10T23:59:59Z"),
        record(started="2026-03-11T00:30:00+01:00"),
        record(started="2026-03-11T00:00:00Z"),
    )
    told = received(DAY, NEXT)
    assert [len(told[DAY]), len(told[NEXT])] == [2, 1]


def test_a_broken_line_is_accounted_to_the_day_of_the_line_before_it(received, write_log, record):
    write_log(record(), "broken", record(started="2026-03-11T01:00:00Z", ended=None), "broken too")
    told = received(DAY, NEXT)
    assert [row["problem"] for row in told[DAY]] == [None, "malformed"]
    assert [row["problem"] for row in told[NEXT]] == [None, "malformed"]


def test_broken_lines_before_the_first_date_go_with_it(received, write_log, record):
    write_log("broken", record(started=None, ended=None), record())
    assert len(received()[DAY]) == 3


def test_a_file_that_tells_no_time_is_accounted_to_its_last_change(received, write_log, record):
    path = write_log(record(started=None, ended=None), "broken")
    os.utime(path, (datetime(2026, 3, 10, 12, tzinfo=UTC).timestamp(),) * 2)
    assert len(received(DAY)[DAY]) == 2


def test_a_time_in_the_future_of_the_read_does_not_date_a_record(received, write_log, record):
    write_log(record(), record(started="2031-01-01T00:00:00Z", ended=None))
    assert len(received()[DAY]) == 2


def test_the_receipt_names_inputs_with_checksums_and_counts(source, lake, write_log, record):
    write_log(record(), record(), name="a.ndjson")
    write_log(record(started="2026-03-11T01:00:00Z"), name="b.ndjson")
    extract(source(), [DAY], lake, NOW)
    receipt = lake.receipt(raw_dataset("app"), DAY, RawReceipt)
    assert [(read.name, read.records) for read in receipt.inputs] == [("a.ndjson", 2)]
    assert len(receipt.inputs[0].sha256) == 64
    assert receipt.rows == 2


def test_a_day_without_records_has_a_receipt_too(received, write_log, record):
    write_log(record())
    assert received(NEXT) == {NEXT: []}


def test_files_that_cannot_hold_the_day_are_not_read_again(received, write_log, record, monkeypatch):
    write_log(record(), name="old.ndjson")
    write_log(record(started="2026-03-11T01:00:00Z"), name="new.ndjson")
    received(DAY)
    read = []
    original = FileReading.__init__
    monkeypatch.setattr(
        FileReading, "__init__", lambda self, source, file: (read.append(file.path), original(self, source, file))[1]
    )
    assert len(received(NEXT)[NEXT]) == 1
    assert read == ["new.ndjson"]


def test_a_changed_file_and_a_changed_mapping_are_read_again(received, write_log, record):
    write_log(record())
    assert len(received()[DAY]) == 1
    write_log(record(), record())
    assert len(received()[DAY]) == 2
    assert len(received(DAY, event_time="completed_at")[DAY]) == 2


def test_a_damaged_file_stops_the_extraction_and_changes_nothing(received, source, lake, write_log, record, tmp_path):
    write_log(record())
    received()
    before = lake.receipt(raw_dataset("app"), DAY, RawReceipt)
    (tmp_path / "logs" / "b.ndjson.gz").write_bytes(b"\x1f\x8b\x08 not gzip")
    with pytest.raises(ExtractionError, match="Restore the file, or move it out"):
        extract(source(), [DAY], lake, NOW)
    assert lake.receipt(raw_dataset("app"), DAY, RawReceipt) == before


def test_small_spools_and_large_ones_hold_the_same_records(received, write_log, record, monkeypatch):
    write_log(*(record() for _ in range(50)), name="a.ndjson")
    write_log(*(record() for _ in range(50)), name="b.ndjson")
    whole = received()[DAY]
    monkeypatch.setattr("pipelines.extract.spool._SPOOL_BYTES", 1)
    assert received()[DAY] == whole


def test_files_of_one_source_may_differ_in_their_columns(source, lake, tmp_path, record, write_log):
    write_log(record())
    pl.DataFrame([record()]).write_parquet(tmp_path / "logs" / "b.parquet")
    receipts = extract(source(path=f"{tmp_path}/logs/*"), [DAY], lake, NOW)
    assert receipts[DAY].rows == 2
    assert len(receipts[DAY].parts) == 2

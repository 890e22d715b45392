import gzip
import json
import os
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from conftest import DAY, NOW

from pipelines.extract import ExtractionError, RawReceipt, extract, raw_dataset
from pipelines.sources.files import FileReading, Listing, list_files

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
    original = FileReading.__iter__
    monkeypatch.setattr(FileReading, "__iter__", lambda self: (read.append(self.file.path), original(self))[1])
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
    os.utime(tmp_path / "logs" / "b.ndjson.gz", (0, 0))
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


def cut_off(tmp_path, record, written):
    path = tmp_path / "logs" / "open.ndjson.gz"
    path.write_bytes(gzip.compress("".join(json.dumps(record()) + "\n" for _ in range(500)).encode())[:-40])
    os.utime(path, (written.timestamp(), written.timestamp()))


def test_a_compressed_log_that_is_still_open_waits(source, lake, write_log, record, tmp_path):
    write_log(record())
    cut_off(tmp_path, record, NOW - timedelta(minutes=3))
    receipt = extract(source(), [DAY], lake, NOW)[DAY]
    assert (receipt.rows, receipt.growing) == (1, ["open.ndjson.gz"])


def test_a_compressed_log_that_nobody_writes_any_more_is_damaged(source, lake, write_log, record, tmp_path):
    write_log(record())
    cut_off(tmp_path, record, NOW - timedelta(hours=3))
    with pytest.raises(ExtractionError, match="cut off"):
        extract(source(), [DAY], lake, NOW)


def test_a_growing_log_is_read_up_to_its_last_whole_line(source, lake, write_log, record, monkeypatch):
    path = write_log(record(), record(), '{"id": "run-3", "sta')
    with path.open("rb+") as file:
        file.truncate(path.stat().st_size - 1)
    whole = list_files(source())
    growing = Listing(ready=[], growing=whole.ready)
    monkeypatch.setattr("pipelines.extract.files.list_files", lambda _: growing)
    receipt = extract(source(), [DAY], lake, NOW)[DAY]
    assert (receipt.rows, receipt.growing) == (2, ["a.ndjson"])


def test_a_day_does_not_lose_what_it_had_because_a_file_is_gone(source, lake, write_log, record):
    write_log(record(), record(), name="a.ndjson")
    gone = write_log(record(), name="b.ndjson")
    extract(source(), [DAY], lake, NOW)
    before = lake.receipt(raw_dataset("app"), DAY, RawReceipt)
    content = gone.read_text()
    gone.unlink()
    with pytest.raises(ExtractionError, match=r"b\.ndjson held records of 2026-03-10"):
        extract(source(), [DAY], lake, NOW)
    assert lake.receipt(raw_dataset("app"), DAY, RawReceipt) == before
    assert extract(source(), [DAY], lake, NOW, accept_missing=True)[DAY].rows == 2
    gone.with_name("c.ndjson").write_text(content)
    assert extract(source(), [DAY], lake, NOW)[DAY].rows == 3


def test_a_file_that_was_renamed_or_packed_is_no_loss(source, lake, write_log, record):
    path = write_log(record(), record())
    extract(source(), [DAY], lake, NOW)
    path.with_name("old.ndjson.gz").write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()
    assert extract(source(), [DAY], lake, NOW)[DAY].rows == 2


def test_a_record_of_tomorrow_gets_its_day_when_it_has_come(source, lake, write_log, record):
    write_log(record(), record(started="2026-03-11T00:20:00Z", ended=None))
    early = datetime(2026, 3, 10, 23, 50, tzinfo=UTC)
    assert extract(source(), [DAY], lake, early)[DAY].rows == 2
    assert extract(source(), [NEXT], lake, NOW)[NEXT].rows == 1


def test_an_empty_file_is_an_input_of_the_day_it_was_written(source, lake, write_log):
    path = write_log()
    os.utime(path, (NOW.timestamp(), NOW.timestamp()))
    receipts = extract(source(), [DAY, NOW.date()], lake, NOW)
    assert [len(receipts[day].inputs) for day in (DAY, NOW.date())] == [0, 1]


def test_a_csv_file_without_a_broken_line_is_read(source, lake, tmp_path):
    folder = tmp_path / "logs"
    folder.mkdir()
    (folder / "a.csv").write_text("id,agent,state,started\n1,a,ok,2026-03-10T10:00:00Z\n2,a,ok,2026-03-10T11:00:00Z\n")
    assert extract(source(), [DAY], lake, NOW)[DAY].rows == 2

import stat
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest
from conftest import DAY

from pipelines.lake import CorruptPartError, Lake, Receipt

ROWS = pl.DataFrame({"a": [1, 2]})


def parts_on_disk(tmp_path):
    return sorted(tmp_path.glob("lake/clean/**/*.parquet"))


def test_the_same_rows_are_the_same_part(lake):
    assert lake.write("clean", DAY, ROWS) == lake.write("clean", DAY, ROWS.clone())


def test_a_day_is_what_its_receipt_names(lake):
    first = lake.write("clean", DAY, ROWS)
    assert lake.receipt("clean", DAY, Receipt) is None
    lake.commit("clean", DAY, Receipt(parts=[first]))
    lake.write("clean", DAY, ROWS.head(1))
    assert lake.receipt("clean", DAY, Receipt).parts == [first]


def test_a_part_that_changed_on_disk_is_noticed(lake, tmp_path):
    part = lake.write("clean", DAY, ROWS)
    path = parts_on_disk(tmp_path)[0]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(CorruptPartError, match="run its day again"):
        lake.read(part)


def test_parts_that_no_receipt_names_go_once_nobody_can_hold_them(lake, tmp_path, monkeypatch):
    kept, orphan = lake.write("clean", DAY, ROWS), lake.write("clean", DAY, ROWS.head(1))
    lake.commit("clean", DAY, Receipt(parts=[kept]))
    assert len(parts_on_disk(tmp_path)) == 2
    monkeypatch.setattr("pipelines.lake._ORPHANS_KEPT", timedelta(days=-1))
    lake.commit("clean", DAY, Receipt(parts=[kept]))
    assert [path.name for path in parts_on_disk(tmp_path)] == [Path(kept.path).name]
    assert orphan.path != kept.path


def test_the_raw_zone_is_for_its_owner_only(lake, tmp_path):
    assert isinstance(lake, Lake)
    assert stat.S_IMODE((tmp_path / "lake" / "raw").stat().st_mode) == stat.S_IRWXU

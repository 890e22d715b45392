from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.sources.mapping import MappedField
from pipelines.sources.timestamps import read_times, to_utc

NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)
READ_AT = datetime(2026, 3, 11, tzinfo=UTC)


def read(written, timezone="UTC", **field):
    values = pl.Series([written], dtype=pl.String if isinstance(written, str) else None)
    return to_utc(values, MappedField.model_validate({"from": "t", **field}), timezone)[0]


@pytest.mark.parametrize(
    "written",
    [
        "2026-03-10T12:00:00Z",
        "2026-03-10 12:00:00",
        "2026-03-10T12:00",
        "2026-03-10T12:00:00.000000+00:00",
        "2026-03-10 12:00:00 UTC",
        "2026-03-10T17:30:00+0530",
        "2026-03-10T07:00:00-05",
        "2026-03-10 12:00:00,000Z",
        "2026-03-10t12:00:00z",
    ],
)
def test_iso_spellings_mean_the_same_moment(written):
    assert read(written) == NOON


@pytest.mark.parametrize(
    "written", ["0000-00-00 00:00:00", "infinity", "10000-01-01T00:00:00Z", "yesterday", "2026-13-01"]
)
def test_what_is_no_time_is_null(written):
    assert read(written) is None


@pytest.mark.parametrize(
    ("unit", "written"),
    [("s", "1773144000"), ("ms", "1773144000000"), ("us", "1773144000000000"), ("ns", "1773144000000000000")],
)
def test_epochs_are_read_in_their_declared_unit(unit, written):
    assert read(written, unit=unit) == NOON


@pytest.mark.parametrize("written", ["1e30", "NaN", "9223372036854775807", "-9223372036854775808", "soon"])
def test_impossible_epochs_are_null_and_never_wrap(written):
    assert read(written, unit="s") is None


def test_a_declared_format_and_zone_are_used():
    assert read("10.03.2026 17:30:00", "Asia/Kolkata", format="%d.%m.%Y %H:%M:%S") == NOON


def test_a_local_time_that_clocks_skip_is_null():
    assert read("2025-03-30T02:30:00", "Europe/Berlin") is None


def test_a_local_time_that_occurs_twice_is_the_earlier_and_flagged(source):
    configured = source(timezone="Europe/Berlin")
    mapped = pl.DataFrame({"started_at": ["2025-10-26T02:30:00", "2025-10-26T04:30:00"], "completed_at": [None, None]})
    times = read_times(mapped.cast(pl.String), configured, READ_AT)
    assert times["event_time"][0] == datetime(2025, 10, 26, 0, 30, tzinfo=UTC)
    assert times["is_ambiguous"].to_list() == [True, False]


@pytest.mark.parametrize(
    ("started", "ended", "problem"),
    [
        (None, None, "no_event_time"),
        ("gibberish", "2026-03-10T12:00:00Z", "bad_timestamp"),
        ("1970-01-01T00:00:00Z", None, "timestamp_out_of_range"),
        ("2026-03-11T00:06:00Z", None, "timestamp_out_of_range"),
        ("2026-03-11T00:04:00Z", None, None),
    ],
)
def test_each_unusable_time_has_its_reason(source, started, ended, problem):
    mapped = pl.DataFrame(
        {"started_at": [started], "completed_at": [ended]},
        schema_overrides=dict.fromkeys(("started_at", "completed_at"), pl.String),
    )
    assert read_times(mapped, source(), READ_AT)["problem"][0] == problem


def test_the_source_chooses_which_time_dates_an_execution(source):
    mapped = pl.DataFrame({"started_at": ["2026-03-09T23:59:00Z"], "completed_at": ["2026-03-10T00:01:00Z"]})
    by_end = read_times(mapped, source(event_time="completed_at"), READ_AT)["event_time"][0]
    assert by_end.day == 10


zones = st.sampled_from(["UTC", "Europe/Berlin", "Asia/Kathmandu", "America/St_Johns", "Australia/Lord_Howe"])


@given(st.datetimes(datetime(2001, 1, 1), datetime(2030, 1, 1)), zones)
def test_every_unambiguous_local_time_comes_back(local, zone):
    first, second = (local.replace(tzinfo=ZoneInfo(zone), fold=fold).astimezone(UTC) for fold in (0, 1))
    told = read(local.isoformat(), zone)
    exists = first.astimezone(ZoneInfo(zone)).replace(tzinfo=None) == local
    assert told == (min(first, second) if exists else None)


@given(st.datetimes(datetime(2001, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC)), st.integers(-840, 840))
def test_every_offset_means_the_same_moment(moment, minutes):
    shifted = moment.astimezone(tz=__import__("datetime").timezone(timedelta(minutes=minutes)))
    assert read(shifted.isoformat()) == moment

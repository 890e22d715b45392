"""How sources write time: ISO 8601, declared formats, epoch numbers, local times -> UTC microseconds."""

from datetime import UTC, datetime, timedelta
from typing import Literal, get_args

import polars as pl

from pipelines.execution import TIMESTAMP
from pipelines.sources.casting import first_known
from pipelines.sources.mapping import MappedField, TimeUnit
from pipelines.sources.source import Source

EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
"""No agent ran before; an older time is a broken clock or an epoch read in the wrong unit."""

FUTURE_TOLERANCE = timedelta(minutes=5)
"""Clocks differ a little; a time further ahead of the read is wrong."""

Ambiguous = Literal["earliest", "latest"]
_PER_SECOND: dict[TimeUnit, int] = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_MICROSECONDS = 10**6
_FARTHEST_SECOND = 253_402_300_799  # the last second of year 9999
_OFFSET = "%Y-%m-%dT%H:%M:%S%.f%#z"
_NAIVE = "%Y-%m-%dT%H:%M:%S%.f"
_ODDITIES = ("is_bad", "is_outside", "is_ambiguous", "is_zero", "is_early")
_ISO_SPELLINGS = (
    (r"^(\d{4}-\d\d-\d\d)$", "${1}T00:00:00"),
    (r"^(\d{4}-\d\d-\d\d)[ t]+(\d\d:)", "${1}T${2}"),
    (r"^([^T]*T\d\d:\d\d)([+-]\d\d:?\d\d|Z|z)?$", "${1}:00${2}"),
    (r"(\d),(\d)", "${1}.${2}"),
    (r" ?(?:UTC|GMT|Z|z)$", "+00:00"),
)


def read_times(mapped: pl.DataFrame, source: Source, read_at: datetime) -> pl.DataFrame:
    """The times of each mapped record and its event time (UTC, null where unusable), and what is odd about them.

    `is_ambiguous` (occurs twice), `is_zero` (a date of zeros), `is_early` (in the future of the read). The event time
    is the source's chosen time, else the other. `problem` is a quarantine reason.
    """
    read = {name: _read_time(mapped, name, source, read_at) for name in source.time_columns}
    times = pl.DataFrame({name: column["time"] for name, column in read.items()})
    if source.timezone != "UTC" and {"started_at", "completed_at"} <= set(mapped.columns):
        times = _end_after_start(times, mapped["completed_at"], source)
    odd = {name: pl.any_horizontal(column[name] for column in read.values()) for name in _ODDITIES}
    problem = (
        pl.when(odd["is_bad"])
        .then(pl.lit("bad_timestamp"))
        .when(odd["is_outside"])
        .then(pl.lit("timestamp_out_of_range"))
        .when(pl.all_horizontal(pl.col(source.time_columns).is_null()))
        .then(pl.lit("no_event_time"))
    )
    told = {name: odd[name].fill_null(value=False) for name in ("is_ambiguous", "is_zero", "is_early")}
    return times.with_columns(event_time=pl.coalesce(source.time_columns), **told, problem=problem)


def _read_time(mapped: pl.DataFrame, name: str, source: Source, read_at: datetime) -> pl.DataFrame:
    """One column of times (`time`, null where unusable), and what is odd about each."""
    if name not in mapped.columns:
        nothing = pl.Series("time", [None], TIMESTAMP).new_from_index(0, mapped.height)
        return nothing.to_frame().with_columns(pl.lit(value=False).alias(oddity) for oddity in _ODDITIES)
    written, field = mapped[name], source.mapping[name]
    read = to_utc(written, field, source.timezone)
    is_zero, latest = _is_zero_date(written), read_at + FUTURE_TOLERANCE
    is_outside = ~read.is_between(EARLIEST, latest)
    no = pl.Series([False]).new_from_index(0, mapped.height)
    return pl.DataFrame(
        {
            "time": read.set(is_outside.fill_null(value=False), None),
            "is_bad": written.is_not_null() & read.is_null() & ~is_zero,
            "is_outside": is_outside,
            "is_ambiguous": no if source.timezone == "UTC" else _occurs_twice(written, field, source.timezone),
            "is_zero": is_zero,
            "is_early": read > latest,
        }
    )


def _end_after_start(times: pl.DataFrame, written: pl.Series, source: Source) -> pl.DataFrame:
    """Of two readings of an end that occurs twice, the one that lies after the start."""
    later = to_utc(written, source.mapping["completed_at"], source.timezone, "latest")
    is_before = (pl.col("completed_at") < pl.col("started_at")).fill_null(value=False)
    fits = is_before & (pl.lit(later) >= pl.col("started_at"))
    return times.with_columns(completed_at=pl.when(fits).then(pl.lit(later)).otherwise("completed_at"))


def to_utc(values: pl.Series, field: MappedField, timezone: str, ambiguous: Ambiguous = "earliest") -> pl.Series:
    """UTC times; null where a value cannot be read. A time without an offset is local to `timezone`.

    A local time that clocks skip is null; one that occurs twice is resolved by `ambiguous`.
    """
    if isinstance(values.dtype, pl.Datetime):
        times = values.cast(pl.Datetime("us", values.dtype.time_zone))
        is_zoned = values.dtype.time_zone is not None
        return times.dt.convert_time_zone("UTC") if is_zoned else _localize(times, timezone, ambiguous)
    if values.dtype == pl.Date:
        return _localize(values.cast(pl.Datetime("us")), timezone, ambiguous)
    if field.unit is not None:
        return _from_epoch(values, field.unit)
    if field.format is not None:
        return _parse(values.cast(pl.String), (field.format,), timezone, ambiguous)
    return _from_iso(values.cast(pl.String), timezone, ambiguous)


def _is_zero_date(values: pl.Series) -> pl.Series:
    """Which values are MySQL's date of zeros, its way of writing that there is none."""
    if values.dtype != pl.String:
        return pl.Series([False]).new_from_index(0, len(values))
    return values.str.starts_with("0000-00-00").fill_null(value=False)


def _occurs_twice(values: pl.Series, field: MappedField, timezone: str) -> pl.Series:
    """Which local times occur twice because clocks went back."""
    earliest, latest = (to_utc(values, field, timezone, ambiguous) for ambiguous in get_args(Ambiguous))
    return (earliest != latest).fill_null(value=False)


def _from_epoch(values: pl.Series, unit: TimeUnit) -> pl.Series:
    per_second = _PER_SECOND[unit]
    whole = values.cast(pl.String).cast(pl.Int64, strict=False)
    real = values.cast(pl.Float64, strict=False)
    in_range = (real / per_second).abs() <= _FARTHEST_SECOND
    exact = (
        whole // (per_second // _MICROSECONDS) if per_second > _MICROSECONDS else whole * (_MICROSECONDS // per_second)
    )
    rounded = pl.when(in_range).then((real * (_MICROSECONDS / per_second)).round()).cast(pl.Int64, strict=False)
    microseconds = pl.when(in_range).then(pl.coalesce(exact, rounded))
    return pl.select(microseconds.cast(pl.Datetime("us", "UTC"))).to_series()


def _from_iso(text: pl.Series, timezone: str, ambiguous: Ambiguous) -> pl.Series:
    times = _parse(text, (_OFFSET, _NAIVE), timezone, ambiguous)
    if times.null_count() == text.null_count():
        return times
    for pattern, replacement in _ISO_SPELLINGS:
        text = text.str.replace(pattern, replacement)
    return first_known(times, _parse(text, (_OFFSET, _NAIVE), timezone, ambiguous))


def _parse(text: pl.Series, formats: tuple[str, ...], timezone: str, ambiguous: Ambiguous) -> pl.Series:
    """The first format that reads a value gives it. Formats are explicit: an inferred one nulls what differs."""
    times = pl.Series(text.name, [None], pl.Datetime("us", "UTC")).new_from_index(0, len(text))
    for pattern in formats:
        if times.null_count() == text.null_count():
            break
        if "%z" in pattern or "%#z" in pattern or "%:z" in pattern or pattern == "%+":
            parsed = text.str.to_datetime(pattern, time_unit="us", time_zone="UTC", strict=False)
        else:
            parsed = _localize(text.str.to_datetime(pattern, time_unit="us", strict=False), timezone, ambiguous)
        times = first_known(times, parsed)
    return times


def _localize(naive: pl.Series, timezone: str, ambiguous: Ambiguous) -> pl.Series:
    local = naive.dt.replace_time_zone(timezone, ambiguous=ambiguous, non_existent="null")
    return local.dt.convert_time_zone("UTC")

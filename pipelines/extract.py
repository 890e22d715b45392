"""One source, some days: raw records into the restricted zone, each day with the receipt that accounts for it.

A record belongs to the UTC day of its event time. A record that tells no time (a broken line, a missing date) is
accounted to the day of its neighbours in the file, else to the day the file was last modified: so every record is
counted exactly once, and a day whose log is broken shows it.
"""

import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import date, datetime

import polars as pl
from pydantic import BaseModel, Field

from pipelines.lake import Lake, Part, Receipt
from pipelines.sources.files import FileReading, FileSource, InputFile, list_files
from pipelines.sources.records import map_records
from pipelines.sources.streams import UnreadableInputError
from pipelines.sources.timestamps import read_times

_SPOOL_BYTES = 128 * 2**20
_MOST_HELD = 8
"""Batches of a file held back, to bound memory, until its first dated record turns up."""

log = logging.getLogger(__name__)


class ExtractionError(Exception):
    """Some inputs cannot be used, so no day of the source can be told whole."""


class ReadInput(BaseModel, frozen=True):
    """A file that was read, and how many of its records belong to each day."""

    file: InputFile
    sha256: str
    records: dict[date, int]


class RawReceipt(Receipt):
    """Accounts for one day of one source: `parts` hold every record of `inputs` that belongs to the day."""

    source: str
    source_fingerprint: str
    day: date
    read_at: datetime
    inputs: list[ReadInput] = Field(default_factory=list)
    growing: list[str] = Field(default_factory=list)


class InputIndex(BaseModel):
    """Which days each file holds, so that a day's run reads only the files that can matter to it."""

    source_fingerprint: str
    inputs: dict[str, ReadInput] = {}

    def may_hold(self, file: InputFile, days: Iterable[date]) -> bool:
        """Whether a file is unknown, changed, or known to hold records of the days."""
        known = self.inputs.get(file.path)
        return known is None or known.file != file or not known.records.keys().isdisjoint(days)


def raw_dataset(source_name: str) -> str:
    """Where the lake keeps a source's records as received."""
    return f"raw/{source_name}"


def extract(source: FileSource, days: Sequence[date], lake: Lake, read_at: datetime) -> dict[date, RawReceipt]:
    """Read what belongs to the days, each file once, and commit a receipt per day.

    Raises ExtractionError, with nothing committed, where a file is damaged: its records could belong to any day.
    """
    listing = list_files(source)
    index = _load_index(source, lake)
    spool = _Spool(lake, raw_dataset(source.name), days)
    inputs, damaged = {}, []
    for file in listing.ready:
        if not index.may_hold(file, days):
            inputs[file.path] = index.inputs[file.path]
            continue
        try:
            inputs[file.path] = _read_input(source, file, read_at, spool)
        except UnreadableInputError as error:
            damaged.append(str(error))
    if damaged:
        raise ExtractionError(
            f"{source.name}: {'; '.join(damaged)}. Nothing was changed. Restore the file, or move it out of "
            f"`{source.path}`, then run the days again."
        )
    parts = spool.finish()
    receipts = {
        day: RawReceipt(
            parts=parts[day],
            source=source.name,
            source_fingerprint=source.fingerprint,
            day=day,
            read_at=read_at,
            inputs=[read for read in inputs.values() if day in read.records],
            growing=[file.path for file in listing.growing],
        )
        for day in days
    }
    for day, receipt in receipts.items():
        lake.commit(raw_dataset(source.name), day, receipt)
    lake.put_text(_index_path(source), index.model_copy(update={"inputs": inputs}).model_dump_json())
    return receipts


def _read_input(source: FileSource, file: InputFile, read_at: datetime, spool: "_Spool") -> ReadInput:
    """Read one file into the spool and count its records by day."""
    log.info("%s: reading a file of %.1f MB", source.name, file.size / 1e6)
    reading = FileReading(source, file)
    records: Counter[date] = Counter()
    for batch in place(reading, source, file.modified_at.date(), read_at):
        records.update(dict(batch["day"].value_counts().iter_rows()))
        spool.add(batch)
    return ReadInput(file=file, sha256=reading.sha256, records=dict(sorted(records.items())))


def place(
    batches: Iterable[pl.DataFrame], source: FileSource, arrival: date, read_at: datetime
) -> Iterator[pl.DataFrame]:
    """The batches of one file with the `day` each record is accounted to; `arrival` where the file tells none."""
    last: date | None = None
    held: list[pl.DataFrame] = []
    for batch in batches:
        day = _event_days(batch, source, read_at)
        if last is None:
            last = day.drop_nulls().first() or (arrival if len(held) == _MOST_HELD else None)  # type: ignore[assignment]
        if last is None:
            held.append(batch)
            continue
        yield from (early.with_columns(day=pl.lit(last)) for early in held)
        held.clear()
        day = day.forward_fill().fill_null(last)
        last = day[-1]
        yield batch.with_columns(day)
    yield from (batch.with_columns(day=pl.lit(arrival)) for batch in held)


def _event_days(batch: pl.DataFrame, source: FileSource, read_at: datetime) -> pl.Series:
    """The UTC day of each record's event time; null where it tells none."""
    day = pl.Series("day", [None], pl.Date).new_from_index(0, batch.height)
    undated = batch["problem"].is_null()
    for column in source.time_columns:  # the fallback is read only where the first time is missing
        if not undated.any():
            break
        mapped = map_records(batch.filter(undated), source, only=[column])
        told = read_times(mapped, source, read_at)["event_time"].dt.date()
        day = day.scatter(undated.arg_true(), told)
        undated &= day.is_null()
    return day


class _Spool:
    """Collects the wanted days' records and writes them out as parts whenever enough have gathered."""

    def __init__(self, lake: Lake, dataset: str, days: Sequence[date]) -> None:
        self._lake = lake
        self._dataset = dataset
        self._gathered: dict[date, list[pl.DataFrame]] = {day: [] for day in days}
        self._parts: dict[date, list[Part]] = {day: [] for day in days}
        self._bytes = 0

    def add(self, batch: pl.DataFrame) -> None:
        """Take in a placed batch; records of other days are left out."""
        wanted = batch.filter(pl.col("day").is_in(list(self._gathered)))
        for (day,), records in wanted.partition_by("day", as_dict=True, include_key=False).items():
            self._gathered[day].append(records)
        self._bytes += int(wanted.estimated_size())
        if self._bytes > _SPOOL_BYTES:
            self._write()

    def finish(self) -> dict[date, list[Part]]:
        """Write what is left and return every day's parts."""
        self._write()
        return self._parts

    def _write(self) -> None:
        for day, batches in self._gathered.items():
            for alike in _group_by_schema(batches):
                self._parts[day].append(self._lake.write(self._dataset, day, alike, briefly=True))
            batches.clear()
        self._bytes = 0


def _group_by_schema(batches: Iterable[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """Concatenate what has the same columns: files of one source may differ."""
    groups: dict[str, list[pl.DataFrame]] = defaultdict(list)
    for batch in batches:
        groups[str(batch.schema)].append(batch)
    return (pl.concat(group) for group in groups.values())


def _load_index(source: FileSource, lake: Lake) -> InputIndex:
    """The index of the last run, or an empty one where the mapping has changed since."""
    stored = lake.get_text(_index_path(source))
    index = InputIndex.model_validate_json(stored) if stored else None
    fits = index is not None and index.source_fingerprint == source.fingerprint
    return index if index is not None and fits else InputIndex(source_fingerprint=source.fingerprint)


def _index_path(source: FileSource) -> str:
    return f"{raw_dataset(source.name)}/inputs.json"

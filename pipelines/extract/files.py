"""Records in files: which day each belongs to, and which files a day has to read again.

A record belongs to the UTC day of its event time. A record that tells no time (a broken line, a missing date) is
accounted to the day of its neighbours in the file, else to the day the file was last modified: so every record is
counted exactly once, and a day whose log is broken shows it.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import partial
from types import MappingProxyType

import polars as pl
from pydantic import BaseModel

from pipelines.extract.fields import Fields
from pipelines.extract.receipt import DIGEST_VERSION, ExtractionError, Input, RawReceipt, raw_dataset, refuse_loss
from pipelines.extract.spool import Spool, add_digests, commit, digest_by_day, event_days
from pipelines.lake import Lake
from pipelines.sources.files import FileReading, FileSource, InputFile, Listing, is_appended_to, list_files
from pipelines.sources.streams import CutOffInputError, UnreadableInputError
from pipelines.tombstones import NOBODY, Erased

_LEFT_OPEN = timedelta(minutes=15)
"""A compressed file without its end may be one that a logger has open, if it was written to so lately."""
_MOST_HELD = 8
"""Batches of a file held back, to bound memory, until its first dated record turns up."""

log = logging.getLogger(__name__)


class ReadInput(BaseModel, frozen=True):
    """A file that was read, and how many of its records belong to each day."""

    file: InputFile
    sha256: str
    records: dict[date, int]
    digests: dict[date, int] = {}
    has_future: bool = False
    """Whether some records lay in the future of the read: they get their day when it has come."""


class InputIndex(BaseModel):
    """Which days each file holds, so that a day's run reads only the files that can matter to it."""

    source_fingerprint: str
    digest_version: str = DIGEST_VERSION
    inputs: dict[str, ReadInput] = {}

    def may_hold(self, file: InputFile, days: Iterable[date]) -> bool:
        """Whether a file is unknown, changed, or known to hold records of the days."""
        known = self.inputs.get(file.path)
        return known is None or known.file != file or known.has_future or not known.records.keys().isdisjoint(days)


@dataclass(frozen=True, slots=True)
class Inputs:
    """The files of a source that hold, or may hold, records of some days: those read now and those known before."""

    index: InputIndex
    read: dict[str, ReadInput]
    growing: list[str]


def extract_files(  # noqa: PLR0913 - what a day is made of
    source: FileSource,
    days: Sequence[date],
    lake: Lake,
    read_at: datetime,
    *,
    accept_missing: bool = False,
    erased: Erased = NOBODY,
) -> dict[date, RawReceipt]:
    """Read what belongs to the days, each file once, and commit a receipt per day.

    Raises ExtractionError, with nothing committed, where a file is damaged (its records could belong to any day), or
    where files that a day was made of are gone and nothing stands in for them, unless that is accepted.
    """
    spool = Spool(lake, raw_dataset(source.name), days, Fields(source), partial(erased.own, source=source))
    inputs = read_inputs(source, days, lake, read_at, lambda reading: read_input(reading, source, read_at, spool))
    return commit_inputs(source, days, inputs, spool, lake=lake, read_at=read_at, accept_missing=accept_missing)


def read_inputs(
    source: FileSource, days: Sequence[date], lake: Lake, read_at: datetime, read: Callable[[FileReading], ReadInput]
) -> Inputs:
    """Read every file that may hold records of the days. Raises ExtractionError where one is damaged."""
    listing = _sort_out(source, list_files(source), read_at)
    index = _load_index(source, lake)
    known: dict[str, ReadInput] = {}
    damaged = []
    for file in (*listing.ready, *listing.growing):
        is_growing = file in listing.growing
        if is_growing and not is_appended_to(source, file):
            continue
        if not index.may_hold(file, days):
            known[file.path] = index.inputs[file.path]
            continue
        log.info("%s: reading a file of %.1f MB", source.name, file.size / 1e6)
        try:
            known[file.path] = read(FileReading(source, file, is_growing=is_growing))
        except UnreadableInputError as error:
            damaged.append(str(error))
    if damaged:
        raise ExtractionError(
            f"{source.name}: {'; '.join(damaged)}. Nothing was changed. Restore the file, or move it out of "
            f"`{source.path}`, then run the days again."
        )
    return Inputs(index, known, [file.path for file in listing.growing])


def commit_inputs(  # noqa: PLR0913 - what a day is made of
    source: FileSource,
    days: Sequence[date],
    inputs: Inputs,
    spool: Spool,
    *,
    lake: Lake,
    read_at: datetime,
    accept_missing: bool,
    unknown_attributes: Mapping[str, int] = MappingProxyType({}),
) -> dict[date, RawReceipt]:
    """Commit what was spooled, a receipt per day, and remember which files hold what. Raises ExtractionError."""
    receipts = {
        day: RawReceipt(
            source=source.name,
            source_fingerprint=source.fingerprint,
            day=day,
            read_at=read_at,
            inputs=[
                Input(name=path, records=read.records[day], size=read.file.size, sha256=read.sha256)
                for path, read in inputs.read.items()
                if day in read.records
            ],
            growing=inputs.growing,
            digest=sum(read.digests.get(day, 0) for read in inputs.read.values()) % 2**64,
            unknown_attributes=dict(unknown_attributes),
        )
        for day in days
    }
    if not accept_missing:
        refuse_loss(source.name, receipts, lake, present=inputs.read.keys())
    commit(source, spool, receipts, lake)
    remember(source, lake, inputs)
    return receipts


def remember(source: FileSource, lake: Lake, inputs: Inputs) -> None:
    """Keep what is known of the files, so that they are read again only where it matters."""
    index = inputs.index.model_copy(update={"inputs": inputs.read})
    lake.put_text(_index_path(source), index.model_dump_json())


def _sort_out(source: FileSource, listing: Listing, read_at: datetime) -> Listing:
    """The listing with young compressed files that lack their end among those that are still being written."""
    young = [file for file in listing.ready if file.modified_at > read_at - _LEFT_OPEN and _is_open(source, file)]
    ready = [file for file in listing.ready if file not in young]
    return Listing(ready=ready, growing=[*listing.growing, *young])


def _is_open(source: FileSource, file: InputFile) -> bool:
    reading = FileReading(source, file)
    try:
        reading.read_to_the_end()
    except CutOffInputError:
        return True
    except UnreadableInputError:
        return False  # it is told when it is read
    return False


def read_input(reading: FileReading, source: FileSource, read_at: datetime, spool: Spool) -> ReadInput:
    """Read one file into the spool and account for it by day. An empty file counts for the day it was written."""
    arrival = reading.file.modified_at.date()
    records: Counter[date] = Counter()
    digests: dict[date, int] = {}
    has_future = False
    for batch in place(reading, source, arrival, read_at):
        records.update(dict(batch["day"].value_counts().iter_rows()))
        add_digests(digests, digest_by_day(batch))
        has_future |= batch["is_early"].any()
        spool.add(batch.drop("is_early"))
    days = dict(sorted(records.items())) or {arrival: 0}
    return ReadInput(file=reading.file, sha256=reading.sha256, records=days, digests=digests, has_future=has_future)


def place(
    batches: Iterable[pl.DataFrame], source: FileSource, arrival: date, read_at: datetime
) -> Iterator[pl.DataFrame]:
    """The batches of one file with the `day` each record is accounted to; `arrival` where the file tells none.

    `is_early` marks records that lie in the future of the read.
    """
    last: date | None = None
    held: list[pl.DataFrame] = []
    for read in batches:
        if read.is_empty():
            continue
        day, is_early = event_days(read, source, read_at)
        batch = read.with_columns(is_early=is_early)
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


def _load_index(source: FileSource, lake: Lake) -> InputIndex:
    """The index of the last run, or an empty one where the mapping has changed since."""
    stored = lake.get_text(_index_path(source))
    index = InputIndex.model_validate_json(stored) if stored else None
    fresh = InputIndex(source_fingerprint=source.fingerprint)
    if index is None or index.source_fingerprint != fresh.source_fingerprint:
        return fresh
    return index if index.digest_version == fresh.digest_version else fresh


def _index_path(source: FileSource) -> str:
    return f"{raw_dataset(source.name)}/inputs.json"

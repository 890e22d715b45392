"""Records in files: which day each belongs to, and which files a day has to read again.

A record belongs to the UTC day of its event time. A record that tells no time (a broken line, a missing date) is
accounted to the day of its neighbours in the file, else to the day the file was last modified: so every record is
counted exactly once, and a day whose log is broken shows it.
"""

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import date, datetime

import polars as pl
from pydantic import BaseModel

from pipelines.extract.receipt import ExtractionError, Input, RawReceipt, raw_dataset
from pipelines.extract.spool import Spool, event_days
from pipelines.lake import Lake
from pipelines.sources.files import FileReading, FileSource, InputFile, list_files
from pipelines.sources.streams import UnreadableInputError

_MOST_HELD = 8
"""Batches of a file held back, to bound memory, until its first dated record turns up."""

log = logging.getLogger(__name__)


class ReadInput(BaseModel, frozen=True):
    """A file that was read, and how many of its records belong to each day."""

    file: InputFile
    sha256: str
    records: dict[date, int]


class InputIndex(BaseModel):
    """Which days each file holds, so that a day's run reads only the files that can matter to it."""

    source_fingerprint: str
    inputs: dict[str, ReadInput] = {}

    def may_hold(self, file: InputFile, days: Iterable[date]) -> bool:
        """Whether a file is unknown, changed, or known to hold records of the days."""
        known = self.inputs.get(file.path)
        return known is None or known.file != file or not known.records.keys().isdisjoint(days)


def extract_files(source: FileSource, days: Sequence[date], lake: Lake, read_at: datetime) -> dict[date, RawReceipt]:
    """Read what belongs to the days, each file once, and commit a receipt per day.

    Raises ExtractionError, with nothing committed, where a file is damaged: its records could belong to any day.
    """
    listing = list_files(source)
    index = _load_index(source, lake)
    spool = Spool(lake, raw_dataset(source.name), days)
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
            inputs=[
                Input(name=path, records=read.records[day], size=read.file.size, sha256=read.sha256)
                for path, read in inputs.items()
                if day in read.records
            ],
            growing=[file.path for file in listing.growing],
        )
        for day in days
    }
    for day, receipt in receipts.items():
        lake.commit(raw_dataset(source.name), day, receipt)
    lake.put_text(_index_path(source), index.model_copy(update={"inputs": inputs}).model_dump_json())
    return receipts


def _read_input(source: FileSource, file: InputFile, read_at: datetime, spool: Spool) -> ReadInput:
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
        day = event_days(batch, source, read_at)
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
    fits = index is not None and index.source_fingerprint == source.fingerprint
    return index if index is not None and fits else InputIndex(source_fingerprint=source.fingerprint)


def _index_path(source: FileSource) -> str:
    return f"{raw_dataset(source.name)}/inputs.json"

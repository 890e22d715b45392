"""Raw records on their way into the lake: dated, gathered by day, written out whenever enough have come together."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import date, datetime

import polars as pl

from pipelines.lake import Lake, Part
from pipelines.sources.records import map_records
from pipelines.sources.source import Source
from pipelines.sources.timestamps import read_times

_SPOOL_BYTES = 128 * 2**20


class Spool:
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


def event_days(batch: pl.DataFrame, source: Source, read_at: datetime) -> pl.Series:
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

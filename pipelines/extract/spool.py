"""Raw records on their way into the lake: dated, gathered by day, written out whenever enough have come together."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import date, datetime

import polars as pl

from pipelines.extract.contract import hold_to_contract
from pipelines.extract.fields import Fields
from pipelines.extract.receipt import RawReceipt, raw_dataset
from pipelines.lake import Lake, Part
from pipelines.sources.records import map_records
from pipelines.sources.source import Source
from pipelines.sources.timestamps import read_times

_SPOOL_BYTES = 32 * 2**20

IsErased = Callable[[pl.DataFrame], pl.Series]
"""Which records are of erased users."""


class Spool:
    """Collects the wanted days' records and writes them out as parts whenever enough have gathered.

    A part is written while the next one gathers; never more than these two are held.
    """

    def __init__(
        self,
        lake: Lake,
        dataset: str,
        days: Sequence[date],
        fields: Fields | None = None,
        is_erased: IsErased | None = None,
    ) -> None:
        self._fields = fields
        self._is_erased = is_erased
        self._erased: Counter[date] = Counter()
        self._lake = lake
        self._dataset = dataset
        self._gathered: dict[date, list[pl.DataFrame]] = {day: [] for day in days}
        self._parts: dict[date, list[Part]] = {day: [] for day in days}
        self._bytes = 0
        self._writer = ThreadPoolExecutor(max_workers=1)
        self._writing: Future[None] | None = None

    def add(self, batch: pl.DataFrame) -> None:
        """Take in a placed batch; records of other days are left out, those of erased users only counted."""
        is_wanted = batch["day"].is_in(list(self._gathered))
        wanted = batch if is_wanted.all() else batch.filter(is_wanted)  # nothing is copied where all are wanted
        wanted = self._without_erased(wanted)
        for day, records in _by_day(wanted):
            self._gathered[day].append(records.drop("day"))
        self._bytes += int(wanted.estimated_size())
        if self._bytes > _SPOOL_BYTES:
            self._write()

    def finish(self, receipts: Iterable[RawReceipt]) -> None:
        """Write what is left, and tell the receipts the parts of their days and the fields of the records."""
        self._write()
        self._written()
        self._writer.shutdown()
        for receipt in receipts:
            receipt.parts, receipt.erased = self._parts[receipt.day], self._erased[receipt.day]
            if self._fields is not None:
                receipt.fields, receipt.looked_at = self._fields.of(receipt.day), self._fields.records(receipt.day)

    def _without_erased(self, records: pl.DataFrame) -> pl.DataFrame:
        if self._is_erased is None or not (is_erased := self._is_erased(records)).any():
            return records
        self._erased.update(records["day"].filter(is_erased).to_list())
        return records.filter(~is_erased)

    def _write(self) -> None:
        """Begin to write what has gathered, once the part before is written. Raises what went wrong with that one."""
        self._written()
        self._writing = self._writer.submit(self._store, self._gathered)
        self._gathered = {day: [] for day in self._gathered}
        self._bytes = 0

    def _written(self) -> None:
        if self._writing is not None:
            self._writing.result()

    def _store(self, gathered: Mapping[date, list[pl.DataFrame]]) -> None:
        for day, batches in gathered.items():
            for alike in _group_by_schema(batches):
                self._parts[day].append(self._lake.write(self._dataset, day, alike, briefly=True))
                if self._fields is not None:
                    self._fields.add(day, _usable(alike)["record"])
            batches.clear()


def commit(source: Source, spool: Spool, receipts: Mapping[date, RawReceipt], lake: Lake) -> None:
    """Make what was gathered the raw days that the receipts account for. Raises DriftError, with nothing committed."""
    spool.finish(receipts.values())
    hold_to_contract(source, receipts, lake)
    for day, receipt in receipts.items():
        lake.commit(raw_dataset(receipt.source), day, receipt)


def _by_day(records: pl.DataFrame) -> Iterator[tuple[date, pl.DataFrame]]:
    """The records of each day; those of a single one are not copied."""
    parts = records.partition_by("day") if records["day"].n_unique() > 1 else [records]
    return ((part["day"][0], part) for part in parts if part.height)


def _usable(records: pl.DataFrame) -> pl.DataFrame:
    is_usable = records["problem"].is_null()
    return records if is_usable.all() else records.filter(is_usable)


def _group_by_schema(batches: Iterable[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """Concatenate what has the same columns: files of one source may differ."""
    groups: dict[str, list[pl.DataFrame]] = defaultdict(list)
    for batch in batches:
        groups[str(batch.schema)].append(batch)
    return (pl.concat(group) for group in groups.values())


def digest_by_day(records: pl.DataFrame) -> dict[date, int]:
    """A digest of each day's records in which their order has no say, to be added up over batches by `add_digests`.

    It tells a changed day from an unchanged one, and is no identity: another version of the library gives another.
    """
    content = [name for name in ("record", "received") if name in records.columns]
    hashed = records.select("day", digest=pl.struct(content).hash())
    return dict(hashed.group_by("day").agg(pl.col("digest").sum()).iter_rows())


def add_digests(total: dict[date, int], more: Mapping[date, int]) -> None:
    """Add digests of further records to those of earlier ones."""
    for day, digest in more.items():
        total[day] = (total.get(day, 0) + digest) % 2**64


def event_days(batch: pl.DataFrame, source: Source, read_at: datetime) -> tuple[pl.Series, pl.Series]:
    """The UTC day of each record's event time, null where it tells none; and which lie in the future of the read."""
    day = pl.Series("day", [None], pl.Date).new_from_index(0, batch.height)
    undated = batch["problem"].is_null()
    is_early = pl.Series([False]).new_from_index(0, batch.height)
    for column in source.time_columns:  # the fallback is read only where the first time is missing
        if not undated.any():
            break
        mapped = map_records(batch.filter(undated), source, only=[column])
        told = read_times(mapped, source, read_at)
        rows = undated.arg_true()
        is_early = is_early.scatter(rows, is_early.gather(rows) | told["is_early"])
        day = day.scatter(rows, told["event_time"].dt.date())
        undated &= day.is_null()
    return day, is_early

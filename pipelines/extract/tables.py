"""Records in tables: each day is one statement, counted by the source in the same snapshot."""

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime
from functools import partial

import polars as pl

from pipelines.extract.fields import Fields
from pipelines.extract.receipt import ExtractionError, Input, PassingError, RawReceipt, raw_dataset, refuse_loss
from pipelines.extract.spool import Spool, add_digests, commit, digest_by_day, event_days
from pipelines.lake import Lake
from pipelines.sources.database import COUNTED, DatabaseSource, Table, as_records
from pipelines.sources.streams import NoAnswerError, UnreadableInputError
from pipelines.tombstones import NOBODY, Erased

log = logging.getLogger(__name__)


def extract_rows(  # noqa: PLR0913 - what a day is made of
    source: DatabaseSource,
    days: Sequence[date],
    lake: Lake,
    read_at: datetime,
    *,
    accept_missing: bool = False,
    erased: Erased = NOBODY,
) -> dict[date, RawReceipt]:
    """Read the rows of the days and commit a receipt per day.

    Raises ExtractionError, with nothing committed, where the database does not answer, counts other rows than came, or
    has no row left of days that had some, unless that is accepted.
    """
    try:
        table = Table(source)
        fields, is_erased = Fields(source, table.types), partial(erased.own, source=source)
        spool = Spool(lake, raw_dataset(source.name), days, fields, is_erased)
        with ThreadPoolExecutor(max_workers=1) as meanwhile:
            counting = meanwhile.submit(table.count_unplaced, read_at, days)
            read = {day: read_day(table, source, day, read_at, spool) for day in days}
            unplaced = counting.result()
    except UnreadableInputError as error:
        kind = PassingError if isinstance(error, NoAnswerError) else ExtractionError
        raise kind(f"{source.name}: {error}. Nothing was changed; run the days again.") from None
    receipts = {
        day: RawReceipt(
            source=source.name,
            source_fingerprint=source.fingerprint,
            day=day,
            read_at=read_at,
            inputs=[Input(name=source.location, records=read[day][0])],
            digest=read[day][1],
            unplaced=unplaced,
        )
        for day in days
    }
    if not accept_missing and not source.record_type.is_state:
        empty = {day: receipt for day, receipt in receipts.items() if not receipt.records}
        refuse_loss(source.name, empty, lake, present=[])
    commit(source, spool, receipts, lake)
    return receipts


def read_day(table: Table, source: DatabaseSource, day: date, read_at: datetime, spool: Spool) -> tuple[int, int]:
    """Read one day into the spool; how many records it has, and their digest. Raises UnreadableInputError."""
    log.info("%s: reading %s", source.name, day)
    came, counted, of_day = 0, 0, 0
    digests: dict[date, int] = {}
    for rows in table.read_day(day):
        came, counted = came + rows.height, rows[COUNTED][0]
        batch = as_records(rows.drop(COUNTED), source)
        if table.dates_exactly:
            batch = batch.with_columns(day=pl.lit(day))
        else:
            batch = _only(day, batch.with_columns(event_days(batch, source, read_at)[0]), source)
        of_day += batch.height
        add_digests(digests, digest_by_day(batch))
        spool.add(batch)
    if came != counted:
        raise NoAnswerError(f"{source.location} counts {counted} rows for {day}, but {came} came")
    return of_day, digests.get(day, 0)


def _only(day: date, batch: pl.DataFrame, source: DatabaseSource) -> pl.DataFrame:
    """The records of the day: nearly always all of them, and then nothing is copied.

    A row whose time cannot be read (an hour that clocks skip) is of the day that is written in it.
    """
    if batch["day"].null_count():
        written = [batch["record"].struct.field(name).cast(pl.String).str.head(10) for name in source.time_fields]
        told = pl.DataFrame(written).select(pl.coalesce(pl.all()).str.to_date(strict=False)).to_series()
        batch = batch.with_columns(day=batch["day"].zip_with(batch["day"].is_not_null(), told))
    is_of_day = (batch["day"] == day).fill_null(value=False)
    return batch if is_of_day.all() else batch.filter(is_of_day)

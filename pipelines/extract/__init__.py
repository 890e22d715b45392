"""One source, some days: raw records into the restricted zone, each day with the receipt that accounts for it."""

import logging
from collections.abc import Sequence
from datetime import date, datetime

import polars as pl

from pipelines.anonymize.keys import PseudonymKey
from pipelines.anonymize.text import sanitize_texts
from pipelines.extract.contract import accept
from pipelines.extract.dirty import Dirty, find_dirty_days
from pipelines.extract.files import extract_files
from pipelines.extract.receipt import Drift, ExtractionError, PassingError, RawReceipt, note_failure, raw_dataset, tell
from pipelines.extract.tables import extract_rows
from pipelines.extract.traces import extract_traces
from pipelines.lake import Lake
from pipelines.sources.database import DatabaseSource
from pipelines.sources.kinds import AnySource
from pipelines.sources.spans import TraceSource
from pipelines.tombstones import Erased, read_erased

log = logging.getLogger(__name__)

__all__ = [
    "Dirty",
    "Drift",
    "ExtractionError",
    "PassingError",
    "RawReceipt",
    "accept",
    "extract",
    "find_dirty_days",
    "raw_dataset",
    "tell",
]


def extract(  # noqa: PLR0913 - what a day is made of
    source: AnySource,
    days: Sequence[date],
    lake: Lake,
    read_at: datetime,
    *,
    accept_missing: bool = False,
    keys: Sequence[PseudonymKey] = (),
) -> dict[date, RawReceipt]:
    """Read what belongs to the days and commit a receipt per day. Erased users are recognised under the keys.

    Raises ExtractionError, with nothing committed. An optional source that fails does not: its days keep what they had
    of it, and their receipts tell the failure.
    """
    try:
        erased = read_erased(lake, keys)
        return _extract(source, days, lake, read_at, accept_missing=accept_missing, erased=erased)
    except ExtractionError as error:
        if not source.optional:
            raise
        told = sanitize_texts(pl.Series([str(error)], dtype=pl.String))[0]
        log.warning("%s is optional and could not be read: %s", source.name, told)
        return note_failure(source, days, lake, read_at, told)


def _extract(  # noqa: PLR0913
    source: AnySource, days: Sequence[date], lake: Lake, read_at: datetime, *, accept_missing: bool, erased: Erased
) -> dict[date, RawReceipt]:
    if isinstance(source, DatabaseSource):
        return extract_rows(source, days, lake, read_at, accept_missing=accept_missing, erased=erased)
    if isinstance(source, TraceSource):
        return extract_traces(source, days, lake, read_at, accept_missing=accept_missing, erased=erased)
    return extract_files(source, days, lake, read_at, accept_missing=accept_missing, erased=erased)

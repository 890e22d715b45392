"""Raw records -> typed, deduplicated, anonymized executions, and the quarantine of what is not one.

A single step: nothing personal or secret is ever written between cleaning and anonymizing.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime

import polars as pl
from pydantic import BaseModel

from pipelines.anonymize.keys import PseudonymKey
from pipelines.anonymize.pseudonyms import digest
from pipelines.clean.anonymity import anonymize
from pipelines.clean.draft import flag, reject
from pipelines.clean.duplicates import Duplicates, keep_latest
from pipelines.clean.quarantine import QUARANTINE, as_quarantine
from pipelines.clean.repair import name_agent, name_outcome, repair_times, repair_usage
from pipelines.clean.values import type_values
from pipelines.execution import EXECUTION
from pipelines.extract import RawReceipt, raw_dataset
from pipelines.lake import Lake, Part, Receipt
from pipelines.pricing import price
from pipelines.pricing.book import PriceBook
from pipelines.sources.casting import to_text
from pipelines.sources.records import ATTRIBUTE, map_records
from pipelines.sources.source import Source
from pipelines.sources.timestamps import read_times

CLEAN_EXECUTIONS = "clean_executions"
QUARANTINED = "quarantine"

_POSITION = ("file", "line", "byte_offset")
_REPLACEMENT = r"\x{FFFD}|\\u(?:[fF]{3}[dD]|0000)"


class StaleRawError(Exception):
    """The raw day was not extracted, or under another configuration than the one it would be read with."""


@dataclass(frozen=True, slots=True)
class Cleaned:
    """What became of some raw records: each one is an execution, in the quarantine, or a duplicate."""

    executions: pl.DataFrame
    quarantine: pl.DataFrame
    duplicates: Duplicates


class SourceCount(BaseModel, frozen=True):
    """Accounts for one source on one day: received = clean + quarantined + duplicates."""

    source: str
    received: int
    clean: int
    quarantined: dict[str, int]
    duplicates: int
    conflicts: int
    inputs: int
    growing: int
    unplaced: int = 0
    failure: str | None = None


class CleanReceipt(Receipt):
    """Accounts for one clean day: `parts` hold its executions, `quarantine` the refused records."""

    day: date
    key_id: str
    sources: list[SourceCount]
    quarantine: list[Part]

    @property
    def content(self) -> list[str]:
        """The rows and what accounts for them: a change in either is another day."""
        counts = [count.model_dump_json(exclude={"unplaced", "failure"}) for count in self.sources]  # no rows
        return [*super().content, *counts]


def clean(day: date, sources: Sequence[Source], lake: Lake, key: PseudonymKey, prices: PriceBook) -> CleanReceipt:
    """Clean one day of all sources and commit it together with its quarantine. Raises StaleRawError."""
    executions, quarantine, counts = [EXECUTION.to_frame()], [QUARANTINE.to_frame()], []
    for source in sources:
        raw = _raw_receipt(day, source, lake)
        cleaned = clean_records((lake.read(part) for part in raw.parts), source, key, raw.read_at, day)
        counts.append(_count(raw, cleaned))
        executions.append(price(cleaned.executions, source, prices))
        quarantine.append(cleaned.quarantine)
        del cleaned  # its rows are sorted below, and a second reference would keep a second copy
    receipt = CleanReceipt(
        day=day,
        key_id=key.id,
        sources=counts,
        parts=[lake.write(CLEAN_EXECUTIONS, day, _in_event_order(executions))],
        quarantine=[lake.write(QUARANTINED, day, pl.concat(quarantine).sort("source", "file", "line"))],
    )
    lake.commit(QUARANTINED, day, Receipt(parts=receipt.quarantine))
    lake.commit(CLEAN_EXECUTIONS, day, receipt)
    return receipt


def clean_records(
    parts: Iterable[pl.DataFrame], source: Source, key: PseudonymKey, read_at: datetime, day: date
) -> Cleaned:
    """Turn raw records, part by part, into executions; what is none is refused with its reason. Raises MappingError."""
    accepted, rejected = [EXECUTION.to_frame()], []
    for records in parts:
        is_usable = pl.col("problem").is_null()
        drafts = _draft(records.filter(is_usable), source, key, read_at)
        unusable = records.filter(~is_usable).with_columns(pl.lit(None, pl.String).alias("detail"), text="received")
        rejected += [as_quarantine(refused, source, day) for refused in (unusable, drafts.filter(~is_usable))]
        accepted.append(anonymize(drafts.filter(is_usable), key).match_to_schema(EXECUTION, extra_columns="ignore"))
    latest, duplicates = keep_latest(pl.concat(accepted))
    return Cleaned(latest, pl.concat([QUARANTINE.to_frame(), *rejected]), duplicates)


def _draft(records: pl.DataFrame, source: Source, key: PseudonymKey, read_at: datetime) -> pl.DataFrame:
    """One draft per usable record: typed, repaired, and with a `problem` where it is no execution."""
    mapped = map_records(records, source)
    text = records["record"] if records.schema["record"] == pl.String else to_text(records["record"])
    drafts = (
        records.select(_POSITION)
        .with_columns(mapped.select("problem", "status_raw", f"^{ATTRIBUTE}.*$"))
        .with_columns(pl.lit(None, pl.String).alias("detail"), text.alias("text"), source=pl.lit(source.name))
        .with_columns(digest(text, "record", key).alias("row_hash"))
        .pipe(flag, "text_repaired", pl.lit(text.str.contains(_REPLACEMENT)))
        .pipe(type_values, mapped, source)
        .pipe(repair_times, read_times(mapped, source, read_at))
        .pipe(name_outcome)
        .pipe(name_agent)
        .pipe(repair_usage, source)
    )
    if "execution_id" not in source.mapping:
        drafts = drafts.with_columns(execution_id="row_hash")
    return drafts.pipe(reject, pl.col("execution_id").is_null(), "no_execution_id").with_columns(
        text=pl.when(pl.col("problem").is_not_null()).then("text")
    )


def _in_event_order(parts: list[pl.DataFrame]) -> pl.DataFrame:
    """The rows of all parts by event time, source and id. Takes the parts away, to hold each column only once."""
    rows = pl.concat(parts)
    parts.clear()
    order = rows.select(pl.arg_sort_by("event_time", "source", "execution_id")).to_series()
    if order.is_sorted():
        return rows
    return pl.DataFrame([rows.drop_in_place(name).gather(order) for name in rows.columns])


def _raw_receipt(day: date, source: Source, lake: Lake) -> RawReceipt:
    receipt = lake.receipt(raw_dataset(source.name), day, RawReceipt)
    if receipt is None:
        raise StaleRawError(f"{source.name} has not been extracted for {day}; run raw_{source.name} first")
    if receipt.source_fingerprint != source.fingerprint:
        raise StaleRawError(
            f"the configuration of {source.name} has changed since {day} was extracted; run raw_{source.name} again"
        )
    return receipt


def _count(raw: RawReceipt, cleaned: Cleaned) -> SourceCount:
    reasons = cleaned.quarantine["reason"].value_counts(sort=True)
    return SourceCount(
        source=raw.source,
        received=raw.rows,
        clean=cleaned.executions.height,
        quarantined=dict(reasons.iter_rows()),
        duplicates=cleaned.duplicates.dropped,
        conflicts=cleaned.duplicates.conflicts,
        inputs=len(raw.inputs),
        growing=len(raw.growing),
        unplaced=raw.unplaced,
        failure=raw.failure,
    )

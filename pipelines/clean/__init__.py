"""Raw records -> typed, deduplicated, anonymized rows, and the quarantine of what can be none.

A single step: nothing personal or secret is ever written between cleaning and anonymizing.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime

import polars as pl
from pydantic import BaseModel, Field

from pipelines.anonymize.keys import PseudonymKey
from pipelines.anonymize.pseudonyms import digest
from pipelines.anonymize.text import DEFAULT, Sanitizer
from pipelines.clean.anonymity import anonymize
from pipelines.clean.contract import apply_contract
from pipelines.clean.draft import flag, reject
from pipelines.clean.duplicates import Duplicates, keep_latest
from pipelines.clean.quarantine import QUARANTINE, as_quarantine
from pipelines.clean.repair import (
    name_agent,
    name_level,
    name_outcome,
    repair_durations,
    repair_rating,
    repair_times,
    repair_usage,
)
from pipelines.clean.values import type_values
from pipelines.extract import RawReceipt, raw_dataset, tell
from pipelines.lake import Lake, Part, Receipt
from pipelines.pricing import price
from pipelines.pricing.book import PriceBook
from pipelines.record_types import EXECUTION_LOGS, EXECUTIONS, RECORD_TYPES, USER_AGENT_PREFERENCES, RecordType
from pipelines.sources.casting import to_text
from pipelines.sources.records import ATTRIBUTE, map_records
from pipelines.sources.source import Source
from pipelines.sources.timestamps import read_times
from pipelines.tombstones import NOBODY, Erased, read_erased

CLEAN_EXECUTIONS = EXECUTIONS.clean_name
QUARANTINED = "quarantine"

_NO_ROWS = {"records", "unplaced", "failure", "drift"}
"""What is told of a source without changing any row of its type."""
_POSITION = ("file", "line", "byte_offset")
_REPLACEMENT = r"\x{FFFD}|\\u(?:[fF]{3}[dD]|0000)"


class StaleRawError(Exception):
    """The raw day was not extracted, or under another configuration than the one it would be read with."""


@dataclass(frozen=True, slots=True)
class Cleaned:
    """What became of some raw records: each one is a row, in the quarantine, a duplicate, or of an erased user."""

    rows: pl.DataFrame
    quarantine: pl.DataFrame
    duplicates: Duplicates
    erased: int


class SourceCount(BaseModel, frozen=True):
    """Accounts for one source on one day: received = clean + quarantined + duplicates + erased."""

    source: str
    records: str = EXECUTIONS.name
    received: int
    clean: int
    quarantined: dict[str, int]
    duplicates: int
    conflicts: int
    inputs: int
    growing: int
    unplaced: int = 0
    erased: int = 0
    failure: str | None = None
    drift: list[str] = Field(default_factory=list)


class CleanReceipt(Receipt):
    """Accounts for one clean day: `parts` hold its executions, `others` its rows of other types by their name.

    `quarantine` holds the refused records.
    """

    day: date
    key_id: str
    sources: list[SourceCount]
    others: dict[str, list[Part]] = Field(default_factory=dict)
    quarantine: list[Part]
    made_of: dict[str, str] = Field(default_factory=dict)
    """What had been read of each source; empty for days of an older version."""

    @property
    def content(self) -> list[str]:
        """The rows and what accounts for them: a change in either is another day."""
        return [told for kind in RECORD_TYPES.values() for told in self.content_of(kind)]

    def content_of(self, kind: RecordType) -> list[str]:
        """The rows of one type, and what accounts for them."""
        counts = [one.model_dump_json(exclude=_NO_ROWS) for one in self.counts_of(kind)]
        return [*(part.sha256 for part in self.parts_of(kind)), *counts]

    def parts_of(self, kind: RecordType) -> list[Part]:
        """Where the rows of one type are."""
        return self.parts if kind is EXECUTIONS else self.others.get(kind.name, [])

    def counts_of(self, kind: RecordType) -> list[SourceCount]:
        """The accounts of the sources whose records are of one type."""
        return [count for count in self.sources if count.records == kind.name]

    def types(self) -> list[RecordType]:
        """The types of records the day is made of: executions, and what other sources there were."""
        return [EXECUTIONS, *self.other_types()]

    def other_types(self) -> list[RecordType]:
        """The types of records beside executions."""
        return [kind for kind in RECORD_TYPES.values() if kind.name in self.others]


def clean(  # noqa: PLR0913 - what a day is a function of
    day: date,
    sources: Sequence[Source],
    lake: Lake,
    key: PseudonymKey,
    prices: PriceBook,
    *,
    sanitizer: Sanitizer = DEFAULT,
    former_keys: Sequence[PseudonymKey] = (),
) -> CleanReceipt:
    """Clean one day of all sources and commit it together with its quarantine. Raises StaleRawError.

    Erased users are recognised under any of the keys, and their records dropped.
    """
    erased = read_erased(lake, [key, *former_keys])
    types = types_of(sources)
    rows = {kind.name: [kind.schema.to_frame()] for kind in types}
    quarantine, counts, made_of = [QUARANTINE.to_frame()], [], {}
    for source in sources:
        raw = _raw_receipt(day, source, lake)
        made_of[source.name] = raw.state
        parts_of_day = (apply_contract(lake.read(part), source, raw.drift) for part in raw.parts)
        cleaned = clean_records(parts_of_day, source, key, raw.read_at, day, sanitizer=sanitizer, erased=erased)
        counts.append(_count(raw, cleaned, source))
        rows[source.records].append(price(cleaned.rows, source, prices))
        quarantine.append(cleaned.quarantine)
        del cleaned  # its rows are sorted below, and a second reference would keep a second copy
    parts = {kind.name: [lake.write(kind.clean_name, day, _in_event_order(rows[kind.name], kind))] for kind in types}
    receipt = CleanReceipt(
        day=day,
        key_id=key.id,
        sources=counts,
        parts=parts[EXECUTIONS.name],
        others={name: written for name, written in parts.items() if name != EXECUTIONS.name},
        quarantine=[lake.write(QUARANTINED, day, pl.concat(quarantine).sort("source", "file", "line"))],
        made_of=made_of,
    )
    for name, written in receipt.others.items():
        lake.commit(RECORD_TYPES[name].clean_name, day, Receipt(parts=written))
    lake.commit(QUARANTINED, day, Receipt(parts=receipt.quarantine))
    lake.commit(CLEAN_EXECUTIONS, day, receipt)
    return receipt


def types_of(sources: Iterable[Source]) -> list[RecordType]:
    """Executions, and whatever else the records of the sources are."""
    told = {source.records for source in sources} | {EXECUTIONS.name}
    return [kind for kind in RECORD_TYPES.values() if kind.name in told]


def clean_records(  # noqa: PLR0913 - what a row is a function of
    parts: Iterable[pl.DataFrame],
    source: Source,
    key: PseudonymKey,
    read_at: datetime,
    day: date,
    *,
    sanitizer: Sanitizer = DEFAULT,
    erased: Erased = NOBODY,
) -> Cleaned:
    """Turn raw records, part by part, into rows; what can be none is refused with its reason. Raises MappingError."""
    kind = source.record_type
    accepted, rejected, erased_count = [kind.schema.to_frame()], [], 0
    for records in parts:
        is_usable = pl.col("problem").is_null()
        drafts = _draft(records.filter(is_usable), source, key, read_at)
        if (is_erased := erased.among(drafts["user"], source.tenant)).any():
            erased_count += int(is_erased.sum())
            drafts = drafts.filter(~is_erased)
        unusable = records.filter(~is_usable).with_columns(pl.lit(None, pl.String).alias("detail"), text="received")
        rejected += [
            as_quarantine(refused, source, day, sanitizer) for refused in (unusable, drafts.filter(~is_usable))
        ]
        rows = anonymize(drafts.filter(is_usable), source, key, sanitizer)
        accepted.append(rows.match_to_schema(kind.schema, extra_columns="ignore"))
    latest, duplicates = keep_latest(pl.concat(accepted), kind)
    return Cleaned(latest, pl.concat([QUARANTINE.to_frame(), *rejected]), duplicates, erased_count)


def _draft(records: pl.DataFrame, source: Source, key: PseudonymKey, read_at: datetime) -> pl.DataFrame:
    """One draft per usable record: typed, repaired, and with a `problem` where no row can be made of it."""
    mapped = map_records(records, source)
    text = records["record"] if records.schema["record"] == pl.String else to_text(records["record"])
    drafts = (
        records.select(_POSITION)
        .with_columns(mapped.select("problem", "^status_raw$", f"^{ATTRIBUTE}.*$"))
        .with_columns(pl.lit(None, pl.String).alias("detail"), text.alias("text"), source=pl.lit(source.name))
        .with_columns(digest(text, "record", key).alias("row_hash"))
        .pipe(flag, "text_repaired", pl.lit(text.str.contains(_REPLACEMENT)))
        .pipe(type_values, mapped, source)
        .pipe(repair_times, read_times(mapped, source, read_at))
        .pipe(_REPAIRS[source.records], source)
    )
    return drafts.with_columns(text=pl.when(pl.col("problem").is_not_null()).then("text"))


def _repair_executions(drafts: pl.DataFrame, source: Source) -> pl.DataFrame:
    return (
        drafts.pipe(repair_durations)
        .pipe(name_outcome)
        .pipe(name_agent)
        .pipe(repair_usage, source)
        .pipe(lambda rows: rows if "execution_id" in source.mapping else _identify(rows, "execution_id"))
        .pipe(reject, pl.col("execution_id").is_null(), "no_execution_id")
    )


def _repair_logs(drafts: pl.DataFrame, _: Source) -> pl.DataFrame:
    return drafts.pipe(name_level).pipe(_identify, "log_id")


def _repair_preferences(drafts: pl.DataFrame, _: Source) -> pl.DataFrame:
    return (
        drafts.pipe(reject, pl.col("user").is_null(), "no_user")
        .pipe(reject, pl.col("agent_id").is_null(), "no_agent")
        .pipe(repair_rating)
    )


_REPAIRS: dict[str, Callable[[pl.DataFrame, Source], pl.DataFrame]] = {
    EXECUTIONS.name: _repair_executions,
    EXECUTION_LOGS.name: _repair_logs,
    USER_AGENT_PREFERENCES.name: _repair_preferences,
}


def _identify(drafts: pl.DataFrame, name: str) -> pl.DataFrame:
    """The record's own digest as its id, where it has none."""
    return drafts.with_columns(pl.coalesce(name, "row_hash").alias(name))


def _in_event_order(parts: list[pl.DataFrame], kind: RecordType) -> pl.DataFrame:
    """The rows of all parts by event time, source and key. Takes the parts away, to hold each column only once."""
    rows = pl.concat(parts)
    parts.clear()
    order = rows.select(pl.arg_sort_by("event_time", "source", *kind.key)).to_series()
    if order.is_sorted():
        return rows
    return pl.DataFrame([rows.drop_in_place(name).gather(order) for name in rows.columns])


def _raw_receipt(day: date, source: Source, lake: Lake) -> RawReceipt:
    receipt = lake.receipt(raw_dataset(source.name), day, RawReceipt)
    if receipt is None:
        raise StaleRawError(f"{source.name} has not been extracted for {day}; run raw_{source.name} first")
    if receipt.source_fingerprint != source.fingerprint and receipt.failure is None:  # an old reading stands in then
        raise StaleRawError(
            f"the configuration of {source.name} has changed since {day} was extracted; run raw_{source.name} again"
        )
    if receipt.is_dropped:
        raise StaleRawError(
            f"the raw records of {source.name} for {day} were kept for as long as `retention` says and are gone; "
            f"run raw_{source.name} again, which needs the source to have them still"
        )
    return receipt


def _count(raw: RawReceipt, cleaned: Cleaned, source: Source) -> SourceCount:
    reasons = cleaned.quarantine["reason"].value_counts(sort=True)
    return SourceCount(
        source=raw.source,
        records=source.records,
        received=raw.received,
        clean=cleaned.rows.height,
        quarantined=dict(reasons.iter_rows()),
        duplicates=cleaned.duplicates.dropped,
        conflicts=cleaned.duplicates.conflicts,
        inputs=len(raw.inputs),
        growing=len(raw.growing),
        unplaced=raw.unplaced,
        erased=raw.erased + cleaned.erased,
        failure=raw.failure,
        drift=tell(raw.drift),
    )

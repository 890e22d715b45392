"""A clean day into the tables of its records, with the receipts that account for it: only if its verdict allows it."""

from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import date
from typing import Literal

import polars as pl
import psycopg
from psycopg.types.json import Jsonb
from pydantic import BaseModel

from pipelines.clean import CLEAN_EXECUTIONS, CleanReceipt, SourceCount, types_of
from pipelines.lake import Lake
from pipelines.record_types import EXECUTIONS, RecordType
from pipelines.sources.source import Source
from pipelines.validate import read_verdict
from pipelines.validate.verdict import Verdict
from pipelines.warehouse.connection import Warehouse
from pipelines.warehouse.ledger import (
    Basis,
    Load,
    content_digest,
    loaded,
    loaded_content,
    loading,
    while_published,
)
from pipelines.warehouse.publish import Tables, locked, publish_locked, replace_locked


class Publication(BaseModel, frozen=True):
    """What became of a day: published, unchanged (it was there already), or blocked, with the reasons."""

    day: date
    outcome: Literal["published", "unchanged", "blocked"]
    rows: int
    reasons: list[str] = []

    @property
    def verdict(self) -> Verdict:
        """What the check `published` says of it."""
        blocked = self.outcome == "blocked"
        return Verdict(
            check="published",
            severity="error",
            passed=not blocked,
            message=f"kept out: {'; '.join(self.reasons)}" if blocked else self.outcome,
            figures={"rows": self.rows},
        )


class PublishedDay(BaseModel, frozen=True, arbitrary_types_allowed=True):
    """A day as readers see it: its rows by event time, and the content that all derived from them depends on."""

    day: date
    content: str
    rows: pl.DataFrame

    @property
    def basis(self) -> Basis:
        """What is derived from the day holds as long as it is published as it was read."""
        return while_published(EXECUTIONS.name, self.day, self.content)


Derive = Callable[[PublishedDay], Tables]
"""What is derived from a day alone, and appears with it."""


class DayAccount(BaseModel, frozen=True):
    """A day's records by source, and whether readers see them as they were cleaned last."""

    day: date
    sources: list[SourceCount]
    is_published: bool
    blocked_by: list[str]
    warnings: dict[str, str]


def publish_records(
    kind: RecordType, day: date, lake: Lake, warehouse: Warehouse, derive: Derive = lambda _: []
) -> Publication:
    """Publish a clean day's records of one type, unless a check blocks it or nobody judged it: the old day stays then.

    What is derived from the day appears in the same moment. The day is read under its lock: of two runs, the one that
    publishes last publishes what was cleaned last.
    """
    with warehouse.connect() as connection, loading(connection, kind.name, day):
        verdict, receipt = read_verdict(day, lake), lake.receipt(CLEAN_EXECUTIONS, day, CleanReceipt)
        if receipt is None or verdict is None:
            reason = "the day was not validated as it is now; run clean_executions for it again"
            return Publication(day=day, outcome="blocked", rows=0, reasons=[reason])
        parts = receipt.parts_of(kind)
        count = sum(part.rows for part in parts)
        if not verdict.is_publishable:
            return Publication(day=day, outcome="blocked", rows=count, reasons=verdict.reasons)
        load = Load(table=kind.name, day=day, content=_content(receipt, kind), rows=count, key_id=receipt.key_id)
        rows = pl.concat([kind.schema.to_frame(), *(lake.read(part) for part in parts)])
        derived = derive(PublishedDay(day=day, content=load.content, rows=rows))
        with locked(connection, derived):

            def _also(within: psycopg.Connection) -> None:
                _replace_receipts(within, receipt, kind)
                replace_locked(within, derived)

            changed = publish_locked(connection, load, rows, _also)
            if not changed:
                with connection.transaction():
                    replace_locked(connection, derived)
    return Publication(day=day, outcome="published" if changed else "unchanged", rows=count)


def held_days(
    kind: RecordType, sources: Iterable[Source], days: Sequence[date], warehouse: Warehouse
) -> Collection[date]:
    """The days of which a type has a table: all where a source has such records, else those that once had some."""
    if kind in types_of(sources):
        return days
    with warehouse.connect() as connection:
        return [day for day in days if loaded_content(connection, kind.name, day) is not None]


def account(day: date, lake: Lake, warehouse: Warehouse) -> DayAccount | None:
    """What became of a day's records, told by receipts, verdict and ledger; None where it was never cleaned."""
    receipt = lake.receipt(CLEAN_EXECUTIONS, day, CleanReceipt)
    if receipt is None:
        return None
    verdict = read_verdict(day, lake)
    with warehouse.connect() as connection:
        loads = {kind: loaded(connection, kind.name, day) for kind in receipt.types()}
    reasons = verdict.reasons if verdict else ["the day was not validated"]
    if not reasons and any(load is not None and load.is_of_another_version for load in loads.values()):
        reasons = ["it was published by another version; run it again to renew it"]
    is_published = all(load is not None and load.content == _content(receipt, kind) for kind, load in loads.items())
    return DayAccount(
        day=day,
        sources=receipt.sources,
        is_published=is_published,
        blocked_by=[] if is_published else reasons,
        warnings={} if verdict is None else verdict.warnings,
    )


def _content(receipt: CleanReceipt, kind: RecordType) -> str:
    return content_digest(kind.name, receipt.content_of(kind))


def _replace_receipts(connection: psycopg.Connection, receipt: CleanReceipt, kind: RecordType) -> None:
    """The receipts of the day's sources of one type, and none of sources that are gone."""
    others = [count.source for count in receipt.sources if count.records != kind.name]
    connection.execute(
        "delete from agentmill.receipts_daily where day = %s and source <> all(%s::text[])", [receipt.day, others]
    )
    with connection.cursor() as cursor:
        cursor.executemany(
            "insert into agentmill.receipts_daily values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
            [
                (
                    receipt.day,
                    count.source,
                    count.received,
                    count.clean,
                    sum(count.quarantined.values()),
                    count.duplicates,
                    count.conflicts,
                    Jsonb(count.quarantined),
                    count.inputs,
                    count.growing,
                    count.erased,
                )
                for count in receipt.counts_of(kind)
            ],
        )

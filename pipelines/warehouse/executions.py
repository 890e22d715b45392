"""A clean day into the table of executions, with the receipts that account for it: only if its verdict allows it."""

from collections.abc import Sequence
from datetime import date
from typing import Literal

import polars as pl
import psycopg
from psycopg.types.json import Jsonb
from pydantic import BaseModel

from pipelines.clean import CLEAN_EXECUTIONS, CleanReceipt, SourceCount
from pipelines.lake import Lake
from pipelines.validate import read_verdict
from pipelines.warehouse.connection import Warehouse
from pipelines.warehouse.ledger import Basis, Load, content_digest, loaded_content, loading, while_published
from pipelines.warehouse.publish import publish_locked

EXECUTIONS = "executions"


class Publication(BaseModel, frozen=True):
    """What became of a day: published, unchanged (it was there already), or blocked, with the reasons."""

    day: date
    outcome: Literal["published", "unchanged", "blocked"]
    rows: int
    reasons: list[str] = []


class PublishedDay(BaseModel, frozen=True, arbitrary_types_allowed=True):
    """A day as readers see it: its rows by event time, and the content that all derived from them depends on."""

    day: date
    content: str
    rows: pl.DataFrame

    @property
    def basis(self) -> Basis:
        """What is derived from the day holds as long as it is published as it was read."""
        return while_published(EXECUTIONS, self.day, self.content)


class DayAccount(BaseModel, frozen=True):
    """A day's records by source, and whether readers see them as they were cleaned last."""

    day: date
    sources: list[SourceCount]
    is_published: bool
    blocked_by: list[str]
    warnings: dict[str, str]


def publish_executions(day: date, lake: Lake, warehouse: Warehouse) -> Publication:
    """Publish a clean day, unless a check blocks it or nobody judged it: then the old day stays in place.

    The day is read under its lock: of two runs, the one that publishes last publishes what was cleaned last.
    """
    with warehouse.connect() as connection, loading(connection, EXECUTIONS, day):
        verdict, receipt = read_verdict(day, lake), lake.receipt(CLEAN_EXECUTIONS, day, CleanReceipt)
        if receipt is None or verdict is None:
            reason = "the day was not validated as it is now; run clean_executions for it again"
            return Publication(day=day, outcome="blocked", rows=0, reasons=[reason])
        if not verdict.is_publishable:
            return Publication(day=day, outcome="blocked", rows=receipt.rows, reasons=verdict.reasons)
        load = Load(table=EXECUTIONS, day=day, content=_content(receipt), rows=receipt.rows, key_id=receipt.key_id)
        rows = pl.concat([lake.read(part) for part in receipt.parts])
        changed = publish_locked(connection, load, rows, also=lambda within: _replace_receipts(within, receipt))
    return Publication(day=day, outcome="published" if changed else "unchanged", rows=receipt.rows)


def published_day(day: date, lake: Lake, warehouse: Warehouse, columns: Sequence[str]) -> PublishedDay | None:
    """These columns of a day as published, from the lake; None where another clean day, or none, is published.

    A blocked day keeps its old rows in the warehouse, and so must keep everything that was derived from them.
    """
    receipt = lake.receipt(CLEAN_EXECUTIONS, day, CleanReceipt)
    if receipt is None:
        return None
    with warehouse.connect() as connection:
        published = loaded_content(connection, EXECUTIONS, day)
    if published != _content(receipt):
        return None
    return PublishedDay(
        day=day, content=published, rows=pl.concat([lake.read(part, columns) for part in receipt.parts])
    )


def account(day: date, lake: Lake, warehouse: Warehouse) -> DayAccount | None:
    """What became of a day's records, told by receipts, verdict and ledger; None where it was never cleaned."""
    receipt = lake.receipt(CLEAN_EXECUTIONS, day, CleanReceipt)
    if receipt is None:
        return None
    verdict = read_verdict(day, lake)
    with warehouse.connect() as connection:
        is_published = loaded_content(connection, EXECUTIONS, day) == _content(receipt)
    return DayAccount(
        day=day,
        sources=receipt.sources,
        is_published=is_published,
        blocked_by=verdict.reasons if verdict else ["the day was not validated"],
        warnings={} if verdict is None else verdict.warnings,
    )


def _content(receipt: CleanReceipt) -> str:
    return content_digest(EXECUTIONS, receipt.content)


def _replace_receipts(connection: psycopg.Connection, receipt: CleanReceipt) -> None:
    connection.execute("delete from agentmill.receipts_daily where day = %s", [receipt.day])
    with connection.cursor() as cursor:
        cursor.executemany(
            "insert into agentmill.receipts_daily values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
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
                )
                for count in receipt.sources
            ],
        )

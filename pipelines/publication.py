"""A day as readers see it: its executions and all that is derived from them alone, visible in one moment."""

from dataclasses import dataclass, field
from datetime import date

import polars as pl

from pipelines import failures, rollup
from pipelines.failures import categorize_failures, derive_facts
from pipelines.lake import Lake
from pipelines.pricing.book import PriceBook
from pipelines.record_types import EXECUTIONS
from pipelines.validate.verdict import Verdict
from pipelines.warehouse.connection import Warehouse
from pipelines.warehouse.executions import Publication, PublishedDay, publish_records
from pipelines.warehouse.ledger import Load, content_digest
from pipelines.warehouse.publish import Tables, replace_rows

COLUMNS = tuple(dict.fromkeys((*rollup.COLUMNS, *failures.COLUMNS)))
"""What is read of an execution."""


class ContradictionError(Exception):
    """Tables of one day tell different totals; nothing of the day is published."""


@dataclass(slots=True)
class Derived:
    """What is derived from one day: what it depends on, rows by table, and verdicts on them."""

    content: str = ""
    tables: dict[str, pl.DataFrame] = field(default_factory=dict)
    verdicts: list[Verdict] = field(default_factory=list)


def publish_day(day: date, lake: Lake, warehouse: Warehouse, prices: PriceBook) -> tuple[Publication, Derived]:
    """Publish a clean day of executions with its rollups and failure facts, in one transaction.

    A day whose tables contradict each other is blocked like one that a check blocks: all of its old tables stay.
    """
    derived = Derived()

    def _derive(executions: PublishedDay) -> Tables:
        nonlocal derived
        derived = derive(executions, prices)
        return as_tables(executions, derived)

    try:
        return publish_records(EXECUTIONS, day, lake, warehouse, _derive), derived
    except ContradictionError as error:
        return Publication(day=day, outcome="blocked", rows=0, reasons=[str(error)]), derived


def publish_derived(executions: PublishedDay, warehouse: Warehouse, prices: PriceBook) -> Derived:
    """Publish what is derived from a day that is published already. Raises BusyError, ContradictionError."""
    derived = derive(executions, prices)
    replace_rows(warehouse, as_tables(executions, derived), basis=executions.basis)
    return derived


def derive(executions: PublishedDay, prices: PriceBook) -> Derived:
    """Everything that follows from one day's executions."""
    rows = executions.rows.select(COLUMNS)
    tables = rollup.compute(rows, categorize_failures, prices)
    verdicts = [rollup.judge(tables, rows), rollup.judge_sketches(tables, rows)]
    return Derived(content_digest(executions.content, prices.digest), tables | derive_facts(rows), verdicts)


def as_tables(executions: PublishedDay, derived: Derived) -> Tables:
    """What is derived from a day as it is loaded. Raises ContradictionError."""
    if reasons := [verdict.message for verdict in derived.verdicts if verdict.blocks]:
        raise ContradictionError("; ".join(reasons))
    return [
        (Load(table=name, day=executions.day, content=derived.content, rows=rows.height), rows)
        for name, rows in derived.tables.items()
    ]

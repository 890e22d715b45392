"""Is a clean day fit to be published? Expectations on its rows, conservation of its records, and the verdict.

The verdict is kept beside the day it judges. Publishing asks for it, so a day that failed gets through neither in this
run nor in a later one.
"""

from collections.abc import Sequence
from datetime import date

import polars as pl

from pipelines.clean import CLEAN_EXECUTIONS, CleanReceipt
from pipelines.lake import Lake
from pipelines.pricing.book import PriceBook
from pipelines.record_types import EXECUTIONS, RecordType
from pipelines.sources.source import Source
from pipelines.validate.canary import judge_secrets
from pipelines.validate.conservation import judge_conservation, judge_drift, judge_inputs, judge_quarantine
from pipelines.validate.costs import judge_costs
from pipelines.validate.expectations import COLUMNS, judge_rows
from pipelines.validate.other_records import judge_others
from pipelines.validate.repeats import judge_repeats
from pipelines.validate.verdict import DayVerdict


class MissingDayError(Exception):
    """The day has not been cleaned."""


def validate(day: date, sources: Sequence[Source], lake: Lake, prices: PriceBook) -> DayVerdict:
    """Go through all CHECKS of a clean day and keep the verdict beside it. Raises MissingDayError."""
    receipt = lake.receipt(CLEAN_EXECUTIONS, day, CleanReceipt)
    if receipt is None:
        raise MissingDayError(f"{day} has not been cleaned; run clean_executions for it first")
    rows = pl.concat([lake.read(part, COLUMNS) for part in receipt.parts])
    others = {kind: _read(receipt, kind, lake) for kind in receipt.types() if kind is not EXECUTIONS}
    verdict = DayVerdict(
        day=day,
        content=receipt.content,
        verdicts=[
            *judge_rows(rows, day, receipt.rows),
            judge_others(others, day),
            judge_secrets(receipt, lake),
            judge_conservation(receipt, [rows, *others.values()]),
            judge_quarantine(receipt, sources),
            judge_inputs(receipt),
            judge_drift(receipt),
            judge_repeats(day, rows, lake),
            judge_costs(rows, sources, prices),
        ],
    )
    lake.put_text(_path(day), verdict.model_dump_json(indent=1))
    return verdict


def _read(receipt: CleanReceipt, kind: RecordType, lake: Lake) -> pl.DataFrame:
    return pl.concat([kind.schema.to_frame(), *(lake.read(part) for part in receipt.parts_of(kind))])


def read_verdict(day: date, lake: Lake) -> DayVerdict | None:
    """The verdict on the clean day as it is now; None where it was never judged, or has changed since."""
    stored, receipt = lake.get_text(_path(day)), lake.receipt(CLEAN_EXECUTIONS, day, CleanReceipt)
    if stored is None or receipt is None:
        return None
    verdict = DayVerdict.model_validate_json(stored)
    return verdict if verdict.content == receipt.content else None


def _path(day: date) -> str:
    return f"{CLEAN_EXECUTIONS}/day={day}/verdict.json"

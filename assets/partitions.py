"""Days as Dagster sees them: one partition per UTC day, today included, and the days that a run is about."""

import logging
import time
import warnings
from collections.abc import Iterator
from datetime import date

import dagster as dg

from pipelines.settings import load_settings

# Backfills in one run are still called beta; saying so at every start helps nobody.
warnings.filterwarnings("ignore", category=dg.BetaWarning)

daily = dg.DailyPartitionsDefinition(start_date=load_settings().start_date.isoformat(), end_offset=1)
whole_range = dg.BackfillPolicy.single_run()

progress = logging.getLogger("assets.progress")
"""Tells, day by day, how far a run has come: `stage`, `done` and `total` of each record."""


def days(context: dg.AssetExecutionContext) -> list[date]:
    """The days of the run, in order."""
    return sorted(date.fromisoformat(key) for key in context.partition_keys)


def each_day(context: dg.AssetExecutionContext, stage: str) -> Iterator[date]:
    """The days of the run one by one, each told when it begins, with the seconds spent on it as metadata."""
    chosen = days(context)
    for done, day in enumerate(chosen):
        tell(stage, done, len(chosen), f"{day}")
        started = time.monotonic()
        yield day
        seconds = {"seconds": round(time.monotonic() - started, 3)}
        for key in context.selected_asset_keys:
            context.add_asset_metadata(seconds, asset_key=key, partition_key=day.isoformat())
    tell(stage, len(chosen), len(chosen))


def tell(stage: str, done: int, total: int, doing: str = "done") -> None:
    """Tell how far a stage has come."""
    told = {"stage": stage, "done": done, "total": total, "doing": doing}
    progress.info("%s: %s of %s days, %s", stage, done, total, doing, extra=told)

"""Which days were read anew and not cleaned since: the run ended before, or another of their sources failed."""

from collections.abc import Sequence
from datetime import date, datetime

from pipelines.clean import CLEAN_EXECUTIONS, CleanReceipt
from pipelines.extract import RawReceipt, raw_dataset
from pipelines.lake import Lake
from pipelines.sources.source import Source


def find_stale_days(sources: Sequence[Source], lake: Lake, since: date, read_before: datetime) -> dict[date, list[str]]:
    """The days from `since` on whose clean rows are older than what was read of some sources, with those sources.

    What was read at `read_before` or later is left alone: a run may be about to clean it. So are days before the
    first clean one, which retention may have dropped, and days cleaned by a version that did not keep what they are
    made of.
    """
    cleaned = lake.days(CLEAN_EXECUTIONS)
    first = max(since, cleaned[0]) if cleaned else since
    held = {source.name: set(lake.days(raw_dataset(source.name))) for source in sources}
    stale = {}
    for day in sorted(set[date]().union(*held.values())):
        if day < first:
            continue
        clean = lake.receipt(CLEAN_EXECUTIONS, day, CleanReceipt)
        read = {name: lake.receipt(raw_dataset(name), day, RawReceipt) for name in held if day in held[name]}
        if names := [name for name, raw in read.items() if raw and raw.read_at < read_before and _is_stale(raw, clean)]:
            stale[day] = names
    return stale


def _is_stale(raw: RawReceipt, clean: CleanReceipt | None) -> bool:
    if raw.is_dropped:
        return False
    if clean is None:
        return raw.records > 0
    return bool(clean.made_of) and clean.made_of.get(raw.source) != raw.state

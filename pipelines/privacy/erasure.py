"""One user out of every place: raw records, clean days, quarantine, published tables, and all that is derived.

Days are rebuilt by the functions that built them, from raw records where those are whole, else from the clean zone less
the user's rows; nothing is read from sources. Whatever was done before a crash, the same again finishes it.
"""

import contextlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime

import polars as pl
from pydantic import BaseModel

from pipelines.clean import CLEAN_EXECUTIONS, QUARANTINED, CleanReceipt, clean
from pipelines.extract import RawReceipt, raw_dataset
from pipelines.lake import Lake, Part, Receipt
from pipelines.legacy.held import forget
from pipelines.pricing.book import PriceBook
from pipelines.privacy import PrivacyError
from pipelines.privacy.buried import bury
from pipelines.privacy.published import count_rows, days_of, strike_rows
from pipelines.publication import publish_day
from pipelines.record_types import EXECUTIONS, RECORD_TYPES, RecordType
from pipelines.regression import refresh
from pipelines.report import write_failure_report, write_regression_report
from pipelines.settings import Settings
from pipelines.sources.records import MappingError
from pipelines.sources.source import Source
from pipelines.tombstones import Erased
from pipelines.validate import validate
from pipelines.warehouse.connection import Warehouse
from pipelines.warehouse.executions import publish_records

_OUT_OF_REACH = (
    "the sources themselves: delete the user there too; until then the records are read, and dropped, each time",
    "backups, such as those in `<state_dir>/backups`: after a restore run `agentmill erase-user --restored`",
    "copies of reports, query results and files of regression cases that somebody made",
    "what records of other users say of the user, beyond what sanitizing removes",
    "records that name no user, such as lines of logs without one, and broken records, of which nobody knows whose",
    "where only rollups of a day are left: counts, times and masked templates of failures",
    "types, sizes and skeletons of inputs that regression cases keep: they name nobody",
    "what people wrote, and what tests told: reasons, names, inputs that reviewers gave, results and their files",
    "Dagster's storage: executions and masked templates in its events, what was typed into the forms of its jobs",
)

_ENDED = """
select given.case_id
from unnest(%s::text[]) as given (case_id)
where not exists (
    select
    from agentmill.regression_cases as held
    left join agentmill.failure_cluster_signatures as member using (cluster_id)
    where given.case_id in (held.case_id, 'rc_' || member.signature_id)
)
order by given.case_id collate "C"
"""


class Certificate(BaseModel):
    """What was erased, where and how much of it, and what cannot be reached. It names pseudonyms only."""

    user_keys: list[str]
    erased_at: datetime
    new_tombstones: list[str]
    raw_records: int = 0
    clean_rows: int = 0
    quarantine_rows: int = 0
    published_rows: dict[str, int]
    rebuilt_days: list[date] = []
    struck_days: list[date] = []
    """Days without all of their raw records: nobody knows which of the refused records were the users'."""
    blocked_days: list[date] = []
    """Days that a check keeps from being published; the user's rows were taken out of what they keep."""
    ended_cases: list[str] = []
    """Regression cases that went: without the users, their failures did not happen often enough to ask for one."""
    out_of_reach: list[str]

    @property
    def rows(self) -> int:
        """Everything that was removed."""
        return self.raw_records + self.clean_rows + self.quarantine_rows + sum(self.published_rows.values())


@dataclass(frozen=True, slots=True)
class _Work:
    """What an erasure works with, and tells."""

    erased: Erased
    settings: Settings
    lake: Lake
    warehouse: Warehouse
    prices: PriceBook
    told: Certificate


def erase(user_keys: Sequence[str], settings: Settings, lake: Lake, warehouse: Warehouse, now: datetime) -> Certificate:
    """Erase the users of these pseudonyms. Raises PrivacyError, BusyError; the same again goes on."""
    told = Certificate(
        user_keys=sorted(user_keys),
        erased_at=now,
        new_tombstones=bury(user_keys, lake, warehouse, now),
        published_rows=count_rows(warehouse, user_keys),
        out_of_reach=list(_OUT_OF_REACH),
    )
    keys = (settings.read_key(), *settings.read_former_keys())
    work = _Work(Erased(frozenset(user_keys), keys), settings, lake, warehouse, settings.read_prices(), told)
    cases = warehouse.read("select case_id from agentmill.regression_cases")["case_id"].to_list()
    days = days_of(warehouse, user_keys) | _erase_raw(work) | _clean_days(work)
    for day in sorted(days):
        _rebuild(day, work)
    told.rebuilt_days = sorted({*told.rebuilt_days, *strike_rows(warehouse, user_keys, work.prices)})
    with warehouse.connect() as connection:
        forget(connection, list(user_keys))
    refresh(warehouse, settings)
    told.ended_cases = warehouse.read(_ENDED, [cases])["case_id"].to_list()
    write_failure_report(warehouse, settings.reports)
    write_regression_report(warehouse, settings.reports)
    if left := {table: rows for table, rows in count_rows(warehouse, user_keys).items() if rows}:
        raise PrivacyError(f"rows came back while the user was erased ({left}): let no run go on, and erase again")
    return told


def _erase_raw(work: _Work) -> set[date]:
    """Rewrite the raw days without the users' records; the days that had some."""
    changed = set()
    for dataset in work.lake.datasets("raw"):
        name = dataset.removeprefix("raw/")
        source, unsure = work.settings.sources.get(name), 0
        for day in work.lake.days(dataset):
            receipt = work.lake.receipt(dataset, day, RawReceipt)
            if receipt is None:
                continue
            unsure += bool(receipt.parts) and (source is None or receipt.source_fingerprint != source.fingerprint)
            removed = 0 if source is None else _rewrite(dataset, day, receipt, source, work)
            work.told.raw_records += removed
            if removed or _is_behind(day, receipt, work):
                changed.add(day)
        if unsure:
            work.told.out_of_reach.append(
                f"{unsure} raw days of {name}, read under another configuration: searched by the present one at best; "
                "run them again, or let `agentmill retain` drop them"
            )
    return changed


def _rewrite(dataset: str, day: date, receipt: RawReceipt, source: Source, work: _Work) -> int:
    """Keep of a raw day what is not the users'; how many records were. Parts that no receipt names go in any case."""
    lake, before = work.lake, receipt.rows
    with contextlib.suppress(MappingError):  # the fields of another configuration: told as unsure
        parts = [_without_raw(part, dataset, day, source, work) for part in receipt.parts]
        receipt.parts = [part for part in parts if part.rows]
    removed = before - receipt.rows
    if removed:
        receipt.erased += removed
        lake.commit(dataset, day, receipt)
    lake.sweep(dataset, day)
    return removed


def _is_behind(day: date, raw: RawReceipt, work: _Work) -> bool:
    """Whether an erasure that was interrupted has rewritten the raw day, and not yet cleaned it."""
    clean_day = work.lake.receipt(CLEAN_EXECUTIONS, day, CleanReceipt)
    if not raw.erased or clean_day is None or not _is_whole(day, clean_day, work):
        return False
    return sum(count.erased for count in clean_day.sources if count.source == raw.source) < raw.erased


def _without_raw(part: Part, dataset: str, day: date, source: Source, work: _Work) -> Part:
    records = work.lake.read(part)
    is_erased = work.erased.own(records, source)
    return work.lake.write(dataset, day, records.filter(~is_erased), briefly=True) if is_erased.any() else part


def _clean_days(work: _Work) -> set[date]:
    """The days of which the clean zone tells of the users."""
    days = {day for kind in RECORD_TYPES.values() for day in work.lake.days(kind.clean_name)}
    return {day for day in days if _count(day, work)}


def _rebuild(day: date, work: _Work) -> None:
    """Clean the day again without the users, and publish it with all that is derived from it."""
    settings, lake, prices, told = work.settings, work.lake, work.prices, work.told
    before = lake.receipt(CLEAN_EXECUTIONS, day, CleanReceipt)
    if before is None:
        return
    told.clean_rows += _count(day, work).total()
    sources = list(settings.sources.values())
    if _is_whole(day, before, work):
        after = clean(
            day,
            sources,
            lake,
            settings.read_key(),
            prices,
            sanitizer=settings.read_sanitizer(),
            former_keys=settings.read_former_keys(),
        )
    else:
        after = _strike_clean(day, before, work)
        told.struck_days.append(day)
    told.quarantine_rows += max(0, _refused(before) - _refused(after))
    for dataset in (*(kind.clean_name for kind in RECORD_TYPES.values()), QUARANTINED):
        lake.sweep(dataset, day)
    told.rebuilt_days.append(day)
    if {count.source for count in after.sources} - settings.sources.keys():
        return  # nobody can judge records of sources that are gone: the rows are taken out of the tables
    if not validate(day, sources, lake, prices).is_publishable:
        told.blocked_days.append(day)
        return
    publication, _ = publish_day(day, lake, work.warehouse, prices)
    if publication.outcome == "blocked":
        told.blocked_days.append(day)
        return
    for kind in after.other_types():
        publish_records(kind, day, lake, work.warehouse)


def _is_whole(day: date, receipt: CleanReceipt, work: _Work) -> bool:
    """Whether cleaning the day again gives what it gave, less the users: its raw records are all there."""
    sources = work.settings.sources
    if {count.source for count in receipt.sources} != sources.keys():
        return False
    raw = [(source, work.lake.receipt(raw_dataset(name), day, RawReceipt)) for name, source in sources.items()]
    return all(
        receipt is not None and not receipt.is_dropped and receipt.source_fingerprint == source.fingerprint
        for source, receipt in raw
    )


def _strike_clean(day: date, receipt: CleanReceipt, work: _Work) -> CleanReceipt:
    """The clean day less the users' rows, counted as erased. Nobody knows which of the refused records were theirs."""
    lake, removed = work.lake, _count(day, work)
    parts = {
        kind.name: [_without_rows(part, day, kind, work) for part in receipt.parts_of(kind)] for kind in receipt.types()
    }
    sources = [
        count.model_copy(update={"clean": count.clean - theirs, "erased": count.erased + theirs})
        for count in receipt.sources
        for theirs in [removed[count.records, count.source]]
    ]
    others = {name: written for name, written in parts.items() if name != EXECUTIONS.name}
    after = receipt.model_copy(update={"sources": sources, "parts": parts[EXECUTIONS.name], "others": others})
    for name, written in others.items():
        lake.commit(RECORD_TYPES[name].clean_name, day, Receipt(parts=written))
    lake.commit(CLEAN_EXECUTIONS, day, after)
    return after


def _without_rows(part: Part, day: date, kind: RecordType, work: _Work) -> Part:
    rows = work.lake.read(part)
    return work.lake.write(kind.clean_name, day, rows.filter(~_is_theirs(rows, work)))


def _count(day: date, work: _Work) -> Counter[tuple[str, str]]:
    """The users' rows of a clean day by type and source."""
    found: Counter[tuple[str, str]] = Counter()
    for kind in RECORD_TYPES.values():
        receipt = work.lake.receipt(kind.clean_name, day, Receipt)
        for part in receipt.parts if receipt else ():
            rows = work.lake.read(part, ["source", "user_key"])
            found.update((kind.name, source) for source in rows.filter(_is_theirs(rows, work))["source"])
    return found


def _is_theirs(rows: pl.DataFrame, work: _Work) -> pl.Series:
    return rows["user_key"].is_in(list(work.erased.user_keys)).fill_null(value=False)


def _refused(receipt: CleanReceipt) -> int:
    return sum(sum(count.quarantined.values()) for count in receipt.sources)

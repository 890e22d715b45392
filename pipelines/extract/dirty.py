"""Which days have to be run again: late, moved or changed records, days never run, another configuration."""

import logging
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import partial

from pipelines.extract.files import ReadInput, read_input, read_inputs, remember
from pipelines.extract.receipt import DIGEST_VERSION, ExtractionError, RawReceipt, raw_dataset
from pipelines.extract.spool import Spool
from pipelines.extract.tables import read_day
from pipelines.extract.traces import read_spans
from pipelines.lake import Lake
from pipelines.sources.database import DatabaseSource, Table
from pipelines.sources.files import FileSource
from pipelines.sources.kinds import AnySource
from pipelines.sources.spans import TraceSource
from pipelines.sources.spans.traces import Traces
from pipelines.sources.streams import UnreadableInputError

_DAY = timedelta(days=1)

log = logging.getLogger(__name__)

State = tuple[int, int]
"""How many records a day has, and their digest."""


@dataclass(frozen=True, slots=True)
class Dirty:
    """Why a day has to be run again, and a word for the state it would then be in; `is_new` if it was never run.

    A day that would be empty then `needs_consent`: it keeps what it has unless the loss is accepted.
    """

    reason: str
    state: str
    is_new: bool
    needs_consent: bool


@dataclass(frozen=True, slots=True)
class _Look:
    """What a source holds now. `inputs` are the files there are; None for a table, where only some days are known."""

    days: dict[date, State]
    inputs: Collection[str] | None

    def is_missing(self, receipt: RawReceipt, day: date) -> bool:
        """Whether what the day was made of cannot be compared: it was not looked at, or files are gone."""
        if self.inputs is None:
            return day not in self.days
        is_less = self.days.get(day, (0, 0))[0] < receipt.records
        return is_less and any(read.records and read.name not in self.inputs for read in receipt.inputs)


def find_dirty_days(
    source: AnySource, lake: Lake, read_at: datetime, since: date, *, far_back: bool = False
) -> dict[date, Dirty]:
    """The days from `since` to today that differ from what was extracted of them.

    Files are read only where they are new or have changed; of a database the last `lookback_days` days are, or all
    since then if it is to be looked at `far_back`. A day is not dirty because its files are gone: it keeps what it has.
    Raises ExtractionError where the source cannot be read, unless it is optional.
    """
    try:
        now = _look(source, lake, read_at, since if far_back else None)
    except ExtractionError:
        if not source.optional:
            raise
        log.warning("%s is optional and could not be looked at", source.name)
        return {}
    dataset = raw_dataset(source.name)
    days = [day for day in sorted({*lake.days(dataset), *now.days}) if since <= day <= read_at.date()]
    receipts = {day: lake.receipt(dataset, day, RawReceipt) for day in days}
    told = {day: _difference(source, receipt, now, day) for day, receipt in receipts.items()}
    reasons = {day: reason for day, reason in told.items() if reason is not None}
    if isinstance(source, TraceSource):
        reasons = _with_neighbours(reasons, set(days))
    return {
        day: Dirty(
            reason,
            state=f"{now.days.get(day)} {source.fingerprint[:12]}",
            is_new=receipts[day] is None,
            needs_consent=not now.days.get(day, (0, 0))[0] and not source.record_type.is_state,
        )
        for day, reason in reasons.items()
    }


def _difference(source: AnySource, receipt: RawReceipt | None, now: _Look, day: date) -> str | None:
    """Why a day is dirty, if it is."""
    records, digest = now.days.get(day, (0, 0))
    if receipt is None:
        return f"never run; {records:,} records" if records else None
    if now.is_missing(receipt, day):
        return None
    is_comparable = receipt.digest_version == DIGEST_VERSION
    reasons = (
        (receipt.failure is not None, "could not be read the last time"),
        (receipt.source_fingerprint != source.fingerprint, "extracted under another configuration"),
        (receipt.is_agreed_since, "its changed fields were agreed with"),
        (records != receipt.records, f"{receipt.records:,} records then, {records:,} now"),
        (is_comparable and digest != receipt.digest, "as many records, but others"),
    )
    return next((reason for holds, reason in reasons if holds), None)


def _with_neighbours(reasons: Mapping[date, str], days: Collection[date]) -> dict[date, str]:
    """Executions of a day hold spans of the days around it."""
    around = {day: f"spans of {near} changed" for near in reasons for day in (near - _DAY, near + _DAY) if day in days}
    return dict(sorted({**around, **reasons}.items()))


def _look(source: AnySource, lake: Lake, read_at: datetime, since: date | None) -> _Look:
    if not isinstance(source, DatabaseSource):
        return _look_into_files(source, lake, read_at)
    try:
        first = since or read_at.date() - timedelta(days=source.lookback_days)
        return _look_into_table(source, lake, read_at, first)
    except UnreadableInputError as error:
        raise ExtractionError(f"{source.name}: {error}") from None


def _look_into_files(source: FileSource, lake: Lake, read_at: datetime) -> _Look:
    """Records and digest of each day, by what the files hold now."""
    if isinstance(source, TraceSource):
        inputs = read_inputs(source, [], lake, read_at, lambda reading: read_spans(Traces(source, read_at), reading))
    else:
        nowhere = Spool(lake, raw_dataset(source.name), [])
        inputs = read_inputs(source, [], lake, read_at, lambda reading: read_input(reading, source, read_at, nowhere))
    remember(source, lake, inputs)
    days = {day for read in inputs.read.values() for day in read.records}
    return _Look({day: _total(inputs.read.values(), day) for day in days}, inputs.read.keys())


def _total(inputs: Iterable[ReadInput], day: date) -> State:
    holding = [read for read in inputs if day in read.records]
    return sum(read.records[day] for read in holding), sum(read.digests.get(day, 0) for read in holding) % 2**64


def _look_into_table(source: DatabaseSource, lake: Lake, read_at: datetime, first: date) -> _Look:
    """Records and digest of each day since the first, by what the table holds now."""
    table, nowhere = Table(source), Spool(lake, raw_dataset(source.name), [])
    days = [first + shift * _DAY for shift in range((read_at.date() - first).days + 1)]
    look = partial(read_day, table, source)
    return _Look({day: look(day, read_at, nowhere) for day in days}, None)

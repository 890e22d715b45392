"""What accounts for a raw day: which inputs were read, how many records each gave, and what was left out."""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from datetime import date, datetime
from typing import Literal

import polars as pl
from pydantic import BaseModel, Field

from pipelines.anonymize.names import plain_names
from pipelines.lake import Lake, Receipt
from pipelines.sources.source import Source

DIGEST_VERSION = pl.__version__
"""Digests of records are comparable only within one version of the library that makes them."""


class ExtractionError(Exception):
    """Some inputs cannot be used, so no day of the source can be told whole."""


class PassingError(ExtractionError):
    """What went wrong may go well another time."""


class Input(BaseModel, frozen=True):
    """A file or a query that was read, and how many of its records belong to the day."""

    name: str
    records: int
    size: int | None = None
    sha256: str | None = None


_MOST_TOLD = 8


class Drift(BaseModel, frozen=True):
    """One field (a JSON pointer) that is not as it was: what it was and is, in how many of the records, since when."""

    field: str
    change: Literal["added", "removed", "retyped"]
    was: tuple[str, ...] = ()
    now: tuple[str, ...] = ()
    records: int
    of: int
    since: date | None = None

    @property
    def name(self) -> str:
        """The field as people write it: with dots between the steps of its JSON pointer."""
        return ".".join(step.replace("~1", "/").replace("~0", "~") for step in self.field.split("/")[1:])

    @property
    def is_whole(self) -> bool:
        """Whether it is not just a field that some records lack, as records of JSON may."""
        return self.change != "removed" or self.records == self.of


def tell(changes: Iterable[Drift]) -> list[str]:
    """The changes in words, with no name that may say something of a person; of many, the first ones."""
    several = list(changes)
    plain = plain_names(one.name for one in several)
    named = [one for one in several if one.name in plain]
    told = [_told(one, f"`{one.name}`") for one in named[:_MOST_TOLD]]
    told += [f"{len(named) - _MOST_TOLD} more fields"] if len(named) > _MOST_TOLD else []
    odd = Counter(one.change for one in several if one.name not in plain)
    return told + [f"{count} fields that are not named here are {change}" for change, count in sorted(odd.items())]


def _told(change: Drift, name: str) -> str:
    was, now = (" or ".join(types) or "always null" for types in (change.was, change.now))
    since = f", since {change.since}" if change.since else ""
    words = {"removed": f"gone (was {was}", "added": f"new ({now}", "retyped": f"{now} (was {was}"}
    counted = f" in {change.records:,} of {change.of:,} records" if change.of else ""
    return f"{name} is {words[change.change]}{since}){counted}"


class RawReceipt(Receipt):
    """Accounts for one day of one source: `parts` hold every record of `inputs` that belongs to the day."""

    source: str
    source_fingerprint: str
    day: date
    read_at: datetime
    inputs: list[Input] = Field(default_factory=list)
    growing: list[str] = Field(default_factory=list)
    failure: str | None = None
    """Why the last attempt to read the source failed, where the day may be told without it; parts are as before."""
    digest: int = 0
    """Of all records of the day, whatever their order and their files: another digest is another day."""
    digest_version: str = DIGEST_VERSION
    unplaced: int = 0
    """Rows of the source that no day can hold, for want of a time."""
    unknown_attributes: dict[str, int] = Field(default_factory=dict)
    """How often attributes occurred, in all that was read, that no column is made of."""
    fields: dict[str, dict[str, int]] = Field(default_factory=dict)
    """Which fields the records have, of which types and in how many of the records that were `looked_at`."""
    looked_at: int = 0
    drift: list[Drift] = Field(default_factory=list)
    """How the fields differ from what was agreed, or from the days before."""
    is_agreed_since: bool = False
    """Whether the fields were agreed with after the day was read, so that it should be cleaned anew."""
    erased: int = 0
    """Records of erased users: counted, and not kept."""
    is_dropped: bool = False
    """Whether the records were kept for as long as they may be; what is told of them stays."""

    @property
    def received(self) -> int:
        """Records that came, with those of erased users."""
        return self.rows + self.erased

    @property
    def records(self) -> int:
        """Records of the day, as its inputs were counted."""
        return sum(read.records for read in self.inputs)

    @property
    def state(self) -> str:
        """A word for what was read, and how: another word is another day."""
        return f"{self.records} {self.digest} {self.source_fingerprint}"


def note_failure(
    source: Source, days: Iterable[date], lake: Lake, read_at: datetime, failure: str
) -> dict[date, RawReceipt]:
    """Let the days go on with what was extracted before, if anything, and say that it may be incomplete."""
    receipts = {}
    for day in days:
        before = lake.receipt(raw_dataset(source.name), day, RawReceipt)
        empty = RawReceipt(source=source.name, source_fingerprint=source.fingerprint, day=day, read_at=read_at)
        receipts[day] = (before or empty).model_copy(update={"failure": failure})
        lake.commit(raw_dataset(source.name), day, receipts[day])
    return receipts


class MissingInputError(ExtractionError):
    """A day would lose records that it had: what they were read from is gone."""


def refuse_loss(source: str, receipts: Mapping[date, RawReceipt], lake: Lake, present: Collection[str]) -> None:
    """Raise MissingInputError where a day has fewer records than before and an input of it is not present."""
    lost: dict[str, list[date]] = defaultdict(list)
    for day, receipt in receipts.items():
        before = lake.receipt(raw_dataset(source), day, RawReceipt)
        if before is None or receipt.records >= before.records:
            continue
        for read in before.inputs:
            if read.records and read.name not in present:
                lost[read.name].append(day)
    if lost:
        told = "; ".join(f"{name} held records of {', '.join(map(str, days[:3]))}" for name, days in lost.items())
        raise MissingInputError(
            f"{source}: {told}, and cannot be read now. Nothing was changed. Restore it, or accept the loss: "
            "`agentmill run --accept-missing`."
        )


def raw_dataset(source_name: str) -> str:
    """Where the lake keeps a source's records as received."""
    return f"raw/{source_name}"

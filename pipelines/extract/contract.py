"""What a source's fields were agreed to be, how they have changed since, and what follows from a change.

A contract is what was found at first; it grows when somebody accepts a change. `evolve` needs none: there a day is
compared with the days before it.
"""

from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import date

from pydantic import BaseModel

from pipelines.extract.fields import NULL, named_fields
from pipelines.extract.receipt import Drift, ExtractionError, RawReceipt, raw_dataset, tell
from pipelines.lake import Lake
from pipelines.sources.source import Source

_DAYS_BEFORE = 7
"""A field that is rare is not new because the day before was without it."""


class DriftError(ExtractionError):
    """The fields of a frozen source have changed."""


class Agreed(BaseModel, frozen=True):
    """What is agreed of one field: the types it may have (any, if none is named), and whether every record has it."""

    types: tuple[str, ...]
    is_required: bool


FieldsAgreed = Mapping[str, Agreed]


class Contract(BaseModel):
    """The fields a source may have. `pending` is what days have beyond them, to be accepted."""

    fields: FieldsAgreed
    pending: dict[date, FieldsAgreed] = {}


def accept(source: Source, lake: Lake) -> tuple[list[Drift], list[date]]:
    """Let what was found beyond the contract be part of it; tells what that was, and on which days.

    Days that were extracted nevertheless are let go of their deviations, so that cleaning them again is enough.
    """
    contract = _read(source, lake)
    if contract is None or not contract.pending:
        return [], []
    found = _merged(contract.pending.values())
    agreed = _merged([contract.fields, found])
    lake.put_text(_path(source), Contract(fields=agreed).model_dump_json(indent=1))
    for day in contract.pending:
        receipt = lake.receipt(raw_dataset(source.name), day, RawReceipt)
        if receipt is not None and receipt.drift:
            settled = receipt.model_copy(update={"drift": [], "is_agreed_since": True})
            lake.commit(raw_dataset(source.name), day, settled)
    return list(_changes(contract.fields, found)), sorted(contract.pending)


def hold_to_contract(source: Source, receipts: Mapping[date, RawReceipt], lake: Lake) -> None:
    """Note in the receipts how the fields of their days have changed.

    Raises DriftError where they have and the source is frozen; what was found is kept for `accept`.
    """
    looked_at = {day: receipts[day] for day in sorted(receipts) if receipts[day].looked_at}
    if not looked_at:
        return
    history = _History(source, receipts, lake)
    contract = None if source.contract == "evolve" else _read(source, lake) or Contract(fields=history.all_fields())
    named = named_fields(source)
    for day, receipt in looked_at.items():
        before = history.before(day)
        agreed = _as_lately(before) if contract is None else contract.fields
        changes = _changes(agreed, _found(receipt), receipt, named) if agreed else ()
        told = [one for one in changes if contract is not None or one.is_whole]
        receipt.drift = [one.model_copy(update={"since": _since(one, before, day)}) for one in told]
    if contract is not None:
        _settle(source, contract, looked_at, lake)


class _History:
    """What is known of the days of a source: those being read, and those that the lake has."""

    def __init__(self, source: Source, receipts: Mapping[date, RawReceipt], lake: Lake) -> None:
        self._dataset = raw_dataset(source.name)
        self._receipts = dict(receipts)
        self._lake = lake
        self._days = sorted({*lake.days(self._dataset), *receipts})

    def before(self, day: date) -> list[RawReceipt]:
        """The days that were read before a day, as far back as it is compared, the nearest last."""
        place = bisect_left(self._days, day)
        return list(self._looked_at(self._days[max(0, place - _DAYS_BEFORE) : place]))

    def all_fields(self) -> FieldsAgreed:
        """The fields of all days there are."""
        return _merged(map(_found, self._looked_at(self._days)))

    def _looked_at(self, days: Iterable[date]) -> Iterator[RawReceipt]:
        for day in days:
            receipt = self._receipts.get(day) or self._lake.receipt(self._dataset, day, RawReceipt)
            if receipt is not None and receipt.looked_at:
                self._receipts[day] = receipt
                yield receipt


def _settle(source: Source, contract: Contract, looked_at: Mapping[date, RawReceipt], lake: Lake) -> None:
    """Keep the contract with what days have beyond it, and refuse them where it is frozen."""
    changed = {day: receipt for day, receipt in looked_at.items() if receipt.drift}
    others = {day: found for day, found in contract.pending.items() if day not in looked_at}
    contract.pending = others | {day: _found(receipt) for day, receipt in changed.items()}
    lake.put_text(_path(source), contract.model_dump_json(indent=1))
    if changed and source.contract == "freeze":
        told = "; ".join(f"{day}: {', '.join(tell(receipt.drift))}" for day, receipt in changed.items())
        raise DriftError(
            f"{source.name}: its fields have changed ({told}). Nothing was changed here. Agree with "
            f"`agentmill source accept {source.name}`, or mend the source; then run the days again."
        )


def _as_lately(before: Sequence[RawReceipt]) -> FieldsAgreed:
    """The fields that the days before had, of which a new day should have those that the nearest never lacked."""
    if not before:
        return {}
    nearest = _found(before[-1])
    return {
        name: Agreed(types=field.types, is_required=name in nearest and nearest[name].is_required)
        for name, field in _merged(map(_found, before)).items()
    }


def _found(receipt: RawReceipt) -> FieldsAgreed:
    """The fields of a day as a contract would have them."""
    return {
        name: Agreed(types=tuple(sorted(types.keys() - {NULL})), is_required=sum(types.values()) == receipt.looked_at)
        for name, types in receipt.fields.items()
    }


def _merged(several: Iterable[FieldsAgreed]) -> FieldsAgreed:
    """What holds for all of them: every type that one has, required where all require it."""
    known = [fields for fields in several if fields]
    return {
        name: Agreed(
            types=tuple(sorted({kind for fields in known if name in fields for kind in fields[name].types})),
            is_required=all(name in fields and fields[name].is_required for fields in known),
        )
        for name in sorted({name for fields in known for name in fields})
    }


def _changes(
    agreed: FieldsAgreed, found: FieldsAgreed, receipt: RawReceipt | None = None, named: Collection[str] = ()
) -> Iterator[Drift]:
    """How the fields that were found differ from those agreed. Fields that the configuration names may be new."""
    of = receipt.looked_at if receipt is not None else 0
    for name in sorted({*agreed, *found}):
        counted = receipt.fields.get(name, {}) if receipt is not None else {}
        was = agreed[name].types if name in agreed else ()
        now = found[name].types if name in found else ()
        other = tuple(kind for kind in now if kind not in was)
        records = sum(counted.get(kind, 0) for kind in other)
        if name not in agreed:
            if name not in named and now:
                yield Drift(field=name, change="added", now=now, records=records, of=of)
            continue
        if agreed[name].is_required and not (name in found and found[name].is_required):
            yield Drift(field=name, change="removed", was=was, records=of - sum(counted.values()), of=of)
        if was and other:
            yield Drift(field=name, change="retyped", was=was, now=other, records=records, of=of)


def _since(change: Drift, before: Sequence[RawReceipt], day: date) -> date:
    """The first of the days in a row that had the same change."""
    for earlier in before[-1].drift if before else ():
        if (earlier.field, earlier.change) == (change.field, change.change) and earlier.since is not None:
            return earlier.since
    return day


def _read(source: Source, lake: Lake) -> Contract | None:
    stored = lake.get_text(_path(source))
    return Contract.model_validate_json(stored) if stored else None


def _path(source: Source) -> str:
    return f"{raw_dataset(source.name)}/contract.json"

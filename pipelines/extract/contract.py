"""What a source's fields were agreed to be, how they have changed since, and what follows from a change.

A contract is what was found at first; it grows when somebody accepts a change. `evolve` needs none: there a day is
compared with the days before it.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
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
    """The fields a source may have. `pending` is what was found beyond them, to be accepted."""

    fields: FieldsAgreed
    pending: FieldsAgreed = {}


def accept(source: Source, lake: Lake) -> list[Drift]:
    """Let what was found beyond the contract be part of it, and tell what that was."""
    contract = _read(source, lake)
    if contract is None or not contract.pending:
        return []
    agreed = _merged([contract.fields, contract.pending])
    lake.put_text(_path(source), Contract(fields=agreed).model_dump_json(indent=1))
    return list(_changes(contract.fields, contract.pending))


def hold_to_contract(source: Source, receipts: Mapping[date, RawReceipt], lake: Lake) -> None:
    """Note in the receipts how the fields of their days have changed.

    Raises DriftError where they have and the source is frozen; what was found is kept for `accept`.
    """
    looked_at = {day: receipts[day] for day in sorted(receipts) if receipts[day].looked_at}
    if not looked_at:
        return
    contract = None if source.contract == "evolve" else _read(source, lake)
    if contract is None and source.contract != "evolve":
        contract = Contract(fields=_merged(map(_found, looked_at.values())))
    for day, receipt in looked_at.items():
        before = _before(day, receipts, source, lake)
        agreed = _as_lately(before) if contract is None else contract.fields
        changes = _changes(agreed, _found(receipt), receipt, named_fields(source)) if agreed else ()
        receipt.drift = [one.model_copy(update={"since": _since(one, before, day)}) for one in changes]
    if contract is not None:
        _settle(source, contract, {day: one for day, one in looked_at.items() if one.drift}, lake)


def _settle(source: Source, contract: Contract, changed: Mapping[date, RawReceipt], lake: Lake) -> None:
    """Keep the contract with what was found beyond it, and refuse the days where it is frozen."""
    contract.pending = _merged([contract.pending, *map(_found, changed.values())])
    lake.put_text(_path(source), contract.model_dump_json(indent=1))
    if changed and source.contract == "freeze":
        told = "; ".join(f"{day}: {', '.join(tell(receipt.drift))}" for day, receipt in changed.items())
        raise DriftError(
            f"{source.name}: its fields have changed ({told}). Nothing was changed here. Agree with "
            f"`agentmill source accept {source.name}`, or mend the source; then run the days again."
        )


def _before(day: date, receipts: Mapping[date, RawReceipt], source: Source, lake: Lake) -> list[RawReceipt]:
    """The days that were read before a day, as far back as it is compared, the nearest last."""
    dataset = raw_dataset(source.name)
    near = [one for one in sorted({*lake.days(dataset), *receipts}) if one < day][-_DAYS_BEFORE:]
    known = [receipts.get(one) or lake.receipt(dataset, one, RawReceipt) for one in near]
    return [receipt for receipt in known if receipt is not None and receipt.looked_at]


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
    agreed: FieldsAgreed, found: FieldsAgreed, receipt: RawReceipt | None = None, named: Iterable[str] = ()
) -> Iterator[Drift]:
    """How the fields that were found differ from those agreed. Fields that the configuration names may be new."""
    for name in sorted({*agreed, *found}):
        was = agreed[name].types if name in agreed else ()
        now = found[name].types if name in found else ()
        counted = receipt.fields.get(name, {}) if receipt is not None else {}
        other = [kind for kind in now if kind not in was]
        of = receipt.looked_at if receipt is not None else 0
        if name not in agreed and name not in named:
            records = sum(counted.get(kind, 0) for kind in now)
            yield Drift(field=name, change="added", now=now, records=records, of=of)
        elif name in agreed and name not in found and agreed[name].is_required:
            yield Drift(field=name, change="removed", was=was, records=of, of=of)
        elif was and other:
            records = sum(counted.get(kind, 0) for kind in other)
            yield Drift(field=name, change="retyped", was=was, now=tuple(other), records=records, of=of)


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

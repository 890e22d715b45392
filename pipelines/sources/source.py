"""What every kind of source declares: its mapping to the canonical execution, its time zone and its tolerances."""

import difflib
import hashlib
from typing import Annotated, Literal
from zoneinfo import available_timezones

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, ValidationInfo

from pipelines.execution import QUARANTINE_REASONS, STATUSES
from pipelines.record_types import EXECUTIONS, RECORD_TYPES, RecordType
from pipelines.sources.mapping import FieldType, MappedField, Path, is_path, path_of


def _named_paths(attributes: object) -> object:
    """`[task_id, info.domain]` is short for `{task_id: task_id, domain: info.domain}`."""
    if not isinstance(attributes, list):
        return attributes
    named = {path_of(str(path))[-1]: str(path) for path in attributes}
    if len(named) < len(attributes):
        raise ValueError("two of them end in the same name; write `name: path` for each")
    return named


def _known_records(name: str) -> str:
    if name not in RECORD_TYPES:
        raise ValueError(f"`{name}` is nothing that records can be; there are: {', '.join(RECORD_TYPES)}")
    return name


def _type_of(info: ValidationInfo) -> RecordType:
    """The type of the records, which is validated before their mapping."""
    return RECORD_TYPES[info.data.get("records", EXECUTIONS.name)]


def _known_column(name: str, info: ValidationInfo) -> str:
    mappable = _type_of(info).mappable
    if name not in mappable:
        near = difflib.get_close_matches(name, mappable, n=1)
        hint = f"; did you mean `{near[0]}`?" if near else ""
        raise ValueError(f"`{name}` is not a column of {_type_of(info).name}{hint}")
    return name


def _complete_mapping(mapping: dict[str, MappedField], info: ValidationInfo) -> dict[str, MappedField]:
    for needed, why in _type_of(info).needed:
        if not needed & mapping.keys():
            raise ValueError(f"map {' or '.join(f'`{name}`' for name in sorted(needed))}: {why}")
    for outcome in [*mapping["status"].values.values(), mapping["status"].value] if "status" in mapping else ():
        if outcome not in (None, *STATUSES):
            raise ValueError(f"`{outcome}` is not a status; there are: {', '.join(STATUSES)}")
    return mapping


def _plain_paths(attributes: dict[str, str]) -> dict[str, str]:
    for name, path in attributes.items():
        if not is_path(path):
            raise ValueError(f"attribute `{name}` must be a field's path, not an expression: {path}")
    return attributes


def _known_timezone(name: str) -> str:
    if name not in available_timezones():
        raise ValueError(f"`{name}` is not an IANA time zone such as Europe/Berlin")
    return name


TenantName = Annotated[str, Field(pattern=r"^[a-z0-9_-]{0,40}$")]
"""Whose users they are: the same id under two tenants is two people. Empty where there is but one tenant."""


_KeyName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_-]{0,63}$")]
"""A name that cannot be mistaken for the signs of a structure."""


def _known_reason(name: str) -> str:
    if name not in QUARANTINE_REASONS:
        raise ValueError(f"`{name}` is not a quarantine reason; there are: {', '.join(QUARANTINE_REASONS)}")
    return name


class Source(BaseModel):
    """One configured source of records of one type."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")]
    records: Annotated[str, AfterValidator(_known_records)] = EXECUTIONS.name
    mapping: Annotated[
        dict[Annotated[str, AfterValidator(_known_column)], MappedField], AfterValidator(_complete_mapping)
    ]
    attributes: Annotated[dict[str, str], BeforeValidator(_named_paths), AfterValidator(_plain_paths)] = {}
    types: dict[str, FieldType] = {}
    payload_keys: Annotated[frozenset[_KeyName], PlainSerializer(sorted)] = frozenset()
    tenant: TenantName = ""
    timezone: Annotated[str, AfterValidator(_known_timezone)] = "UTC"
    cache_tokens: Literal["included", "separate"] = "included"
    compute_cost: bool = True
    event_time: Literal["started_at", "completed_at"] = "started_at"
    contract: Literal["evolve", "discard_value", "discard_row", "freeze"] = "evolve"
    lookback_days: Annotated[int, Field(ge=0, le=366)] = 3
    max_quarantine_share: Annotated[float, Field(ge=0, le=1)] = 0.01
    optional: bool = False
    tolerate: tuple[Annotated[str, AfterValidator(_known_reason)], ...] = ()

    @property
    def record_type(self) -> RecordType:
        """What its records are."""
        return RECORD_TYPES[self.records]

    @property
    def fingerprint(self) -> str:
        """Digest of everything that decides which record belongs to which day and what it means."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()

    @property
    def paths(self) -> dict[str, Path]:
        """The plainly mapped columns and where they stand in a record."""
        return {
            name: path_of(field.source)
            for name, field in self.mapping.items()
            if field.source is not None and not field.is_sql
        }

    @property
    def attribute_paths(self) -> dict[str, Path]:
        """The attributes that are let through and where they stand in a record."""
        return {name: path_of(path) for name, path in self.attributes.items()}

    @property
    def expressions(self) -> dict[str, str]:
        """The computed columns and their SQL expressions."""
        return {name: field.source for name, field in self.mapping.items() if field.source is not None and field.is_sql}

    @property
    def time_columns(self) -> tuple[str, ...]:
        """The columns that date a record: the chosen one, then its fallback."""
        return tuple(sorted(self.record_type.times, key=lambda name: name != self.event_time))

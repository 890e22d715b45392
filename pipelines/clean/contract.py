"""Records of a source whose fields have changed, under the contract it has: values or whole records are left out."""

import json
from collections.abc import Sequence
from typing import Any

import polars as pl

from pipelines.extract import Drift
from pipelines.extract.fields import class_of, json_classes, steps_of
from pipelines.sources.casting import to_text
from pipelines.sources.database import DatabaseSource
from pipelines.sources.duck import query_column
from pipelines.sources.source import Source


def apply_contract(records: pl.DataFrame, source: Source, drift: Sequence[Drift]) -> pl.DataFrame:
    """The records as the contract lets them through; they change only where fields have.

    `discard_value` takes out fields that are new and values of another type; `discard_row` refuses the records that
    have one, and those without a field that they should have.
    """
    if not drift or source.contract not in ("discard_value", "discard_row"):
        return records
    record = records["record"]
    if source.contract == "discard_value":
        for change in drift:
            record = _without(record, change, _deviates(record, change, source))
        return records.with_columns(record.alias("record"))
    # A field may be gone from some records and of another type in others: each change counts.
    deviates = {str(place): _deviates(record, change, source) for place, change in enumerate(drift)}
    is_refused = pl.DataFrame(deviates).select(pl.any_horizontal(pl.all())).to_series() & records["problem"].is_null()
    return records.with_columns(
        problem=pl.when(is_refused).then(pl.lit("schema_drift")).otherwise("problem"),
        received=pl.when(is_refused).then(to_text(record)).otherwise("received"),
    )


def _deviates(record: pl.Series, change: Drift, source: Source) -> pl.Series:
    """Which records are not as agreed because of one change."""
    if record.dtype == pl.String:
        kind = json_classes(record, change.field)
        return kind.is_null() if change.change == "removed" else kind.is_in(change.now).fill_null(value=False)
    schema, name = dict(record.struct.schema) if isinstance(record.dtype, pl.Struct) else {}, change.name
    if change.change == "removed" or name not in schema:
        return pl.Series([change.change == "removed" and name not in schema]).new_from_index(0, len(record))
    # A table declares one type for all rows; files of a day may differ.
    is_agreed = not isinstance(source, DatabaseSource) and class_of(schema[name]) not in change.now
    values = record.struct.field(name)
    return pl.Series([False]).new_from_index(0, len(record)) if is_agreed else values.is_not_null()


def _without(record: pl.Series, change: Drift, deviates: pl.Series) -> pl.Series:
    """The records without the values that deviate. Of a field that is gone there is nothing to take out."""
    if change.change == "removed" or not deviates.any():
        return record
    if record.dtype != pl.String:
        kept = [record.struct.field(name).alias(name) for name in record.struct.fields if name != change.name]
        return pl.DataFrame(kept).to_struct(record.name)
    patch: Any = None
    for step in reversed(steps_of(change.field)):
        patch = {step: patch}
    patched = query_column(record, "json_merge_patch(record, ?)", json.dumps(patch))
    return patched.zip_with(deviates, record)

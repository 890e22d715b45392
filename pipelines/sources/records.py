"""Records as received -> the values their mapping asks for, still in the source's own types.

A record is one `record` column: JSON text (NDJSON), or a struct of columns (CSV, Parquet, databases).
"""

import json
import re
from collections.abc import Callable, Collection, Iterable
from typing import Any

import polars as pl

from pipelines.sources.casting import to_booleans, to_integers, to_reals, to_text
from pipelines.sources.duck import query, query_column
from pipelines.sources.mapping import OTHERWISE, FieldType, MappedField, Path, path_of, sql_paths
from pipelines.sources.source import Source

POSITION = pl.Schema(
    {
        "file": pl.String(),
        "line": pl.Int64(),
        "byte_offset": pl.Int64(),
        "problem": pl.String(),
        "received": pl.String(),
    }
)
"""Where a record stands in its source; for an unusable one why, and its text. `record` stands beside these."""

ATTRIBUTE = "attribute:"
"""Prefix of the columns that hold the admitted attributes."""

_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")

Tree = dict[str, Any]
"""Nested field names; the leaves are field types."""

_CASTS: dict[FieldType, Callable[[pl.Series], pl.Series]] = {
    "bool": to_booleans,
    "int": to_integers,
    "float": to_reals,
}


class MappingError(Exception):
    """An expression of the mapping cannot be computed from the source's fields."""


def map_records(records: pl.DataFrame, source: Source, only: Collection[str] | None = None) -> pl.DataFrame:
    """One column per mapped canonical column (all, or `only` these) and per admitted attribute; rows keep their order.

    Values keep the source's types: text for JSON and CSV. `status_raw` is the outcome before its value map, `problem`
    is `bad_value` where a field does not fit its declared type. Raises MappingError.
    """
    mapping = (
        source.mapping if only is None else {name: source.mapping[name] for name in only if name in source.mapping}
    )
    paths = {name: path for name, path in source.paths.items() if name in mapping}
    if only is None:
        paths |= {ATTRIBUTE + name: path for name, path in source.attribute_paths.items()}
    computed = {name: sql for name, sql in source.expressions.items() if name in mapping}
    fields, problem = _fields(records["record"], _field_tree(computed.values(), source.types))

    values = dict(zip(paths, _values(records["record"], list(paths.values())), strict=True))
    values |= {name: _compute(fields, name, sql) for name, sql in computed.items()}
    values |= {name: _repeat(field.value, records.height) for name, field in mapping.items() if field.value is not None}
    values = {name: _measured(series, mapping.get(name)) for name, series in values.items()}
    translated = {name: _translated(values[name], field) for name, field in mapping.items()}
    values |= {name: to_text(series) for name, series in values.items() if name.startswith(ATTRIBUTE)}
    if "status" in values:
        values["status_raw"] = to_text(values["status"])
    return pl.DataFrame({**values, **translated, "problem": problem})


def _measured(values: pl.Series, field: MappedField | None) -> pl.Series:
    """Empty text, and the values that mean "not measured", become null."""
    if values.dtype == pl.String:
        values = to_text(values)  # the one place where texts are trimmed
    if field is None or not field.null_if:
        return values
    numbers = [float(word) for word in field.null_if if _NUMBER.fullmatch(word)]  # 0 is 0.0, however it is written
    unmeasured = values.cast(pl.String).is_in(field.null_if) | values.cast(pl.Float64, strict=False).is_in(numbers)
    return values.zip_with(~unmeasured.fill_null(value=False), pl.Series([None], dtype=values.dtype))


def _translated(values: pl.Series, field: MappedField) -> pl.Series:
    """Values through their value map: `*` stands for the rest, null for what is absent."""
    if not field.values:
        return values
    named = {word: meaning for word, meaning in field.values.items() if word not in (OTHERWISE, None)}
    text, rest = pl.col("text"), pl.lit(field.values.get(OTHERWISE), pl.String)
    known = text.replace_strict(
        list(named), list(named.values()), default=rest if OTHERWISE in field.values else text, return_dtype=pl.String
    )
    absent = pl.lit(field.values.get(None), pl.String)
    return to_text(values).to_frame("text").select(pl.when(text.is_null()).then(absent).otherwise(known)).to_series()


def _compute(fields: pl.DataFrame, name: str, sql: str) -> pl.Series:
    try:
        values = fields.select(pl.sql_expr(sql)).to_series()
    except pl.exceptions.PolarsError as error:
        quotes_data = isinstance(error, pl.exceptions.ComputeError | pl.exceptions.InvalidOperationError)
        reason = "its fields have other types" if quotes_data else str(error).splitlines()[0]
        raise MappingError(
            f"`{name}: {sql}` cannot be computed: {reason}. Fields of JSON and CSV are text: compare them with text, "
            "or declare their type under `types`."
        ) from None
    return values if len(values) == fields.height else values.new_from_index(0, fields.height)


def _field_tree(expressions: Iterable[str], types: dict[str, FieldType]) -> Tree:
    """The fields that expressions refer to, as nested names. A field used both whole and in part is read in part."""
    declared = {path_of(path): kind for path, kind in types.items()}
    tree: Tree = {}
    for path in sorted({path for sql in expressions for path in sql_paths(sql)}, key=len, reverse=True):
        node = tree
        for step in path[:-1]:
            node = node.setdefault(step, {})
        node.setdefault(path[-1], declared.get(path, "text"))
    return tree


def _fields(record: pl.Series, tree: Tree) -> tuple[pl.DataFrame, pl.Series]:
    """The tree's fields as typed columns, null where a record lacks them; and which records hold a misfit."""
    misfits = [pl.Series([False]).new_from_index(0, len(record))]
    if record.dtype == pl.String and tree:
        record = query_column(record, "json_transform(record, ?)", json.dumps(_structure(tree)))
    columns = [_typed(_child(record, name), kind, misfits).alias(name) for name, kind in tree.items()]
    is_misfit = pl.DataFrame({str(i): misfit for i, misfit in enumerate(misfits)}).select(pl.any_horizontal(pl.all()))
    problem = pl.select(pl.when(is_misfit.to_series()).then(pl.lit("bad_value"))).to_series()
    return pl.DataFrame(columns) if columns else record.to_frame("record"), problem


def _structure(tree: Tree) -> dict[str, Any]:
    """The tree as DuckDB's structure for `json_transform`: every leaf is read as it was written."""
    leaves: dict[str, object] = {"list": ["VARCHAR"]}
    return {
        name: _structure(kind) if isinstance(kind, dict) else leaves.get(kind, "VARCHAR") for name, kind in tree.items()
    }


def _typed(values: pl.Series, kind: Tree | FieldType, misfits: list[pl.Series]) -> pl.Series:
    if isinstance(kind, dict):
        return pl.DataFrame(
            [_typed(_child(values, name), leaf, misfits).alias(name) for name, leaf in kind.items()]
        ).to_struct()
    if kind not in _CASTS:
        return values
    typed = _CASTS[kind](values)
    misfits.append(values.is_not_null() & typed.is_null())
    return typed


def _values(record: pl.Series, paths: list[Path]) -> list[pl.Series]:
    """The value at each path: as text from JSON (objects and lists stay JSON), else in the column's own type."""
    if record.dtype != pl.String:
        return [_reach(record, path) for path in paths]
    if not paths:
        return []
    pointers = [_pointer(path) for path in paths]
    columns = ", ".join(f"found[{place}] as v{place}" for place in range(1, len(paths) + 1))
    once = "with parsed as materialized (select json_extract_string(record, ?) as found from records)"
    return query(record, f"{once} select {columns} from parsed", pointers).get_columns()  # noqa: S608 - our own names


def _reach(values: pl.Series, path: Path) -> pl.Series:
    for depth, step in enumerate(path):
        if values.dtype == pl.String:
            return _reach_json(values, path[depth:])
        is_position = step.startswith("[") and isinstance(values.dtype, pl.List)
        values = values.list.get(int(step[1:-1]), null_on_oob=True) if is_position else _child(values, step)
    return to_text(values) if values.dtype.is_nested() else values


def _reach_json(text: pl.Series, path: Path) -> pl.Series:
    """The value at a path into JSON that a column holds as text; null where the text is no JSON."""
    return query_column(text, "case when json_valid(record) then json_extract_string(record, ?) end", _pointer(path))


def _pointer(path: Path) -> str:
    return "$" + "".join(step if step.startswith("[") else f'."{step}"' for step in path)


def _child(values: pl.Series, name: str) -> pl.Series:
    if isinstance(values.dtype, pl.Struct) and name in values.struct.fields:
        return values.struct.field(name)
    return _repeat(None, len(values))


def _repeat(value: str | None, height: int) -> pl.Series:
    return pl.Series([value], dtype=pl.String).new_from_index(0, height)

"""Which fields the records of a day have and of which types: what drift is told from.

A field goes by its JSON pointer (RFC 6901), whatever its name holds. Looked at are the columns of tables, and of JSON
the first level and, deeper, what the mapping names outside of lists. Of JSON that may change freely every tenth record
is looked at where there are many; where a change has consequences, every one.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from datetime import date

import polars as pl

from pipelines.sources.duck import query, query_column
from pipelines.sources.mapping import sql_paths
from pipelines.sources.source import Source

FieldTypes = dict[str, dict[str, int]]
"""Field -> type -> in how many records. `null` is the type of a value that is absent although its field is there."""

NULL = "null"
_NUMBER = "number"
_FEW = 1_000
"""So many records of a part are all looked at."""
_SAMPLED = 10
_MOST_FIELDS = 1_000
"""Some logs have ids as keys: where there are more names, they are no schema, and none is compared."""
_CLASSES = {"VARCHAR": "text", "BOOLEAN": "boolean", "OBJECT": "object", "ARRAY": "list", "NULL": NULL}
"""Types of JSON values as DuckDB names them; all others are numbers."""


class Fields:
    """Gathers the fields of records, day by day. A table declares the types of its columns; elsewhere they are seen."""

    def __init__(self, source: Source, declared: Mapping[str, str] | None = None) -> None:
        self._is_sampled = source.contract == "evolve"
        self._named = named_fields(source)
        self._declared = declared
        self._found: dict[date, dict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
        self._records: Counter[date] = Counter()
        self._is_schema = True

    def add(self, day: date, record: pl.Series) -> None:
        """Take note of some records of a day."""
        if self._is_sampled and record.dtype == pl.String and len(record) > _FEW:
            record = record.gather_every(_SAMPLED)
        self._records[day] += len(record)
        for field, types in self._types(record).items():
            self._found[day][field].update(types)

    def of(self, day: date) -> FieldTypes:
        """The fields of a day."""
        return {field: dict(sorted(types.items())) for field, types in sorted(self._found[day].items())}

    def records(self, day: date) -> int:
        """How many records of a day were looked at; 0 where names are too many to be compared."""
        return self._records[day] if self._is_schema else 0

    def _types(self, record: pl.Series) -> FieldTypes:
        if record.dtype == pl.String:
            names = query(record, "select distinct unnest(json_keys(record)) as name from records")["name"]
            self._is_schema &= len(names) <= _MOST_FIELDS
            first_level = [pointer([name]) for name in names] if self._is_schema else []
            return json_types(record, sorted({*self._named, *first_level}))
        schema = record.struct.schema if isinstance(record.dtype, pl.Struct) else {}
        declared = self._declared or {name: class_of(dtype) for name, dtype in schema.items()}
        return {pointer([name]): {declared[name]: len(record)} for name in schema if name in declared}


def named_fields(source: Source) -> set[str]:
    """The fields that a source's configuration names, and those they are parts of."""
    paths = {*source.paths.values(), *source.attribute_paths.values()}
    paths |= {path for sql in source.expressions.values() for path in sql_paths(sql)}
    found = set()
    for path in paths:
        depth = next((place for place, step in enumerate(path) if step.startswith("[")), len(path))
        found |= {pointer(path[:end]) for end in range(1, depth + 1)}
    return found


def pointer(steps: Iterable[str]) -> str:
    """The JSON pointer of a path."""
    return "".join("/" + step.replace("~", "~0").replace("/", "~1") for step in steps)


def steps_of(field: str) -> list[str]:
    """The path that a JSON pointer stands for."""
    return [step.replace("~1", "/").replace("~0", "~") for step in field.split("/")[1:]]


def json_types(record: pl.Series, fields: list[str]) -> FieldTypes:
    """The types of some fields of JSON objects, and how many records have each."""
    if not fields or record.is_empty():
        return {}
    sql = "select json_type(record, ?) as kinds, count(*) as records from records group by all"
    types: dict[str, Counter[str]] = defaultdict(Counter)
    for kinds, records in query(record, sql, fields).iter_rows():
        for field, kind in zip(fields, kinds, strict=True):
            if kind is not None:
                types[field][_CLASSES.get(kind, _NUMBER)] += records
    return {field: dict(found) for field, found in types.items()}


def json_classes(record: pl.Series, field: str) -> pl.Series:
    """The type of one field of each JSON object; null where the object lacks it."""
    kinds = query_column(record, "json_type(record, ?)", field)
    return kinds.replace_strict({**dict.fromkeys(kinds.drop_nulls(), _NUMBER), **_CLASSES}, return_dtype=pl.String)


def class_of(dtype: pl.DataType) -> str:
    """A column's type by its class: what can be read the same way has the same name."""
    if dtype.is_numeric():
        return _NUMBER
    if dtype.is_temporal():
        return "time"
    nested = {pl.Boolean: "boolean", pl.Struct: "object", pl.List: "list"}
    return next((name for kind, name in nested.items() if dtype == kind), "text")

"""Which fields the records of a day have and of which types: what drift is told from.

Fields are those on the first level and, deeper, those that the mapping names. Of JSON that may change freely every
tenth record is looked at; where a change has consequences, every one.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from datetime import date

import polars as pl

from pipelines.sources.duck import query, query_column
from pipelines.sources.mapping import path_of, sql_paths
from pipelines.sources.source import Source

FieldTypes = dict[str, dict[str, int]]
"""Field -> type -> in how many records. `null` is the type of a value that is absent although its field is there."""

NULL = "null"
_NUMBER = "number"
_FEW = 1_000
"""So many records of a part are all looked at."""
_SAMPLED = 10
_MOST_FIELDS = 1_000
"""Some logs have ids as keys: beyond so many, names are no schema."""
_CLASSES = {"VARCHAR": "text", "BOOLEAN": "boolean", "OBJECT": "object", "ARRAY": "list", "NULL": NULL}
"""Types of JSON values as DuckDB names them; all others are numbers."""
_PLAIN_STEP = re.compile(r"[A-Za-z_$@][\w$@%-]*|\[\d+\]")


class Fields:
    """Gathers the fields of records, day by day. A table declares the types of its columns; elsewhere they are seen."""

    def __init__(self, source: Source, declared: Mapping[str, str] | None = None) -> None:
        self._is_sampled = source.contract == "evolve"
        self._nested = sorted(name for name in named_fields(source) if len(path_of(name)) > 1)
        self._declared = declared
        self._found: dict[date, dict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
        self._records: Counter[date] = Counter()

    def add(self, day: date, record: pl.Series) -> None:
        """Take note of some records of a day."""
        if self._is_sampled and record.dtype == pl.String and len(record) > _FEW:
            record = record.gather_every(_SAMPLED)
        self._records[day] += len(record)
        for name, types in self._types(record).items():
            self._found[day][name].update(types)

    def of(self, day: date) -> FieldTypes:
        """The fields of a day."""
        return {name: dict(sorted(types.items())) for name, types in sorted(self._found[day].items())}

    def records(self, day: date) -> int:
        """How many records of a day were looked at."""
        return self._records[day]

    def _types(self, record: pl.Series) -> FieldTypes:
        if record.dtype == pl.String:
            return json_types(record, [*_json_names(record), *self._nested])
        schema = record.struct.schema if isinstance(record.dtype, pl.Struct) else {}
        declared = self._declared or {name: class_of(dtype) for name, dtype in schema.items()}
        return {name: {declared[name]: len(record)} for name in schema if name in declared}


def named_fields(source: Source) -> set[str]:
    """The fields that a source's configuration names, and those they are parts of."""
    paths = {*source.paths.values(), *source.attribute_paths.values()}
    paths |= {path for sql in source.expressions.values() for path in sql_paths(sql)}
    return {path_name(path[:depth]) for path in paths for depth in range(1, len(path) + 1)}


def path_name(path: Iterable[str]) -> str:
    """A path as one name, as a mapping writes it: dots part the steps, and what is no plain name is quoted."""
    steps = [step if _PLAIN_STEP.fullmatch(step) else f'"{step}"' for step in path]
    return ".".join(steps).replace(".[", "[")


def json_types(record: pl.Series, names: list[str]) -> FieldTypes:
    """The types of some fields of JSON objects, and how many records have each."""
    if not names or record.is_empty():
        return {}
    sql = "select json_type(record, ?) as kinds, count(*) as records from records group by all"
    types: dict[str, Counter[str]] = defaultdict(Counter)
    for kinds, records in query(record, sql, [pointer(name) for name in names]).iter_rows():
        for name, kind in zip(names, kinds, strict=True):
            if kind is not None:
                types[name][_CLASSES.get(kind, _NUMBER)] += records
    return {name: dict(found) for name, found in types.items()}


def json_classes(record: pl.Series, name: str) -> pl.Series:
    """The type of one field of each JSON object; null where the object lacks it."""
    kinds = query_column(record, "json_type(record, ?)", pointer(name))
    return kinds.replace_strict({**dict.fromkeys(kinds.drop_nulls(), _NUMBER), **_CLASSES}, return_dtype=pl.String)


def pointer(name: str) -> str:
    """A field's name as DuckDB's path into a JSON object."""
    return "$" + "".join(step if step.startswith("[") else f'."{step}"' for step in path_of(name))


def _json_names(record: pl.Series) -> list[str]:
    names = query(record, "select distinct unnest(json_keys(record)) as name from records order by 1")["name"]
    return [path_name([name]) for name in names.head(_MOST_FIELDS) if '"' not in name]


def class_of(dtype: pl.DataType) -> str:
    """A column's type by its class: what can be read the same way has the same name."""
    if dtype.is_numeric():
        return _NUMBER
    if dtype.is_temporal():
        return "time"
    nested = {pl.Boolean: "boolean", pl.Struct: "object", pl.List: "list"}
    return next((name for kind, name in nested.items() if dtype == kind), "text")

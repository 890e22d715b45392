"""The data dictionary: what every table, view, function and column means, in one place that everything else follows.

Columns of records come from their contract, all others from `sql/dictionary.yaml`. Comments in the database, Dagster's
column schema, grants and `docs/data-dictionary.md` (see `dictionary_page`) are made of it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import polars as pl
import psycopg
import yaml
from psycopg import sql
from pydantic import BaseModel, ConfigDict

from pipelines.execution import COLUMNS, Column, Privacy
from pipelines.record_types import RECORD_TYPES
from pipelines.warehouse.connection import SCHEMA, SQL_FOLDER

_Caller = Literal["agentmill_loader", "agentmill_analyst", "agentmill_oncall", "agentmill_privacy"]

DICTIONARY_FILE = "sql/dictionary.yaml"
_PATH = SQL_FOLDER / "dictionary.yaml"
_JSON_COLUMNS = ("redactions", "attributes")
_TYPES: Mapping[pl.DataType, str] = {
    pl.String(): "text",
    pl.Int64(): "bigint",
    pl.Float64(): "double precision",
    pl.Boolean(): "boolean",
    pl.Decimal(38, 10): "numeric(38,10)",
    pl.Datetime("us", "UTC"): "timestamptz",
    pl.List(pl.String()): "text[]",
}


class DictionaryError(Exception):
    """The dictionary contradicts itself, or lacks something that it names."""


class Definition(BaseModel):
    """What a column is: its type in PostgreSQL, meaning, unit, formula and privacy class."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: str
    meaning: str
    unit: str | None = None
    formula: str | None = None
    privacy: Privacy = Privacy.PUBLIC

    @property
    def text(self) -> str:
        """The meaning with unit and formula, in one line."""
        formula = f" Formula: {self.formula}." if self.formula else ""
        unit = f" Unit: {self.unit}." if self.unit else ""
        return f"{self.meaning}{formula}{unit}"


@dataclass(frozen=True, slots=True)
class Relation:
    """A table or view: what one row is, what it is for, and its columns in order."""

    schema: str
    name: str
    is_view: bool
    grain: str
    use: str
    columns: Mapping[str, Definition]
    append_only: bool = False
    """Whether rows are only ever added: a trigger refuses all else, and loaders are granted no more."""
    entered_by: str | None = None
    """The function that rows are entered through, so that loaders are granted reading only."""
    security_barrier: bool = False
    """Whether the view hides rows that functions in a reader's question must not see either."""

    @property
    def text(self) -> str:
        """Grain and purpose, in one line."""
        use = f" For: {self.use}." if self.use else ""
        return f"One row per {self.grain.rstrip('.')}.{use}"

    @property
    def shown_name(self) -> str:
        """The name as people write it."""
        return self.name if self.schema == SCHEMA else f"{self.schema}.{self.name}"


@dataclass(frozen=True, slots=True)
class Function:
    """A function of the schema: how it is called, what it tells, and what it is for."""

    name: str
    call: str
    meaning: str
    use: str
    roles: tuple[str, ...] | None = None
    """The groups that may call it; None where all readers and loaders may."""

    @property
    def text(self) -> str:
        """Meaning and purpose, in one line."""
        return f"{self.meaning} For: {self.use}."


@dataclass(frozen=True, slots=True)
class Dictionary:
    """All there is, by schema and name."""

    relations: Mapping[tuple[str, str], Relation]
    functions: Mapping[str, Function]

    def relation(self, name: str) -> Relation:
        """A table or view of the schema `agentmill`. Raises DictionaryError."""
        if (SCHEMA, name) not in self.relations:
            raise DictionaryError(f"`{name}` is not in {DICTIONARY_FILE}: add it under `tables` or `views`")
        return self.relations[SCHEMA, name]


class _RelationEntry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    use: str = ""
    grain: str | None = None
    columns: list[Any] = []
    own: dict[str, Definition] = {}
    security_barrier: bool = False
    append_only: bool = False
    entered_by: str | None = None
    privacy: Privacy = Privacy.PUBLIC
    """The class of every column that is not in a stricter one: rows of single people are closed as a whole."""


class _FunctionEntry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    call: str
    use: str
    roles: tuple[_Caller, ...] | None = None


class _Content(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    columns: dict[str, Definition]
    tables: dict[str, _RelationEntry]
    views: dict[str, _RelationEntry]
    functions: dict[str, _FunctionEntry]


@cache
def load_dictionary() -> Dictionary:
    """Read the dictionary. Raises DictionaryError, which says what to add or remove and where."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast, where it was built
    return parse_dictionary(yaml.load(_PATH.read_text(), loader))  # noqa: S506 - both are safe


def parse_dictionary(content: object) -> Dictionary:
    """Make a dictionary of the content of its file. Raises DictionaryError, pydantic.ValidationError."""
    given = _Content.model_validate(content)
    if unknown := sorted({one.entered_by for one in given.tables.values() if one.entered_by} - given.functions.keys()):
        raise DictionaryError(f"there is no function {', '.join(unknown)}: mend `entered_by` in {DICTIONARY_FILE}")
    relations = [
        _relation(name, entry, given.columns, is_view=is_view)
        for entries, is_view in ((given.tables, False), (given.views, True))
        for name, entry in entries.items()
    ]
    used = {name for relation in relations for name in relation.columns}
    if idle := sorted(given.columns.keys() - used):
        raise DictionaryError(f"no table or view has {', '.join(idle)}: remove it from `columns` of {DICTIONARY_FILE}")
    return Dictionary(
        {(relation.schema, relation.name): relation for relation in relations},
        {
            name: Function(name, entry.call, _first_line(SCHEMA, "functions", name), entry.use, entry.roles)
            for name, entry in given.functions.items()
        },
    )


def _relation(name: str, entry: _RelationEntry, shared: Mapping[str, Definition], *, is_view: bool) -> Relation:
    schema, bare = name.split(".", 1) if "." in name else (SCHEMA, name)
    if schema == SCHEMA and bare in RECORD_TYPES:
        columns = {column.name: _of_record(column) for column in RECORD_TYPES[bare].columns}
    else:
        columns = {column: _define(name, column, entry, shared) for column in _flat(entry.columns)}
    if idle := sorted(entry.own.keys() - columns.keys()):
        raise DictionaryError(f"{name} has no column {', '.join(idle)}: remove it from its `own` in {DICTIONARY_FILE}")
    grain = entry.grain or _first_line(schema, "views", bare).removeprefix("One row per ")
    columns = {column: _at_least(entry.privacy, definition) for column, definition in columns.items()}
    return Relation(
        schema,
        bare,
        is_view,
        grain,
        entry.use,
        columns,
        append_only=entry.append_only,
        entered_by=entry.entered_by,
        security_barrier=entry.security_barrier,
    )


def _at_least(privacy: Privacy, definition: Definition) -> Definition:
    strictest = max(privacy, definition.privacy, key=list(Privacy).index)
    return definition.model_copy(update={"privacy": strictest})


def _define(table: str, column: str, entry: _RelationEntry, shared: Mapping[str, Definition]) -> Definition:
    if found := entry.own.get(column) or shared.get(column) or _CANONICAL.get(column):
        return found
    where = f"under `own` of {table}, or under `columns` if other tables mean the same by it"
    raise DictionaryError(f"{table}.{column} is not defined: add it to {DICTIONARY_FILE}, {where}")


def _of_record(column: Column) -> Definition:
    kind = "jsonb" if column.name in _JSON_COLUMNS else _TYPES[column.dtype]
    return Definition(type=kind, meaning=column.meaning, privacy=column.privacy)


_CANONICAL = {column.name: _of_record(column) for column in COLUMNS}


def _flat(names: list[Any]) -> Iterator[str]:
    for name in names:
        if isinstance(name, list):
            yield from _flat(name)
        else:
            yield name


def _first_line(schema: str, folder: str, name: str) -> str:
    path = SQL_FOLDER / (folder if schema == SCHEMA else schema) / f"{name}.sql"
    if not path.exists():
        raise DictionaryError(f"{name} has no file sql/{path.relative_to(SQL_FOLDER)}, and no `grain` of its own")
    return path.read_text().splitlines()[0].removeprefix("-- ")


_CATALOG = """
select n.nspname::text, c.relname::text, c.relkind = 'v', a.attname::text,
    replace(format_type(a.atttypid, a.atttypmod), 'timestamp with time zone', 'timestamptz'),
    obj_description(c.oid, 'pg_class'), col_description(c.oid, a.attnum)
from pg_class c
join pg_namespace n on n.oid = c.relnamespace
join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
where n.nspname = any(%s) and c.relkind in ('r', 'p', 'v', 'm')
order by c.relname, a.attnum
"""
_FUNCTIONS = """
select p.proname::text, p.oid::regprocedure::text,
    replace(
        format(
            '%%s(%%s) returns %%s', p.proname, pg_get_function_arguments(p.oid),
            case when p.proretset then 'table' else pg_get_function_result(p.oid) end
        ),
        'timestamp with time zone', 'timestamptz'
    ),
    obj_description(p.oid, 'pg_proc')
from pg_proc p where p.pronamespace = %s::regnamespace order by 1
"""


def comment(connection: psycopg.Connection) -> None:
    """Write every comment of what the database and the dictionary both have."""
    known = load_dictionary()
    statements, told = [], set()
    for schema, name, is_view, column, *_ in _catalog(connection, known):
        relation = known.relations.get((schema, name))
        if relation is None:
            continue
        if (schema, name) not in told:
            told.add((schema, name))
            kind, target = sql.SQL("view" if is_view else "table"), sql.Identifier(schema, name)
            statements.append(_comment(kind, target, relation.text))
        if column in relation.columns:
            target = sql.Identifier(schema, name, column)
            statements.append(_comment(sql.SQL("column"), target, relation.columns[column].text))
    for name, signature, *_ in connection.execute(_FUNCTIONS, [SCHEMA]).fetchall():
        if name in known.functions:
            # `regprocedure` quotes what needs it
            statements.append(_comment(sql.SQL("routine"), sql.SQL(signature), known.functions[name].text))
    if statements:
        connection.execute(sql.SQL(";\n").join(statements))


def differences(connection: psycopg.Connection) -> list[str]:
    """Where the database and the dictionary differ, each with what to do about it; empty where they agree."""
    known = load_dictionary()
    found, seen = [], set()
    for schema, name, is_view, column, kind, of_relation, of_column in _catalog(connection, known):
        relation, what = known.relations.get((schema, name)), f"{schema}.{name}.{column}"
        if relation is None:
            section = "views" if is_view else "tables"
            told = f"{schema}.{name} is not in the dictionary: add it to {DICTIONARY_FILE} under `{section}`"
            found += [told] if told not in found else []
            continue
        seen.add((schema, name, column))
        definition = relation.columns.get(column)
        if definition is None:
            where = "its RecordType" if name in RECORD_TYPES else f"`columns` of {name} in {DICTIONARY_FILE}"
            found.append(f"{what} is not in the dictionary: add it to {where}")
            continue
        if _bare(definition.type) != _bare(kind) if is_view else definition.type != kind:
            found.append(f"{what} is {kind}; the dictionary says {definition.type}")
        if (of_relation, of_column) != (relation.text, definition.text):
            found.append(f"{what} has another comment than the dictionary; the next upgrade writes it")
    entries = {(*key, column) for key, relation in known.relations.items() for column in relation.columns}
    found += [
        f"{'.'.join(entry)} is in the dictionary and not in the database: remove it there" for entry in entries - seen
    ]
    return sorted([*found, *_function_differences(connection, known)])


def _bare(kind: str) -> str:
    """A type without its precision, which sums and quotients lose."""
    return kind.partition("(")[0]


def _function_differences(connection: psycopg.Connection, known: Dictionary) -> Iterator[str]:
    functions = connection.execute(_FUNCTIONS, [SCHEMA]).fetchall()
    for name, _, call, told in functions:
        function = known.functions.get(name)
        if function is None:
            yield f"{SCHEMA}.{name} is not in the dictionary: add it to {DICTIONARY_FILE} under `functions`"
        elif (call, told) != (function.call, function.text):
            yield f"{SCHEMA}.{call} has another call or comment than the dictionary, which says {function.call}"
    for name in known.functions.keys() - {name for name, *_ in functions}:
        yield f"{SCHEMA}.{name} is in the dictionary and not in the database: remove it there"


def _catalog(connection: psycopg.Connection, known: Dictionary) -> list[tuple[Any, ...]]:
    return connection.execute(_CATALOG, [sorted({schema for schema, _ in known.relations})]).fetchall()


def _comment(kind: sql.SQL, target: sql.Composable, text: str) -> sql.Composed:
    return sql.SQL("comment on {} {} is {}").format(kind, target, sql.Literal(text))

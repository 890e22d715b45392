"""Logs in tables: one statement per day reads the rows and lets the source count them in the same snapshot.

Columns whose types readers round, refuse or misread (decimals, dates of zeros, enums, arrays ...) arrive as text.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

import connectorx as cx
import polars as pl
import sqlalchemy as sa
from pydantic import Field, SecretStr, field_validator, model_validator
from sqlalchemy.pool import NullPool

from pipelines.sources.mapping import MappedField, TimeUnit
from pipelines.sources.records import POSITION
from pipelines.sources.source import Source
from pipelines.sources.streams import NoAnswerError, UnreadableInputError
from pipelines.sources.timestamps import EARLIEST, FUTURE_TOLERANCE

_PRISMA_OPTIONS = {"schema", "connection_limit", "pgbouncer", "pool_timeout", "statement_cache_size"}
_DRIVERS = {"postgresql": "postgresql+psycopg", "mysql": "mysql+pymysql", "mariadb": "mysql+pymysql"}
_LOST_STATES = ("08", "40", "53", "57")
"""Classes of SQLSTATE: connection, serialization, resources, intervention of an operator."""
_BULK_READER_GAVE_UP = "holds a value that cannot be read, or its connection broke off"
"""It tells one like the other."""
_LET_IN_LATER = ("starting up", "shutting down", "in recovery mode", "too many clients", "slots are reserved")
_LOST_CODES = {1040, 1205, 1213, 2002, 2003, 2006, 2013}
"""MySQL: too many connections, a lock's timeout, a deadlock, no server, a lost connection."""
COUNTED = "agentmill_counted"
"""Column beside the rows of a day: how many there are, by the source's own count."""

_BATCH_ROWS = 50_000
_MARGIN = timedelta(hours=3)
"""Clocks go back by less: local times around midnight are read with this margin and dated afterwards."""

_END = re.compile(r";\s*(?:--[^\n]*\s*)*$")
"""The end of a statement, which a subquery must not have."""

TimeKind = Literal["instant", "local", "number"]

# Types that arrive as they are. PostgreSQL: object ids of pg_type; MySQL: field types of the client protocol.
_POSTGRES_NUMBERS = frozenset((20, 21, 23, 701))
_POSTGRES_PLAIN = _POSTGRES_NUMBERS | {16, 19, 25, 1042, 1043}
_POSTGRES_TIMES: dict[int, TimeKind] = {1082: "local", 1114: "local", 1184: "instant"}
_POSTGRES_ADDRESS = 869
_POSTGRES_CATEGORIES = {"N": "number", "S": "text", "E": "text", "B": "boolean", "D": "time", "A": "list"}
"""Types that are read alike have one name; any other has its own, such as jsonb."""
_MYSQL_NUMBERS = frozenset((1, 2, 3, 5, 8, 9))
_MYSQL_TEXTS = frozenset((249, 250, 251, 252, 253, 254))
_MYSQL_TIMES: dict[int, TimeKind] = {7: "instant", 10: "local", 12: "local"}
_MYSQL_TEXT_NUMBERS = (0, 4, 246)
"""Decimals, and single floats, which would get digits that they do not have."""
_MYSQL_BIGINT, _MYSQL_BIT, _MYSQL_UNSIGNED, _MYSQL_BINARY, _MYSQL_GEOMETRY = 8, 16, 32, 63, 255
_PER_SECOND: dict[TimeUnit, int] = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


def check_url(url: SecretStr) -> str:
    """The kind of database that a URL names. Raises ValueError, which does not quote it."""
    try:
        parsed = sa.make_url(url.get_secret_value())
        backend = parsed.get_backend_name()
    except (sa.exc.ArgumentError, ValueError):
        raise ValueError("it is no database URL such as postgresql://user:password@host/database") from None
    if any(mark in (parsed.host or "") for mark in "@#"):
        raise ValueError("write `@` and `#` of a password as %40 and %23")
    if prismas := sorted(_PRISMA_OPTIONS & parsed.query.keys()):
        raise ValueError(f"remove Prisma's {', '.join(prismas)} from it; a schema is written before the table")
    return backend


def shown_url(url: SecretStr) -> str:
    """A database URL for people: neither user nor password nor options, which may hold one."""
    given = sa.make_url(url.get_secret_value())
    shown = sa.URL.create(given.get_backend_name(), host=given.host, port=given.port, database=given.database)
    return shown.render_as_string()


class DatabaseSource(Source):
    """A table, a view or a query of a PostgreSQL, MySQL or MariaDB database."""

    kind: Literal["database"]
    url: Annotated[SecretStr, Field(description="postgresql://... or mysql://...; best as ${VARIABLE}")]
    table: Annotated[str | None, Field(description="Its name, with its schema where it is not the default one.")] = None
    query: Annotated[str | None, Field(description="A SELECT instead of a table.")] = None

    @field_validator("url")
    @classmethod
    def _known_database(cls, url: SecretStr) -> SecretStr:
        backend = check_url(url)
        if backend not in _DRIVERS:
            raise ValueError(f"`{backend}` is not read yet; there are: {', '.join(_DRIVERS)}")
        return url

    @model_validator(mode="after")
    def _has_rows_with_a_time(self) -> "DatabaseSource":
        if (self.table is None) == (self.query is None):
            raise ValueError("give either `table` or `query`")
        for name in self.time_columns:
            field = self.mapping.get(name)
            is_column = len(self.paths.get(name, ())) == 1
            if field is not None and not (is_column and not field.null_if and not field.values):
                raise ValueError(f"map `{name}` to a column as it is: the database is asked for days by it")
        return self

    @property
    def time_fields(self) -> list[str]:
        """The source's columns that date a row: the first that is not null counts."""
        return [self.paths[name][0] for name in self.time_columns if name in self.paths]

    @property
    def location(self) -> str:
        """Where it reads, for people."""
        return f"{self.table or 'a query'} of {shown_url(self.url)}"


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a source: how it is selected, and what it says of time if it dates rows."""

    name: str
    select: str
    type: str
    time: TimeKind | None = None


class Table:
    """A source's rows, read day by day. Raises NoAnswerError where the database does not answer."""

    def __init__(self, source: DatabaseSource) -> None:
        self._source = source
        url = sa.make_url(source.url.get_secret_value())
        self._is_mysql = _DRIVERS[url.get_backend_name()].startswith("mysql")
        self._engine = sa.create_engine(url.set(drivername=_DRIVERS[url.get_backend_name()]), poolclass=NullPool)
        sa.event.listen(self._engine, "connect", self._set_session)
        self._quote = self._engine.dialect.identifier_preparer.quote
        self._rows = self._relation()
        with self._errors_told():
            self._columns = self._describe()
        self._times = [self._time_column(name) for name in source.time_fields]

    @property
    def types(self) -> dict[str, str]:
        """The class of type that each column is declared with: number, text, time ..."""
        return {column.name: column.type for column in self._columns}

    def read_day(self, day: date) -> Iterator[pl.DataFrame]:
        """Batches of rows whose time may lie in the UTC day, each with the source's own count of all of them."""
        with self._errors_told():
            yield from _ahead(self._stream(self.statement(day)))

    def statement(self, day: date) -> str:
        """What the database is asked for a day: rows and their count, of one moment."""
        start = datetime(day.year, day.month, day.day, tzinfo=UTC)
        window = self._within(start, start + timedelta(days=1))
        from_window = f"from {self._rows} where {window}"
        return f"select {self._selected(are_dated=True)}, (select count(*) {from_window}) as {COUNTED} {from_window}"

    def sample(self, most: int) -> pl.DataFrame:
        """Some rows, whichever the database finds first."""
        sql = f"select {self._selected(are_dated=False)} from {self._rows} limit {most:d}"  # noqa: S608
        with self._errors_told():
            batches = list(self._stream(sql))
        return pl.concat(batches) if batches else pl.DataFrame()

    def count_unplaced(self, read_at: datetime, days: Iterable[date]) -> int:
        """How many rows no day can hold: they have no time, or one before 2000 or in the future.

        Dates with a zero in them are looked for around the months of the days.
        """
        first, last = EARLIEST, read_at + FUTURE_TOLERANCE
        if len(self._times) > 1:
            unplaced = f"({self._within(first, last)}) is not true"
        else:
            months = {near.replace(day=1) for day in days for near in (day, day + timedelta(days=1))}
            unplaced = self._outside(first, last, months)
        sql = f"select count(*) from {self._rows} where {unplaced}"  # noqa: S608
        with self._errors_told(), self._engine.connect() as connection:
            return int(connection.exec_driver_sql(_literally(sql)).scalar_one())

    @property
    def dates_exactly(self) -> bool:
        """Whether the rows of a day are just those asked for: their times are read by the database as we read them."""
        mapped = [self._source.mapping[name] for name in self._source.time_columns if name in self._source.mapping]
        is_plain = mapped == [MappedField(source=column.name) for column in self._times]
        return is_plain and all(
            column.time == "instant" or (column.time == "local" and self._source.timezone == "UTC")
            for column in self._times
        )

    @property
    def _session(self) -> list[str]:
        """What makes the session's zone and formats ours, whatever the server or the user is set to."""
        return ["set time_zone = '+00:00'"] if self._is_mysql else ["set timezone = 'UTC'", "set datestyle = 'ISO'"]

    def _set_session(self, connection: Any, _: object) -> None:  # noqa: ANN401 - the driver's own class
        cursor = connection.cursor()
        for statement in self._session:
            cursor.execute(statement)
        cursor.close()
        connection.commit()

    def _relation(self) -> str:
        if self._source.table is not None:
            return ".".join(self._quote(part) for part in self._source.table.split("."))
        return f"({_END.sub('', str(self._source.query))}\n) as records"

    def _describe(self) -> list[Column]:
        """The columns of the rows, from a statement that returns none of them."""
        with self._engine.connect() as connection:
            cursor = connection.exec_driver_sql(_literally(f"select * from {self._rows} limit 0")).cursor  # noqa: S608
            assert cursor is not None  # noqa: S101 - a SELECT has one
            repeated = [name for name, times in Counter(str(one[0]) for one in cursor.description).items() if times > 1]
            if repeated:
                raise UnreadableInputError(
                    f"{self._source.location} has two columns of one name: {', '.join(repeated)}"
                )
            if self._is_mysql:
                return [self._mysql_column(field) for field in cursor._result.fields]  # noqa: SLF001
            types = [(str(name), int(str(oid))) for name, oid, *_ in cursor.description]
            rows = connection.exec_driver_sql("select oid, typcategory::text, typname::text from pg_type").all()
            told = {oid: _POSTGRES_CATEGORIES.get(category, name) for oid, category, name in rows}
            return [self._postgres_column(name, oid, told.get(oid, "other")) for name, oid in types]

    def _postgres_column(self, name: str, oid: int, kind: str) -> Column:
        quoted, time = self._quote(name), _POSTGRES_TIMES.get(oid)
        if oid in _POSTGRES_PLAIN:
            return Column(name, quoted, kind, "number" if oid in _POSTGRES_NUMBERS else None)
        if time is not None:
            return Column(name, f"replace({quoted}::text, ' ', 'T')", kind, time)
        if oid == _POSTGRES_ADDRESS:
            return Column(name, f"host({quoted})", kind)
        as_text = f"to_json({quoted})::text" if kind == "list" else f"{quoted}::text"
        return Column(name, as_text, kind, "number" if kind == "number" else None)

    def _mysql_column(self, field: Any) -> Column:  # noqa: ANN401 - the driver's own class
        quoted, kind = self._quote(field.name), field.type_code
        if kind in _MYSQL_TIMES:
            time = _MYSQL_TIMES[kind]
            offset = "'+00:00'" if time == "instant" else "''"
            as_text = f"concat(replace(cast({quoted} as char), ' ', 'T'), {offset})"
            return Column(field.name, as_text, "time", time)
        if kind in _MYSQL_NUMBERS and not (kind == _MYSQL_BIGINT and field.flags & _MYSQL_UNSIGNED):
            return Column(field.name, quoted, "number", "number")
        if kind in _MYSQL_TEXTS:
            is_binary = field.charsetnr == _MYSQL_BINARY
            return Column(field.name, f"hex({quoted})" if is_binary else quoted, "binary" if is_binary else "text")
        if kind == _MYSQL_GEOMETRY:
            return Column(field.name, f"st_astext({quoted})", "geometry")
        as_text = f"cast({quoted}{' + 0' if kind == _MYSQL_BIT else ''} as char)"
        is_number = kind in (_MYSQL_BIGINT, _MYSQL_BIT, *_MYSQL_TEXT_NUMBERS)
        return Column(field.name, as_text, *(("number", "number") if is_number else ("other", None)))

    def _selected(self, *, are_dated: bool) -> str:
        """The columns of a statement. A time that alone dates rows is a real one in rows of a day: it needs no text."""
        native = self._source.time_fields if are_dated and len(self._source.time_fields) == 1 else []
        return ", ".join(
            f"{self._quote(column.name) if column.name in native else column.select} as {self._quote(column.name)}"
            for column in self._columns
        )

    def _time_column(self, name: str) -> Column:
        for column in self._columns:
            if column.name == name:
                if column.time is None:
                    raise UnreadableInputError(
                        f"column `{name}` of {self._source.location} is neither a time nor a number; cast it in `query`"
                    )
                return column
        raise UnreadableInputError(f"{self._source.location} has no column `{name}`")

    def _within(self, start: datetime, end: datetime) -> str:
        """Whether the first known time of a row lies in [start, end), as SQL that can use an index."""
        conditions, earlier = [], ""
        for column in self._times:
            name = self._quote(column.name)
            conditions.append(f"({earlier}{self._range(start, end, column)})")
            is_absent = f"({name} is null or {name} = 0)" if self._may_be_zero(column) else f"{name} is null"
            earlier += f"{is_absent} and "
        return f"({' or '.join(conditions)})"

    def _range(self, start: datetime, end: datetime, column: Column) -> str:
        """Whether a column's time lies in [start, end). A date of zeros does not, though 2026-03-00 < 2026-03-01."""
        name = self._quote(column.name)
        low, high = (self._literal(at, column) for at in self._padded(start, end, column))
        within = f"{name} >= {low} and {name} < {high}"
        is_of_one_month = low.split("-")[:2] == high.split("-")[:2]
        is_real = f" and not ({self._is_unreal(column)})"
        return within + is_real if self._may_be_zero(column) and not is_of_one_month else within

    def _outside(self, start: datetime, end: datetime, months: Iterable[date]) -> str:
        """Whether the only time of a row lies outside [start, end) or is a date of zeros, as SQL that can use an index.

        Such dates lie between the last day of a month and the next one, those without a month between two years.
        """
        (column,) = self._times
        name = self._quote(column.name)
        low, high = (self._literal(at, column) for at in self._padded(start, end, column))
        conditions = [f"{name} is null", f"{name} < {low}", f"{name} >= {high}"]
        for month in sorted(months) if self._may_be_zero(column) else ():
            near = f"{name} >= timestamp'{month - timedelta(days=1)} 00:00:00' and {name} < timestamp'{month} 00:00:00'"
            conditions.append(f"({near} and ({self._is_unreal(column)}))")
        return " or ".join(conditions)

    def _is_unreal(self, column: Column) -> str:
        """Whether a time of MySQL is no date: it has zeros in it, or is the 31st of a shorter month."""
        name = self._quote(column.name)
        return f"dayofmonth({name}) = 0 or month({name}) = 0 or dayofmonth({name}) > dayofmonth(last_day({name}))"

    def _may_be_zero(self, column: Column) -> bool:
        return self._is_mysql and column.time != "number"

    def _padded(self, start: datetime, end: datetime, column: Column) -> tuple[datetime, datetime]:
        zoned = column.time == "local" and self._source.timezone != "UTC"
        return (start - _MARGIN, end + _MARGIN) if zoned else (start, end)

    def _literal(self, at: datetime, column: Column) -> str:
        if column.time == "number":
            return str(int(at.timestamp()) * _PER_SECOND[self._unit(column)])
        zone = "UTC" if column.time == "instant" else self._source.timezone
        text = at.astimezone(ZoneInfo(zone)).strftime("%Y-%m-%d %H:%M:%S")
        if self._is_mysql:
            return f"timestamp'{text}'"
        return f"timestamptz'{text}+00'" if column.time == "instant" else f"timestamp'{text}'"

    def _unit(self, column: Column) -> TimeUnit:
        mapped = next(field for field in self._source.mapping.values() if field.source == column.name)
        if mapped.unit is None:
            raise UnreadableInputError(f"column `{column.name}` holds numbers: say their `unit` in the mapping")
        return mapped.unit

    def _stream(self, sql: str) -> Iterator[pl.DataFrame]:
        """Batches of the statement's rows; instants that came without their zone get it back."""
        instants = pl.col([column.name for column in self._times if column.time == "instant"])
        for rows in self._read(sql):
            bare = [name for name in rows.select(instants).columns if rows.schema[name] == pl.Datetime("us")]
            yield rows.with_columns(pl.col(bare).dt.replace_time_zone("UTC"))

    def _read(self, sql: str) -> Iterator[pl.DataFrame]:
        url = sa.make_url(self._source.url.get_secret_value())
        if not url.host or url.host.startswith("/") or url.query:  # the bulk reader knows neither sockets nor options
            yield from self._read_slowly(sql)
            return
        plain = url.set(drivername="mysql" if self._is_mysql else "postgresql")
        try:
            batches = cx.read_sql(
                plain.render_as_string(hide_password=False),
                sql,
                return_type="arrow_stream",
                batch_size=_BATCH_ROWS,
                pre_execution_query=self._session,
            )
            yield from (pl.DataFrame(pl.from_arrow(batch)) for batch in batches if batch.num_rows)
        except BaseException as error:
            if isinstance(error, Exception | GeneratorExit | KeyboardInterrupt | SystemExit):
                raise
            raise NoAnswerError(f"{self._source.location} {_BULK_READER_GAVE_UP}") from None

    def _read_slowly(self, sql: str) -> Iterator[pl.DataFrame]:
        """Through a server-side cursor of the driver, for connections that the bulk reader cannot make."""
        with self._engine.connect().execution_options(stream_results=True, max_row_buffer=_BATCH_ROWS) as connection:
            result = connection.exec_driver_sql(_literally(sql))
            names = list(result.keys())
            for rows in result.partitions(_BATCH_ROWS):
                yield pl.DataFrame([tuple(row) for row in rows], schema=names, orient="row", infer_schema_length=None)

    @contextmanager
    def _errors_told(self) -> Iterator[None]:
        """Tell what went wrong without the data or the password that drivers quote."""
        try:
            yield
        except sa.exc.DataError:
            raise UnreadableInputError(f"{self._source.location} holds a value that its query cannot convert") from None
        except sa.exc.DBAPIError as error:
            told = str(error.orig).splitlines()[0]
            kind = NoAnswerError if _is_lost(error) else UnreadableInputError
            raise kind(f"{self._source.location} cannot be read: {told}") from None
        except RuntimeError:
            raise NoAnswerError(f"{self._source.location} {_BULK_READER_GAVE_UP}") from None
        except (TypeError, pl.exceptions.PolarsError) as error:
            raise UnreadableInputError(f"{self._source.location} cannot be read: {type(error).__name__}") from None


def _is_lost(error: sa.exc.DBAPIError) -> bool:
    """Whether a connection could not be made or broke, or the database was too busy."""
    state, code = getattr(error.orig, "sqlstate", None), error.orig.args[0] if error.orig and error.orig.args else None
    if isinstance(code, int):
        return code in _LOST_CODES
    if state is None:  # of a server that was not reached, or that let nobody in
        return isinstance(error, sa.exc.OperationalError) and (
            "FATAL" not in str(error.orig) or any(words in str(error.orig) for words in _LET_IN_LATER)
        )
    return error.connection_invalidated or state.startswith(_LOST_STATES)


def _ahead(batches: Iterator[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """The batches, with the next one already on its way while one is worked on."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        pending = pool.submit(next, batches, None)
        while (batch := pending.result()) is not None:
            pending = pool.submit(next, batches, None)
            yield batch


def _literally(sql: str) -> str:
    """The statement for drivers that take a percent sign for a parameter."""
    return sql.replace("%", "%%")


def as_records(rows: pl.DataFrame, source: DatabaseSource) -> pl.DataFrame:
    """Rows as records: POSITION, which for a table is only its name, beside `record`."""
    place = [pl.lit(None, dtype).alias(name) for name, dtype in POSITION.items()]
    return (
        rows.select(pl.struct(pl.all()).alias("record"))
        .select(*place, "record")
        .with_columns(file=pl.lit(source.table or "query"))
    )

"""Files of traces -> executions as records: gathered first, because spans of one trace may lie anywhere."""

import re
from collections.abc import Iterator
from datetime import date, datetime

import duckdb
import polars as pl

from pipelines.sources.files import FileReading
from pipelines.sources.records import POSITION
from pipelines.sources.spans import READERS, TraceSource
from pipelines.sources.spans.executions import as_executions
from pipelines.sources.spans.otlp import count_unknown, is_otlp
from pipelines.sources.spans.span import SPAN
from pipelines.sources.streams import UnreadableInputError
from pipelines.sources.timestamps import EARLIEST, FUTURE_TOLERANCE

_MOST_UNKNOWN = 30
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_.-]{1,80}")


class Traces:
    """Gathers the spans of some files, and what could not be read of them."""

    def __init__(self, source: TraceSource, read_at: datetime) -> None:
        self._kind = source.kind
        self._latest = read_at + FUTURE_TOLERANCE
        self._spans = [SPAN.to_frame()]
        self._broken: list[pl.DataFrame] = []

    def read(self, reading: FileReading) -> tuple[dict[date, int], pl.DataFrame]:
        """Take in one file. Tells its spans and broken lines by day, and the `day` and the content of each span.

        Raises UnreadableInputError.
        """
        spans, broken = [SPAN.to_frame()], []
        for lines in reading:
            of_lines, bad = self._explode(lines)
            spans.append(of_lines)
            broken.append(bad)
        of_file = pl.concat(spans)
        started = of_file.select(self._usable("started_at")).to_series()
        first = started.min()
        day = first.date() if isinstance(first, datetime) else reading.file.modified_at.date()
        self._spans.append(of_file.with_columns(arrived=pl.lit(day)))
        self._broken += [lines.with_columns(day=pl.lit(day)) for lines in broken if lines.height]
        days = started.dt.date().fill_null(day).alias("day")
        counts = dict(days.value_counts().iter_rows())
        counts[day] = counts.get(day, 0) + sum(lines.height for lines in broken)
        content = of_file.select(days, record=pl.struct(pl.exclude("file", "line", "arrived")))
        return dict(sorted(counts.items())), content

    def _explode(self, lines: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
        """The spans in some lines, and the lines that hold what is none."""
        is_whole = lines["problem"].is_null()
        if self._kind == "otlp":
            is_whole &= is_otlp(lines["record"]).fill_null(value=False)
        try:
            spans = READERS[self._kind](lines.filter(is_whole))
        except duckdb.Error as error:
            raise UnreadableInputError(f"its spans cannot be read ({type(error).__name__})") from None
        nameless = spans.filter(pl.any_horizontal(pl.col("trace_id", "span_id").is_null()))["line"]
        is_bad = ~is_whole | lines["line"].is_in(nameless.implode())
        bad = lines.filter(is_bad).with_columns(
            problem=pl.coalesce("problem", pl.lit("malformed")), received=pl.coalesce("received", "record")
        )
        kept = spans.filter(~pl.col("line").is_in(nameless.implode()))
        return kept, bad.with_columns(record=pl.lit(None, pl.String))

    def _usable(self, name: str) -> pl.Expr:
        """A time, where it can be one."""
        return pl.when(pl.col(name).is_between(EARLIEST, self._latest)).then(name)

    def unknown_attributes(self) -> dict[str, int]:
        """How often the most frequent attributes occurred that no column is made of."""
        if self._kind != "otlp":
            return {}
        counts = count_unknown(pl.concat(self._spans))
        plain = {name: count for name, count in counts.items() if _PLAIN_NAME.fullmatch(name)}
        return dict(list(plain.items())[:_MOST_UNKNOWN])

    def records(self) -> Iterator[pl.DataFrame]:
        """The executions as records with their `day`, and the broken lines."""
        rows = as_executions(pl.concat(self._spans))
        place = [
            pl.col("file"),
            pl.col("line"),
            *(pl.lit(None, dtype).alias(name) for name, dtype in POSITION.items() if name not in ("file", "line")),
        ]
        usable = [self._usable(name).dt.date() for name in ("started_at", "completed_at")]
        day = pl.coalesce(*usable, "arrived").alias("day")
        yield rows.select(*place, pl.struct(pl.exclude("file", "line", "arrived")).alias("record"), day)
        yield from self._broken

"""Files of traces -> executions as records: gathered first, because spans of one trace may lie anywhere."""

import re
from collections.abc import Iterator
from datetime import date, datetime

import polars as pl

from pipelines.sources.files import FileReading
from pipelines.sources.records import POSITION
from pipelines.sources.spans import READERS, TraceSource
from pipelines.sources.spans.executions import as_executions
from pipelines.sources.spans.otlp import count_unknown, read_otlp
from pipelines.sources.spans.span import SPAN

_MOST_UNKNOWN = 30
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_.-]{1,80}")


class Traces:
    """Gathers the spans of some files, and what could not be read of them."""

    def __init__(self, source: TraceSource) -> None:
        self._read_spans = READERS[source.kind]
        self._spans = [SPAN.to_frame()]
        self._broken: list[pl.DataFrame] = []

    def read(self, reading: FileReading) -> tuple[dict[date, int], pl.DataFrame]:
        """Take in one file. Tells its spans and broken lines by day, and the `day` and the content of each span."""
        arrival = reading.file.modified_at.date()
        spans, broken = [SPAN.to_frame()], []
        for lines in reading:
            is_whole = lines["problem"].is_null()
            spans.append(self._read_spans(lines.filter(is_whole)))
            broken.append(lines.filter(~is_whole))
        of_file = pl.concat(spans)
        first = of_file["started_at"].min()
        day = first.date() if isinstance(first, datetime) else arrival
        self._spans.append(of_file.with_columns(arrived=pl.lit(day)))
        self._broken += [lines.with_columns(day=pl.lit(day)) for lines in broken if lines.height]
        counts = dict(of_file["started_at"].dt.date().fill_null(day).value_counts().iter_rows())
        counts[day] = counts.get(day, 0) + sum(lines.height for lines in broken)
        day_of_span = of_file["started_at"].dt.date().fill_null(day).alias("day")
        content = of_file.select(day_of_span, record=pl.struct(pl.exclude("file", "line", "arrived")))
        return dict(sorted(counts.items())), content

    def unknown_attributes(self) -> dict[str, int]:
        """How often the most frequent attributes occurred that no column is made of."""
        if self._read_spans is not read_otlp:
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
        day = pl.coalesce(pl.col("started_at", "completed_at").dt.date(), "arrived").alias("day")
        yield rows.select(*place, pl.struct(pl.exclude("file", "line", "arrived")).alias("record"), day)
        yield from self._broken

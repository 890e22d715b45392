"""Executions in traces: a day is read with the days around it, because spans of one trace may lie in several files.

A span is indexed by the day it started on; an execution belongs to the day its own span started on. A trace that goes
on for longer than a day loses what lies farther away.
"""

from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from functools import partial

from pipelines.anonymize.names import plain_names
from pipelines.extract.files import ReadInput, commit_inputs, read_inputs
from pipelines.extract.receipt import RawReceipt, raw_dataset
from pipelines.extract.spool import Spool, digest_by_day
from pipelines.lake import Lake
from pipelines.sources.files import FileReading
from pipelines.sources.spans import TraceSource
from pipelines.sources.spans.traces import Traces
from pipelines.tombstones import NOBODY, Erased

_AROUND = timedelta(days=1)
_MOST_DAYS = 7
"""Days whose spans are held at once."""


def extract_traces(  # noqa: PLR0913 - what a day is made of
    source: TraceSource,
    days: Sequence[date],
    lake: Lake,
    read_at: datetime,
    *,
    accept_missing: bool = False,
    erased: Erased = NOBODY,
) -> dict[date, RawReceipt]:
    """Read the executions of the days and commit a receipt per day. Raises ExtractionError as `extract_files` does.

    The inputs of a receipt are counted in spans.
    """
    receipts: dict[date, RawReceipt] = {}
    for start in range(0, len(days), _MOST_DAYS):
        chosen = days[start : start + _MOST_DAYS]
        traces = Traces(source, read_at)
        wider = sorted({day + shift for day in chosen for shift in (-_AROUND, timedelta(), _AROUND)})
        inputs = read_inputs(source, wider, lake, read_at, partial(read_spans, traces))
        spool = Spool(lake, raw_dataset(source.name), chosen, is_erased=partial(erased.own, source=source))
        for records in traces.records():
            spool.add(records)
        receipts |= commit_inputs(
            source,
            chosen,
            inputs,
            spool,
            lake=lake,
            read_at=read_at,
            accept_missing=accept_missing,
            unknown_attributes=_plain(traces.unknown_attributes()),
        )
    return receipts


def read_spans(traces: Traces, reading: FileReading) -> ReadInput:
    """Read one file and account for it by the days its spans started on."""
    counts, content = traces.read(reading)
    return ReadInput(file=reading.file, sha256=reading.sha256, records=counts, digests=digest_by_day(content))


def _plain(counts: Mapping[str, int]) -> dict[str, int]:
    plain = plain_names(counts)
    return {name: count for name, count in counts.items() if name in plain}

"""What a source would become, before anything is stored: sample executions and every problem found on the way."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import polars as pl

from pipelines.anonymize.keys import PseudonymKey
from pipelines.anonymize.names import plain_names
from pipelines.anonymize.text import DEFAULT, Sanitizer
from pipelines.clean import clean_records
from pipelines.execution import QUALITY_FLAGS, QUARANTINE_REASONS
from pipelines.extract.fields import Fields, pointer, steps_of
from pipelines.pricing import price
from pipelines.pricing.book import PriceBook
from pipelines.sources.database import DatabaseSource, Table, as_records
from pipelines.sources.files import FileReading, FileSource, list_files
from pipelines.sources.kinds import AnySource
from pipelines.sources.records import MappingError
from pipelines.sources.spans import TraceSource
from pipelines.sources.spans.traces import Traces
from pipelines.sources.streams import UnreadableInputError

_INPUTS = {"user": "user_key", "session": "session_key", "client_ip": "client_ip_prefix", "user_agent": "client_family"}
_INPUTS |= {"input": "input_bytes", "output": "output_bytes", "context": "context_bytes"}


@dataclass(slots=True)
class Preview:
    """A look at the first records of a source. `problems` are sentences; the rows are anonymized."""

    rows: pl.DataFrame
    inputs: int = 0
    records: int = 0
    problems: list[str] = field(default_factory=list)


def preview(
    source: AnySource,
    key: PseudonymKey,
    prices: PriceBook,
    *,
    sanitizer: Sanitizer = DEFAULT,
    most_records: int = 1_000,
) -> Preview:
    """Map, clean and anonymize the first records of a source. Nothing is written."""
    seen = Preview(source.record_type.schema.to_frame())
    if isinstance(source, DatabaseSource):
        batches = _first_rows(source, seen, most_records)
    else:
        batches = _first_traces(source, seen) if isinstance(source, TraceSource) else _first(source, seen)
    parts = []
    for batch in batches:
        parts.append(batch.head(most_records - seen.records))
        seen.records += parts[-1].height
        if seen.records >= most_records:
            break
    _judge(seen, parts, source, key, sanitizer)
    seen.rows = price(seen.rows, source, prices)
    return seen


def count_inputs(source: AnySource) -> int:
    """How many inputs a source has: files that match, or its one table."""
    return 1 if isinstance(source, DatabaseSource) else len(list_files(source).ready)


def _first(source: FileSource, seen: Preview) -> Iterator[pl.DataFrame]:
    """The records of a source's files, file by file."""
    listing = list_files(source)
    seen.inputs = len(listing.ready)
    seen.problems += [f"{file.path} is still being written and is left out" for file in listing.growing]
    if not listing.ready:
        seen.problems.append(f"no file matches `{source.path}`; relative paths start where the command is run")
    for file in listing.ready:
        try:
            yield from FileReading(source, file)
        except UnreadableInputError as error:
            seen.problems.append(str(error))


def _first_traces(source: TraceSource, seen: Preview) -> Iterator[pl.DataFrame]:
    """The executions in the first of a source's files."""
    listing = list_files(source)
    seen.inputs = len(listing.ready)
    traces = Traces(source, datetime.now(UTC))
    for file in listing.ready[:1]:
        try:
            traces.read(FileReading(source, file))
        except UnreadableInputError as error:
            seen.problems.append(str(error))
    paths = [*source.paths.values(), *source.attribute_paths.values()]
    used = {path[1] for path in paths if len(path) > 1}
    counts = {name: count for name, count in traces.unknown_attributes().items() if name not in used}
    plain = plain_names(counts)
    unknown = ", ".join(f"{name} {count:,}" for name, count in counts.items() if name in plain)
    if unknown:
        seen.problems.append(f"attributes that are left out unless `attributes` names them: {unknown}")
    if not listing.ready:
        seen.problems.append(f"no file matches `{source.path}`; relative paths start where the command is run")
    yield from traces.records()


def _first_rows(source: DatabaseSource, seen: Preview, most_records: int) -> Iterator[pl.DataFrame]:
    """Some rows of a source's table."""
    try:
        table = Table(source)
        seen.inputs = 1
        rows = table.sample(most_records)
        if rows.height:
            yield as_records(rows, source)
    except UnreadableInputError as error:
        seen.problems.append(str(error))


def _judge(
    seen: Preview, parts: list[pl.DataFrame], source: AnySource, key: PseudonymKey, sanitizer: Sanitizer
) -> None:
    now = datetime.now(UTC)
    try:
        cleaned = clean_records(parts, source, key, now, now.date(), sanitizer=sanitizer)
    except MappingError as error:
        seen.problems.append(str(error))
        return
    seen.rows = cleaned.rows
    by_reason = cleaned.quarantine.group_by("reason", "detail", maintain_order=True)
    for reason, detail, count, file, line in by_reason.agg(pl.len(), pl.col("file", "line").first()).iter_rows():
        place = f"{reason} ({detail})" if detail else reason
        at = f"{file}:{line}" if line else file
        seen.problems.append(f"{count} refused as {place}, first at {at}. {QUARANTINE_REASONS[reason]}")
    if cleaned.duplicates.dropped:
        seen.problems.append(f"{cleaned.duplicates.dropped} are duplicates; the latest of each is kept")
    flagged = cleaned.rows["quality_flags"].list.explode().drop_nulls().value_counts(sort=True)
    for name, count in flagged.iter_rows():
        seen.problems.append(f"{count} flagged as {name}. {QUALITY_FLAGS[name]}")
    absent: set[str] = set() if isinstance(source, TraceSource) else _absent(parts, source, seen)
    for name, mapped in source.mapping.items():
        if name in absent or (isinstance(source, TraceSource) and mapped.source == name):
            continue  # what is known of traces is not what the user wrote
        column = _INPUTS.get(name, name)
        if cleaned.rows.height and cleaned.rows[column].null_count() == cleaned.rows.height:
            seen.problems.append(f"`{name}: {mapped.source}` is empty in all {cleaned.rows.height} rows")


def _absent(parts: list[pl.DataFrame], source: AnySource, seen: Preview) -> set[str]:
    """The columns whose field no record has, which is told beside the fields that there are."""
    records = [usable for part in parts if (usable := part.filter(pl.col("problem").is_null())["record"]).len()]
    if not records:
        return set()
    fields, day = Fields(source), datetime.now(UTC).date()
    for record in records:
        fields.add(day, record)
    found = fields.of(day).keys()
    is_json = records[0].dtype == pl.String  # below the columns of a table nothing is looked into
    absent = {
        column
        for column, path in source.paths.items()
        if (steps := _steps(path, is_json=is_json)) and pointer(steps) not in found
    }
    if absent:
        named = ", ".join(
            f"`{column}: {source.mapping[column].source}`" for column in source.mapping if column in absent
        )
        first_level = [step for field in found if len(steps := steps_of(field)) == 1 for step in steps]
        plain = ", ".join(sorted(plain_names(first_level)))
        seen.problems.append(f"no record has the field of {named}; on the first level there are: {plain}")
    return absent


def _steps(path: Sequence[str], *, is_json: bool) -> Sequence[str]:
    """As far as a path can be looked for: outside of lists, and of tables their columns."""
    depth = next((place for place, step in enumerate(path) if step.startswith("[")), len(path))
    return path[:depth] if is_json else path[: min(depth, 1)]

"""Results of regression tests come back: files into the tables `regression_result_files` and `regression_results`.

Nothing is ever changed there and nothing counts twice: a file is known by its bytes, a result by its run, case, part
and repetition. What is wrong with a file stands beside it.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import psycopg

from pipelines.anonymize.text import DEFAULT, Sanitizer
from pipelines.regression.contract import LONGEST_MESSAGE, storable
from pipelines.regression.result_file import Result, ResultFile, ResultFileError, Run, parse_results
from pipelines.warehouse.connection import Warehouse

RESULT_FILES, RESULTS = "regression_result_files", "regression_results"

_CLOCKS_DIFFER = timedelta(minutes=5)
_MOST_TOLD = 5
_LONGEST_NAME = 200
_MOST_READ = 50_000
_SUFFIXES = {".json", ".xml"}


@dataclass(frozen=True, slots=True)
class ImportedFile:
    """What became of a file. `new_count` of its results were not there before."""

    file_name: str
    file_sha256: str | None
    """Null where the file could not be read; then nothing is recorded of it."""
    format: str | None = None
    is_new: bool = False
    result_count: int = 0
    new_count: int = 0
    problem: str | None = None


@dataclass(slots=True)
class _Reading:
    """A file on its way into the tables."""

    sha256: str
    now: datetime
    problems: list[str] = field(default_factory=list)
    rows: list[tuple[object, ...]] = field(default_factory=list)


def import_results(
    warehouse: Warehouse,
    paths: Iterable[Path],
    *,
    version: str | None = None,
    environment: str | None = None,
    sanitizer: Sanitizer = DEFAULT,
) -> list[ImportedFile]:
    """Import files, and the JSON and XML files of folders, in the order of their names.

    `version` and `environment` stand for those that a file does not tell.
    """
    imported = []
    with warehouse.connect() as connection:
        for path in result_files(paths):
            try:
                data = path.read_bytes()
            except OSError as error:
                problem = f"it cannot be read ({error.strerror})"
                imported.append(ImportedFile(_file_name(path, sanitizer), None, problem=problem))
                continue
            defaults = Run(None, None, version, environment)
            imported.append(_import(connection, _file_name(path, sanitizer), data, defaults, sanitizer))
    return imported


def result_files(paths: Iterable[Path]) -> Iterator[Path]:
    """The files, and of a folder those that may hold results."""
    for path in paths:
        if path.is_dir():
            found = (one for one in path.iterdir() if one.suffix in _SUFFIXES and not one.name.startswith("."))
            yield from sorted(one for one in found if one.is_file())
        else:
            yield path


def describe_folder(folder: Path) -> str | None:
    """A digest of the result files that lie in a folder, by name, size and time; null where there is none.

    It changes when there may be something to import.
    """
    found = []
    for path in result_files([folder]) if folder.is_dir() else ():
        told = path.stat()
        found.append((path.name, told.st_size, told.st_mtime_ns))
    return hashlib.sha256(repr(found).encode()).hexdigest()[:16] if found else None


def _import(
    connection: psycopg.Connection, name: str, data: bytes, defaults: Run, sanitizer: Sanitizer
) -> ImportedFile:
    reading = _Reading(hashlib.sha256(data).hexdigest(), datetime.now(UTC))
    held = connection.execute(
        "select format, result_count, problem from agentmill.regression_result_files where file_sha256 = %s",
        [reading.sha256],
    ).fetchone()
    if held is not None:
        return ImportedFile(name, reading.sha256, held[0], result_count=held[1], problem=held[2])
    try:
        file = parse_results(data)
    except ResultFileError as error:
        file = ResultFile("unknown", problems=[str(error)])
    reading.problems += file.problems
    for run in file.runs:
        _read_run(reading, run, defaults, sanitizer)
    reading.problems += _unknown_cases(connection, [str(row[3]) for row in reading.rows])
    return _record(connection, name, file.format, reading, sanitizer)


def _read_run(reading: _Reading, run: Run, defaults: Run, sanitizer: Sanitizer) -> None:
    """The rows of a run's results, with what is wrong with its time."""
    run_id = storable(run.run_id or f"file:{reading.sha256[:16]}")
    executed_at = run.executed_at or reading.now
    if run.executed_at is None:
        reading.problems.append("it does not say when the tests ran: the time of the import stands for it")
    elif executed_at > reading.now + _CLOCKS_DIFFER:
        reading.problems.append(f"its time {executed_at:%Y-%m-%d %H:%M} UTC is not over: the time of the import stands")
        executed_at = reading.now
    version, environment = _clean([run.version or defaults.version, run.environment or defaults.environment], sanitizer)
    messages = _clean([one.message for one in run.results], sanitizer)
    for one, message in zip(run.results, messages, strict=True):
        told = (one.case_id, one.part, one.repetition, executed_at, one.outcome, one.duration_ms)
        more = (version, environment, message, one.signature_id, one.is_same_failure)
        reading.rows.append((_result_id(run_id, one), reading.sha256, run_id, *told, *more))


def _result_id(run_id: str, one: Result) -> str:
    return hashlib.sha256(f"{run_id}\n{one.case_id}\n{one.part}\n{one.repetition}".encode()).hexdigest()


def _unknown_cases(connection: psycopg.Connection, case_ids: Sequence[str]) -> list[str]:
    """What is to be said of results whose case no candidate has, under its id or one of before a merger."""
    known = connection.execute(
        """
        select given.case_id
        from unnest(%s::text[]) as given (case_id)
        where exists (select from agentmill.regression_candidates as of_id where of_id.candidate_id = given.case_id)
            or exists (
                select
                from agentmill.failure_cluster_signatures as member
                join agentmill.regression_candidates as candidate using (cluster_id)
                where member.signature_id = substr(given.case_id, 4)
            )
        """,
        [sorted(set(case_ids))],
    )
    unknown = Counter(case_ids)
    for (case_id,) in known:
        del unknown[case_id]
    if not unknown:
        return []
    names = sorted(unknown)
    more = f" and {len(names) - _MOST_TOLD} more" if len(names) > _MOST_TOLD else ""
    return [f"{unknown.total()} of its results are of unknown cases: {', '.join(names[:_MOST_TOLD])}{more}"]


def _record(
    connection: psycopg.Connection, name: str, file_format: str, reading: _Reading, sanitizer: Sanitizer
) -> ImportedFile:
    with connection.transaction(), connection.cursor() as cursor:
        cursor.executemany(
            """
            insert into agentmill.regression_results (
                result_id, file_sha256, run_id, case_id, part, repetition, executed_at, outcome, duration_ms,
                agent_version, environment, message, signature_id, is_same_failure
            )
            values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
            on conflict (result_id) do nothing
            """,
            reading.rows,
        )
        new_count = max(cursor.rowcount, 0)
        if (repeated := len(reading.rows) - new_count) > 0:
            reading.problems.append(f"{repeated} of its results were there before, and those stay")
        problem = _clean(["; ".join(reading.problems) or None], sanitizer)[0]
        told = [reading.sha256, name, file_format, len(reading.rows), problem]
        cursor.execute(
            """
            insert into agentmill.regression_result_files (file_sha256, file_name, format, result_count, problem)
            values (%s, %s, %s, %s, %s)
            on conflict (file_sha256) do nothing
            """,
            told,
        )
    return ImportedFile(name, reading.sha256, file_format, True, len(reading.rows), new_count, problem)  # noqa: FBT003


def _clean(texts: Sequence[str | None], sanitizer: Sanitizer) -> list[str | None]:
    """Texts as they may be kept: sanitized, storable and of at most 2,000 characters."""
    given = pl.Series([None if text is None else storable(text[:_MOST_READ]) for text in texts], dtype=pl.String)
    return sanitizer.sanitize_texts(given).str.head(LONGEST_MESSAGE).to_list()


def _file_name(path: Path, sanitizer: Sanitizer) -> str:
    return str(_clean([path.name[-_LONGEST_NAME:]], sanitizer)[0])

"""Results of regression tests come back: files into the tables `regression_result_files` and `regression_results`.

Nothing is ever changed there and nothing counts twice: a file is known by its bytes, a result by its run, case, part
and repetition; both also by the version and environment that are given on import where the file does not tell them.
What is wrong with a file stands beside it.
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
    """What needs somebody; `notes` need nobody."""
    notes: str | None = None


@dataclass(frozen=True, slots=True)
class _Given:
    """What is said on import of a file, sanitized; it stands for what the file does not tell."""

    version: str | None
    environment: str | None

    def missing_in(self, runs: Sequence[Run]) -> "_Given":
        """What of it stands for something in runs."""
        return _Given(
            self.version if any(run.version is None for run in runs) else None,
            self.environment if any(run.environment is None for run in runs) else None,
        )

    def is_within(self, other: "_Given") -> bool:
        """Whether it adds nothing to what was given before."""
        return self.version in {None, other.version} and self.environment in {None, other.environment}


@dataclass(slots=True)
class _Reading:
    """A file on its way into the tables."""

    name: str
    sha256: str
    given: _Given
    sanitizer: Sanitizer
    now: datetime
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
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
    given = _Given(*_clean([version, environment], sanitizer, _LONGEST_NAME))
    with warehouse.connect() as connection:
        for path in result_files(paths):
            try:
                data = path.read_bytes()
            except OSError as error:
                problem = f"it cannot be read ({error.strerror})"
                imported.append(ImportedFile(_file_name(path, sanitizer), None, problem=problem))
                continue
            imported.append(_import(connection, _file_name(path, sanitizer), data, given, sanitizer))
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
    connection: psycopg.Connection, name: str, data: bytes, given: _Given, sanitizer: Sanitizer
) -> ImportedFile:
    sha256 = hashlib.sha256(data).hexdigest()
    known = _read_known(connection, name, sha256)
    if given == _Given(None, None) and known:
        return known[0][1]
    try:
        file = parse_results(data)
    except ResultFileError as error:
        file = ResultFile("unknown", problems=[str(error)])
    given = given.missing_in(file.runs)
    for before, imported in known:
        if given.is_within(before):
            return imported
    reading = _Reading(name, sha256, given, sanitizer, datetime.now(UTC), problems=file.problems)
    for run in file.runs:
        _read_run(reading, run)
    reading.problems += _unknown_cases(connection, [str(row[3]) for row in reading.rows])
    return _record(connection, file.format, reading)


def _read_known(connection: psycopg.Connection, name: str, sha256: str) -> list[tuple[_Given, ImportedFile]]:
    """The imports of a file so far, the latest first, each with what was given then."""
    rows = connection.execute(
        """
        select agent_version, environment, format, result_count, problem, notes
        from agentmill.regression_result_files
        where file_sha256 = %s
        order by imported_at desc
        """,
        [sha256],
    )
    return [
        (
            _Given(version, environment),
            ImportedFile(name, sha256, file_format, result_count=count, problem=problem, notes=notes),
        )
        for version, environment, file_format, count, problem, notes in rows
    ]


def _read_run(reading: _Reading, run: Run) -> None:
    """The rows of a run's results, with what is to be said of its time."""
    run_id = _run_id(reading, run)
    executed_at = run.executed_at or reading.now
    if run.executed_at is None:
        reading.notes.append("it does not say when the tests ran: the time of the import stands for it")
    elif executed_at > reading.now + _CLOCKS_DIFFER:
        reading.problems.append(f"its time {executed_at:%Y-%m-%d %H:%M} UTC is not over: the time of the import stands")
        executed_at = reading.now
    told = _clean([run.version, run.environment], reading.sanitizer, _LONGEST_NAME)
    given = reading.given.missing_in([run])
    version, environment = told[0] or given.version, told[1] or given.environment
    messages = _clean([one.message for one in run.results], reading.sanitizer, LONGEST_MESSAGE)
    for one, message in zip(run.results, messages, strict=True):
        what = (one.case_id, one.part, one.repetition, executed_at, one.outcome, one.duration_ms)
        more = (version, environment, message, one.signature_id, one.is_same_failure)
        reading.rows.append((_result_id(run_id, one, given), reading.sha256, run_id, *what, *more))


def _run_id(reading: _Reading, run: Run) -> str:
    """The id of a run as it may be kept: where it has to be masked, the file tells it from other runs."""
    of_file = reading.sha256[:16]
    if not run.run_id:
        return f"file:{of_file}"
    (clean,) = _clean([run.run_id], reading.sanitizer, _LONGEST_NAME)
    return run.run_id if clean == run.run_id else f"{str(clean)[: _LONGEST_NAME - 17]} {of_file}"


def _result_id(run_id: str, one: Result, given: _Given) -> str:
    key = [run_id, one.case_id, one.part, str(one.repetition)]
    if given != _Given(None, None):
        key += [repr(given.version), repr(given.environment)]
    return hashlib.sha256("\n".join(key).encode()).hexdigest()


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


def _record(connection: psycopg.Connection, file_format: str, reading: _Reading) -> ImportedFile:
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
            reading.notes.append(f"{repeated} of its results were there before, and those stay")
        told = ["; ".join(dict.fromkeys(texts)) or None for texts in (reading.problems, reading.notes)]
        problem, notes = _clean(told, reading.sanitizer, LONGEST_MESSAGE)
        count, given = len(reading.rows), reading.given
        cursor.execute(
            """
            insert into agentmill.regression_result_files (
                file_sha256, agent_version, environment, file_name, format, result_count, problem, notes
            )
            values (%s, %s, %s, %s, %s, %s, %s, %s)
            on conflict do nothing
            """,
            [reading.sha256, given.version, given.environment, reading.name, file_format, count, problem, notes],
        )
    return ImportedFile(
        reading.name,
        reading.sha256,
        file_format,
        is_new=True,
        result_count=count,
        new_count=new_count,
        problem=problem,
        notes=notes,
    )


def _clean(texts: Sequence[str | None], sanitizer: Sanitizer, longest: int) -> list[str | None]:
    """Texts as they may be kept: sanitized, storable and not too long. Cut last: half a secret is not recognised."""
    given = pl.Series([None if text is None else storable(text) for text in texts], dtype=pl.String)
    return sanitizer.sanitize_texts(given).str.head(longest).to_list()


def _file_name(path: Path, sanitizer: Sanitizer) -> str:
    return str(_clean([path.name], sanitizer, LONGEST_MESSAGE)[0])[-_LONGEST_NAME:]

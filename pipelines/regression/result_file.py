"""Files that results of regression tests come back in: the JSON of our plugin, and the JUnit XML of any test runner."""

import re
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import product
from typing import Annotated, Any, Literal
from xml.parsers import expat

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError

from pipelines.regression.case_file import CASE_ID, CONTRACT

RESULTS_FORMAT = "agentmill.regression_results"
NOT_RUN_MESSAGE = "It was not run."
LARGEST_FILE_BYTES = 64 * 1024 * 1024

_LARGEST_NUMBER = 2**53
_NAMED_CASE = re.compile(r"(?<![0-9A-Za-z])rc_[0-9a-f]{8,64}(?![0-9A-Za-z])")
_MOST_TOLD = 5

Number = Annotated[int, Field(ge=0, le=_LARGEST_NUMBER)]


class Result(BaseModel):
    """One part of a case, run once. A field that we do not know is left out, a value that cannot be is refused."""

    model_config = ConfigDict(frozen=True)

    case_id: str = Field(pattern=CASE_ID)
    part: str = Field(CONTRACT, pattern=r"^(contract|control:[0-9]{1,3})$")
    repetition: Annotated[int, Field(ge=1, le=_LARGEST_NUMBER)] = 1
    outcome: Literal["pass", "fail", "error", "skipped"]
    duration_ms: Number | None = None
    message: str | None = None
    is_same_failure: bool | None = None
    signature_id: Annotated[str, Field(pattern=r"^[0-9a-f]{1,64}$")] | None = None


def _in_utc(time: datetime) -> datetime:
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time


_TIME: TypeAdapter[datetime] = TypeAdapter(datetime)


def _parse_time(text: object) -> object:
    """A time; one without a zone is UTC."""
    return _in_utc(_TIME.validate_python(text))


Name = Annotated[str, Field(min_length=1, max_length=200)]


class _Extent(BaseModel):
    """How much there is of a case, as our plugin announces it in the XML with each test; bounds are those of a case."""

    agentmill_repetitions: Annotated[int, Field(ge=1, le=100)]
    agentmill_controls: Annotated[int, Field(ge=0, le=3)]

    @property
    def parts(self) -> list[str]:
        return [CONTRACT, *(f"control:{number}" for number in range(1, self.agentmill_controls + 1))]


class _Header(BaseModel):
    format: Literal["agentmill.regression_results"]
    format_version: Literal[1]
    run_id: Name
    started_at: Annotated[datetime, BeforeValidator(_parse_time)]
    version: Name | None = None
    environment: Name | None = None
    results: list[Any]


class ResultFileError(Exception):
    """A file that tells no results, and why."""


@dataclass(slots=True)
class ResultFile:
    """What a file tells: results of one run or of several, and what in it could not be read."""

    format: str
    runs: list["Run"] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Run:
    """One run of tests on one version."""

    run_id: str | None
    executed_at: datetime | None
    version: str | None
    environment: str | None
    results: list[Result] = field(default_factory=list)
    extents: dict[str, _Extent] = field(default_factory=dict)
    """How much there is of a case, where the file announces it."""


def parse_results(data: bytes) -> ResultFile:
    """The results in a file, by its content. Raises ResultFileError."""
    if len(data) > LARGEST_FILE_BYTES:
        raise ResultFileError(f"it has more than {LARGEST_FILE_BYTES // 1024 // 1024} MB")
    start = data.lstrip(b"\xef\xbb\xbf \t\r\n")[:1]
    if start == b"<" or data[:2] in {b"\xff\xfe", b"\xfe\xff"}:
        return _parse_junit(data)
    return _parse_json(data)


def _parse_json(data: bytes) -> ResultFile:
    try:
        header = _Header.model_validate_json(data)
    except ValidationError as error:
        raise ResultFileError(f"it is no file of results: {_tell(error)}") from None
    run = Run(header.run_id, header.started_at, header.version, header.environment)
    file = ResultFile(RESULTS_FORMAT, [run])
    _collect(header.results, run, file)
    return file


def _collect(given: list[Any], run: Run, file: ResultFile) -> None:
    """Keep the results that can be read, and count the others by what is wrong with them."""
    refused: Counter[str] = Counter()
    for one in given:
        try:
            run.results.append(Result.model_validate(one))
        except ValidationError as error:
            refused[_tell(error)] += 1
    for problem, count in refused.most_common(_MOST_TOLD):
        file.problems.append(f"{_results(count)} cannot be read: {problem}")
    if (others := refused.total() - sum(count for _, count in refused.most_common(_MOST_TOLD))) > 0:
        file.problems.append(f"{_results(others)} cannot be read for other reasons")


def _results(count: int) -> str:
    return "1 result" if count == 1 else f"{count} results"


def _tell(error: ValidationError) -> str:
    """What is wrong first, without the value, which may hold anything."""
    first = error.errors(include_input=False, include_url=False, include_context=False)[0]
    return f"{'.'.join(map(str, first['loc'])) or 'the file'}: {first['msg']}"


def _parse_junit(data: bytes) -> ResultFile:
    """The tests of a file that name a case. What of a case our plugin announces and does not tell was skipped.

    A test of another runner that names a case stands for its whole contract; several are its repetitions.
    """
    file, unnamed = ResultFile("junit"), 0
    seen: Counter[tuple[str | None, str]] = Counter()
    for suite in _read_xml(data).iter("testsuite"):
        found = [_Told(case, suite) for case in suite.findall("testcase")]
        named = [one for one in found if one.case_id is not None]
        unnamed += len(found) - len(named)
        for one in named:
            run = _run_of(one, suite, file)
            seen[run.run_id, str(one.case_id)] += 1
            _collect([one.as_result(seen[run.run_id, str(one.case_id)])], run, file)
            if one.is_ours:
                _announce(one, run, file)
    for run in file.runs:
        run.results += [*_not_run(run)]
    if not any(run.results for run in file.runs) and not file.problems:
        raise ResultFileError(f"none of its {unnamed} tests names a regression case")
    return file


def _announce(one: "_Told", run: Run, file: ResultFile) -> None:
    """Note how much there is of a case, where a test says so."""
    if _Extent.model_fields.keys().isdisjoint(one.properties):
        return
    try:
        run.extents[str(one.case_id)] = _Extent.model_validate(one.properties)
    except ValidationError as error:
        file.problems.append(f"how much of a case was to be run cannot be read: {_tell(error)}")


def _not_run(run: Run) -> Iterator[Result]:
    told = {(one.case_id, one.part, one.repetition) for one in run.results}
    for case_id, extent in run.extents.items():
        for part, repetition in product(extent.parts, range(1, extent.agentmill_repetitions + 1)):
            if (case_id, part, repetition) not in told:
                yield Result(
                    case_id=case_id, part=part, repetition=repetition, outcome="skipped", message=NOT_RUN_MESSAGE
                )


def _read_xml(data: bytes) -> ET.Element:
    """The root of an XML document. What declares a DTD, and so could declare entities, is refused before it is read."""
    guard = expat.ParserCreate()
    guard.StartDoctypeDeclHandler = _refuse_dtd
    try:
        guard.Parse(data, True)  # noqa: FBT003 - the library's signature
        return ET.fromstring(data)  # noqa: S314 - without a DTD there is nothing to expand
    except (expat.ExpatError, ET.ParseError) as error:
        raise ResultFileError(f"it is no XML: {expat.ErrorString(error.code)} in line {error.lineno}") from None
    except (ValueError, LookupError):
        raise ResultFileError("it is XML in an encoding that cannot be read") from None


def _refuse_dtd(*_: object) -> None:
    raise ResultFileError("it declares a DTD, which no file of results needs; it was not read")


class _Told:
    """What one test of a JUnit file tells."""

    def __init__(self, case: ET.Element, suite: ET.Element) -> None:
        self._case = case
        self.properties = {**_properties(suite), **_properties(case)}
        of_id = self.properties.get("case_id", "")
        self.is_ours = "part" in self.properties and re.fullmatch(CASE_ID, of_id) is not None
        names = _NAMED_CASE.findall(f"{case.get('name', '')} {case.get('classname', '')}")
        self.case_id = of_id if self.is_ours else (names[0] if names else None)

    def as_result(self, occurrence: int) -> dict[str, object]:
        """The fields of a result. Where the test does not say which repetition it was, they are counted."""
        told: Mapping[str, str] = self.properties if self.is_ours else {}
        outcome, message = _outcome(self._case)
        seconds = self._case.get("time", "")
        return {
            "case_id": self.case_id,
            "part": told.get("part", CONTRACT),
            "repetition": told.get("repetition", occurrence),
            "outcome": told.get("outcome", outcome),
            "duration_ms": round(float(seconds) * 1_000) if re.fullmatch(r"[0-9]{1,9}(\.[0-9]*)?", seconds) else None,
            "message": message,
            "is_same_failure": told.get("is_same_failure"),
            "signature_id": told.get("signature_id"),
        }


def _outcome(case: ET.Element) -> tuple[str, str | None]:
    for tag, outcome in (("error", "error"), ("failure", "fail"), ("skipped", "skipped")):
        found = case.find(tag)
        if found is not None:
            return outcome, found.get("message") or (found.text or "").strip() or None
    return "pass", None


def _run_of(one: _Told, suite: ET.Element, file: ResultFile) -> Run:
    """The run that a test belongs to; tests of a suite that name no other are one."""
    told = one.properties
    names = [told.get(name) or None for name in ("run_id", "version", "environment")]
    for run in file.runs:
        if [run.run_id, run.version, run.environment] == names:
            return run
    file.runs.append(Run(names[0], _suite_time(suite), names[1], names[2]))
    return file.runs[-1]


def _suite_time(suite: ET.Element) -> datetime | None:
    try:
        return _in_utc(_TIME.validate_python(suite.get("timestamp")))
    except ValidationError:
        return None


def _properties(element: ET.Element) -> dict[str, str]:
    return dict(_pairs(element))


def _pairs(element: ET.Element) -> Iterator[tuple[str, str]]:
    for one in element.findall("properties/property"):
        yield one.get("name", ""), one.get("value", one.text or "")

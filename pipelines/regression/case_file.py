"""The JSON file of a regression case, format version 1: what it holds, and how a folder of such files is read.

A case is data. No program is ever made of what a log says: texts of logs stand in a case as strings and stay strings.
"""

import json
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, JsonValue, PrivateAttr, ValidationError

from pipelines.regression.synthesis import synthesise

FORMAT: Final = "agentmill.regression_case"
CASE_ID = r"^[a-z0-9_]{1,80}$"
"""Ids become names of files and of tests."""
REPETITIONS = 3
CONTRACT = "contract"
"""The part of a case that asks whether its failure is gone; the others are controls."""

Status = Literal["success", "partial", "failed", "timeout", "error", "cancelled"]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Agent(_Part):
    """Whose failure it is."""

    id: str | None
    name: str | None


class Structure(_Part):
    """An input without its values: type, size, and the skeleton that `pipelines.anonymize.skeleton` describes."""

    input_type: str | None
    input_bytes: int | None
    input_shape: str


class CaseInput(_Part):
    """What to run the agent on: the reviewer's fixture as it is, else structures to make an input from."""

    fixture: JsonValue = None
    structures: tuple[Structure, ...] = ()

    def example(self) -> JsonValue:
        """The fixture, else an input that is made up from the first structure; None where there is neither."""
        if self.fixture is not None or not self.structures:
            return self.fixture
        made_up: JsonValue = synthesise(self.structures[0].input_shape)
        return made_up


class MustNot(_Part):
    """Outcomes that break the contract."""

    statuses: tuple[Status, ...] = ("failed", "timeout", "error")
    signature_ids: tuple[str, ...] = Field(description="The failure, under all of its signatures.")


class Must(_Part):
    """Outcomes of which one is needed."""

    statuses: tuple[Status, ...] = ("success", "partial")


class Retry(_Part):
    """How a failure of the provider is to be borne: no more attempts and no more time than this, then `ends_in`."""

    max_attempts: int = Field(ge=1, description="Attempts in all; 1 where trying again cannot help.")
    backoff: Literal["none", "exponential"] = Field(description="`exponential`: no wait is shorter than the last one.")
    timeout_ms: int = Field(ge=1, description="For all attempts and waits, in milliseconds.")
    ends_in: tuple[Status, ...] = Field(("success", "partial"), description="`partial` is a declared degraded result.")


class Contract(_Part):
    """What is asked of the outcome."""

    must_not: MustNot
    must: Must = Must()
    retry: Retry | None = None


class Control(_Part):
    """The input of an execution that succeeded, and has to go on doing so: a fix that breaks it is none."""

    input: CaseInput


class Case(_Part):
    """One regression case. Grain: an approved candidate."""

    format: Literal["agentmill.regression_case"] = FORMAT
    format_version: Literal[1] = 1
    case_id: str = Field(pattern=CASE_ID)
    candidate_id: str
    cluster_id: str
    title: str
    kind: Literal["behaviour", "resilience"]
    agent: Agent
    category: str | None
    severity: str | None
    template: str
    what_failed: str = Field(description="A message of the failure, sanitized.")
    input: CaseInput
    contract: Contract
    controls: tuple[Control, ...] = Field((), max_length=3)
    repetitions: int = Field(REPETITIONS, ge=1, le=100)
    is_blocking: bool
    reviewed_by: str
    reviewed_at: AwareDatetime
    reason: str
    evidence_execution_ids: tuple[str, ...] = ()

    _part: str = PrivateAttr(CONTRACT)

    @property
    def part(self) -> str:
        """What of the case is run: `contract`, or `control:1` and so on."""
        return self._part

    @property
    def parts(self) -> tuple[str, ...]:
        """All that is run of the case."""
        return (CONTRACT, *(f"control:{number}" for number in range(1, len(self.controls) + 1)))

    def as_part(self, part: str) -> "Case":
        """The case as its part is run: a control has its own input and no provider that fails."""
        if part == CONTRACT:
            return self
        control = self.controls[int(part.removeprefix("control:")) - 1]
        contract = self.contract.model_copy(update={"retry": None})
        of_part = self.model_copy(update={"input": control.input, "contract": contract})
        of_part._part = part  # noqa: SLF001 - of its own class
        return of_part

    def to_json(self) -> str:
        """The content of its file: the same case is the same text."""
        return json.dumps(self.model_dump(mode="json"), indent=1, ensure_ascii=False) + "\n"


class BrokenCase(Exception):  # noqa: N818 - it is told, not raised
    """A file that is no case, and why."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(f"{path.name} is no regression case: {problem}")
        self.path = path


def read_cases(folder: Path) -> list[Case | BrokenCase]:
    """Every JSON file of a folder as a case, or as what is wrong with it, by name."""
    found: list[Case | BrokenCase] = []
    names: dict[str, Path] = {}
    for path in sorted(folder.glob("*.json")):
        one = _read_case(path)
        if isinstance(one, Case) and (first := names.setdefault(one.case_id, path)) != path:
            one = BrokenCase(path, f"{first.name} holds the case {one.case_id} too")
        found.append(one)
    return found


def _read_case(path: Path) -> Case | BrokenCase:
    try:
        return Case.model_validate_json(path.read_bytes())
    except OSError as error:
        return BrokenCase(path, f"it cannot be read ({error.strerror})")
    except ValidationError as error:
        details = error.errors(include_input=False, include_url=False, include_context=False)
        told = [f"{'.'.join(map(str, one['loc'])) or 'the file'}: {one['msg']}" for one in details[:3]]
        return BrokenCase(path, "; ".join(told))


def write_cases(cases: Sequence[Case], folder: Path) -> list[Path]:
    """Make the folder hold these cases, one file each, and return the files. Raises ValueError for an id that is none.

    Files of cases that are gone are removed, and nothing else is: only a file that carries our format is a case.
    """
    for case in cases:
        check_id(case.case_id)
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{case.case_id}.json" for case in cases]
    for path, case in zip(paths, cases, strict=True):
        replace_file(path, case.to_json())
    for path in set(_our_files(folder)) - set(paths):
        path.unlink()
    return paths


def check_id(case_id: str) -> None:
    """Refuse what is no id of a case, since it would be a name of a file. Raises ValueError."""
    if re.fullmatch(CASE_ID, case_id) is None:
        raise ValueError(f"{case_id[:80]!r} is no id of a case: letters a-z, digits and _ make one")


def replace_file(path: Path, text: str) -> None:
    """Write a file so that readers see the old text or the new one; the same text leaves the file alone."""
    data = text.encode()
    if not path.is_symlink() and path.is_file() and path.read_bytes() == data:
        return
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    aside.write_bytes(data)
    aside.replace(path)


def _our_files(folder: Path) -> Iterator[Path]:
    for path in folder.glob("*.json"):
        if path.is_symlink() or not path.is_file():
            continue
        try:
            content: Any = json.loads(path.read_bytes())
        except (OSError, ValueError, RecursionError):
            continue
        if isinstance(content, dict) and content.get("format") == FORMAT:
            yield path

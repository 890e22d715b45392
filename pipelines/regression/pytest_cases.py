"""Regression cases as tests of pytest: one fixed test, run for every case, control and repetition on the user's agent.

The user's `conftest.py` gives the fixture `run_agent`, a callable from a case to a result.
"""

import asyncio
import inspect
import json
import time
import uuid
from collections.abc import Callable, Generator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from pipelines.anonymize.text import DEFAULT, Sanitizer
from pipelines.regression.case_file import CONTRACT, BrokenCase, Case, read_cases, replace_file
from pipelines.regression.contract import ResultError, Verdict, clean_text, explain_exception, judge
from pipelines.regression.result_file import NOT_RUN_MESSAGE, RESULTS_FORMAT
from pipelines.settings import ConfigError, load_settings

NO_AGENT = (
    "There is no fixture `run_agent`: write one that returns a callable from a case to a result, in a conftest.py in "
    "or above the folder that pytest is started on."
)


class Trial(NamedTuple):
    """One part of a case, run once."""

    case: Case
    repetition: int

    @property
    def test_id(self) -> str:
        """The id as a test has it: case, control and repetition."""
        control = "" if self.case.part == CONTRACT else "-" + self.case.part.replace(":", "-")
        repetition = f"-{self.repetition}" if self.case.repetitions > 1 else ""
        return f"{self.case.case_id}{control}{repetition}"

    @property
    def key(self) -> tuple[str, str, int]:
        """What tells its results from others of the same run."""
        return self.case.case_id, self.case.part, self.repetition


SANITIZER = pytest.StashKey[Sanitizer]()
"""For all texts of the session. Under other rules than those of the warehouse, failures have other signatures."""
VERDICT = pytest.StashKey[Verdict]()
"""On the contract; an agent that raised or told no outcome has none."""
EXPLAINED = pytest.StashKey[Verdict]()
DURATION, HAS_AGENT = pytest.StashKey[float](), pytest.StashKey[bool]()


def trials(cases: list[Case]) -> Iterator[Trial]:
    """Everything that is to be run of some cases."""
    for case in cases:
        for part in case.parts:
            yield from (Trial(case.as_part(part), number) for number in range(1, case.repetitions + 1))


def test_case_file(broken: BrokenCase) -> None:
    """A file of the folder can be read as a case."""
    pytest.fail(str(broken), pytrace=False)


def test_regression(trial: Trial, request: pytest.FixtureRequest) -> None:
    """The agent keeps the contract of the case."""
    stash, case, sanitizer = request.node.stash, trial.case, request.config.stash[SANITIZER]
    run_agent = _agent(request)
    stash[HAS_AGENT] = True
    started = time.perf_counter()
    try:
        result = run_agent(case)
        if inspect.iscoroutine(result):
            result = asyncio.run(result)
    except Exception as error:
        stash[EXPLAINED] = explain_exception(case, error, sanitizer)
        raise
    finally:
        stash[DURATION] = (time.perf_counter() - started) * 1_000
    try:
        verdict = stash[VERDICT] = judge(case, result, stash[DURATION], sanitizer)
    except ResultError as error:
        pytest.fail(str(error), pytrace=False)
    if verdict.broken:
        pytest.fail(f"{case.case_id} ({case.part}), {case.title!r}: {verdict.message}", pytrace=False)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give each test what it is about."""
    module = metafunc.definition.getparent(CaseModule)
    assert module is not None  # noqa: S101 - these tests are collected by it alone
    if "trial" in metafunc.fixturenames:
        every = [*trials(module.cases)]
        metafunc.parametrize("trial", every, ids=[one.test_id for one in every])
    else:
        metafunc.parametrize("broken", module.broken, ids=[one.path.name for one in module.broken])


def _agent(request: pytest.FixtureRequest) -> Callable[[Case], object]:
    try:
        found = request.getfixturevalue("run_agent")
    except pytest.FixtureLookupError as error:
        if error.argname != "run_agent":
            request.node.stash[HAS_AGENT] = True
            raise
        pytest.fail(NO_AGENT, pytrace=False)
    except BaseException:
        request.node.stash[HAS_AGENT] = True
        raise
    if not callable(found):
        pytest.fail("The fixture `run_agent` is no callable: let it return one from a case to a result.", pytrace=False)
    return found  # type: ignore[no-any-return]


class CaseModule(pytest.Module):
    """The fixed tests of this module, for every trial and every broken file, however the user names tests."""

    cases: list[Case]
    broken: list[BrokenCase]

    def _getobj(self) -> Any:  # noqa: ANN401 - as the base class has it
        return inspect.getmodule(CaseModule)

    def funcnamefilter(self, name: str) -> bool:
        """Only what there is something to be told of: a test of nothing would count as skipped."""
        return (name == "test_regression" and bool(self.cases)) or (name == "test_case_file" and bool(self.broken))

    def classnamefilter(self, name: str) -> bool:  # noqa: ARG002 - as the base class has it
        """No class."""
        return False


class CasePlugin:
    """The hooks, where cases are to be run. Raises UsageError where the folder holds none."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        config.stash[SANITIZER] = _read_sanitizer(config)
        folder = config.invocation_params.dir / config.getoption("agentmill_cases")
        if not folder.is_dir():
            raise pytest.UsageError(f"--agentmill-cases: there is no folder {folder}.")
        self._found = read_cases(folder)
        if not self._found:
            raise pytest.UsageError(f"--agentmill-cases: there is no case in {folder}; `agentmill run` writes them.")
        self._cases = [one for one in self._found if isinstance(one, Case)]
        config.option.agentmill_run_id = config.getoption("agentmill_run_id") or str(uuid.uuid4())
        self._started_at = datetime.now(UTC)
        self._results: dict[tuple[str, str, int], dict[str, Any]] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(
        self, collector: pytest.Collector
    ) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
        """Add the cases to whatever else is collected, where the fixtures of the first folder are seen."""
        report = yield
        if isinstance(collector, pytest.Session) and report.passed:
            parent = _folder_of(report.result[0]) if report.result else collector
            module: CaseModule = CaseModule.from_parent(parent, path=parent.path / "agentmill-cases")
            module.cases, module.broken = self._cases, [one for one in self._found if isinstance(one, BrokenCase)]
            report.result.append(module)
        return report

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Tell the result of a trial with its report, which also comes from other processes."""
        report = yield
        trial = _trial_of(item)
        if trial is not None and (report.when == "call" or (report.when == "setup" and not report.passed)):
            result = _result(item, trial, report, call)
            if report.when == "setup" or item.stash.get(HAS_AGENT, False):
                report.agentmill_result = result  # type: ignore[attr-defined]
            told = {**result, "version": self._option("version"), "environment": self._option("environment")}
            told["run_id"] = self._option("run_id")
            told |= {"agentmill_repetitions": trial.case.repetitions, "agentmill_controls": len(trial.case.controls)}
            del told["message"], told["duration_ms"]
            item.user_properties.extend((name, value) for name, value in told.items() if value is not None)
        return report

    def _option(self, name: str) -> Any:  # noqa: ANN401 - as pytest has it
        return self._config.getoption(f"agentmill_{name}")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep the result that a report tells."""
        result = getattr(report, "agentmill_result", None)
        if result is not None:
            self._results[result["case_id"], result["part"], result["repetition"]] = result

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Write the results. What was selected away or not come to is told too, as skipped."""
        target = self._option("results")
        if target is None or hasattr(session.config, "workerinput") or session.config.getoption("collectonly"):
            return
        content = {
            "format": RESULTS_FORMAT,
            "format_version": 1,
            "run_id": self._option("run_id"),
            "started_at": self._started_at.isoformat(),
            "version": self._option("version"),
            "environment": self._option("environment"),
            "results": [self._results.get(trial.key) or _not_run(trial) for trial in trials(self._cases)],
        }
        path = Path(session.config.invocation_params.dir, target)
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, json.dumps(content, indent=1) + "\n")


def _read_sanitizer(config: pytest.Config) -> Sanitizer:
    """The sanitizer of the configuration that is named, else the one without rules of the user."""
    named = config.getoption("agentmill_config")
    if named is None:
        return DEFAULT
    try:
        return load_settings(config.invocation_params.dir / named).read_sanitizer()
    except ConfigError as error:
        raise pytest.UsageError(f"--agentmill-config: {error}") from None


def _folder_of(node: pytest.Item | pytest.Collector) -> pytest.Collector:
    """The folder that a node of the command line lies in; fixtures of its conftest.py are seen from there."""
    return next(one for one in node.iter_parents() if isinstance(one, pytest.Directory | pytest.Session))


def _trial_of(item: pytest.Item) -> Trial | None:
    """What a test of ours is about; null for any other."""
    if not isinstance(item, pytest.Function) or not isinstance(item.parent, CaseModule):
        return None
    trial = item.callspec.params.get("trial")
    return trial if isinstance(trial, Trial) else None


def _result(item: pytest.Item, trial: Trial, report: pytest.TestReport, call: pytest.CallInfo[None]) -> dict[str, Any]:
    judged = item.stash.get(VERDICT, None)
    told = judged or item.stash.get(EXPLAINED, Verdict((), None, None))
    failed = "error" if judged is None else "fail"
    case_id, part, repetition = trial.key
    duration = item.stash.get(DURATION, None)
    return {
        "case_id": case_id,
        "part": part,
        "repetition": repetition,
        "outcome": "skipped" if report.skipped else "pass" if report.passed else failed,
        "duration_ms": None if duration is None else round(duration),
        "message": told.message or _message(call, item.config.stash[SANITIZER]),
        "is_same_failure": told.is_same_failure,
        "signature_id": told.signature_id,
    }


def _message(call: pytest.CallInfo[None], sanitizer: Sanitizer) -> str | None:
    """What ended a trial that came to no verdict, sanitized."""
    if call.excinfo is None:
        return None
    return clean_text(call.excinfo.exconly(), sanitizer)


def _not_run(trial: Trial) -> dict[str, Any]:
    case_id, part, repetition = trial.key
    nothing = {"duration_ms": None, "is_same_failure": None, "signature_id": None}
    told = {"case_id": case_id, "part": part, "repetition": repetition}
    return {**told, "outcome": "skipped", "message": NOT_RUN_MESSAGE, **nothing}

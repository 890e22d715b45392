import base64
import json
import random
import re
import subprocess
import sys
import tomllib
import uuid
import xml.etree.ElementTree as ET

import polars as pl
import pytest
from conftest import REPOSITORY
from regression_builders import CASE_ID, HOSTILE, build_case, run_pytest

from pipelines.anonymize.text import DEFAULT
from pipelines.failures.fingerprint import identify
from pipelines.regression.case_file import write_cases
from pipelines.regression.contract import clean_text, identify_failure
from pipelines.regression.result_file import parse_results
from pipelines.settings import load_settings

PASSES = """
import pytest

@pytest.fixture
def run_agent():
    return lambda case: {"status": "success"}
"""


def agent(body, extra=""):
    """A conftest.py whose agent is these lines."""
    lines = "\n".join(f"        {line}" for line in body.splitlines())
    return f"import pytest\n{extra}\n@pytest.fixture\ndef run_agent():\n    def run(case):\n{lines}\n    return run\n"


def read_xml(project):
    return ET.fromstring((project.folder / "out" / "junit.xml").read_text())  # noqa: S314 - pytest has just written it


def signature_of(text):
    return identify(pl.Series([text]))["signature_id"][0]


@pytest.fixture
def project(tmp_path):
    """The folder of a user with cases and a conftest.py, and what pytest made of it."""

    class Project:
        folder = tmp_path / "project"
        cases = folder / "cases"

        def __init__(self):
            self.folder.mkdir()
            (self.folder / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
            self.write(PASSES)
            write_cases([build_case()], self.cases)

        def write(self, conftest, name="conftest.py"):
            path = self.folder / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(conftest)

        def run(self, *arguments, cases=None, **options):
            return run_pytest(self.folder, "--agentmill-cases", cases or "cases", *arguments, **options)

        def results(self, *arguments, **options):
            told = self.run("--agentmill-results", "out/results.json", *arguments, **options)
            content = json.loads((self.folder / "out" / "results.json").read_text())
            return told, content, {(one["part"], one["repetition"]): one for one in content["results"]}

    return Project()


def test_a_case_and_its_control_run_on_the_fixture_of_the_user(project):
    told = project.run("-v")
    assert told.returncode == 0, told.stdout + told.stderr
    assert f"test_regression[{CASE_ID}] PASSED" in told.stdout
    assert f"test_regression[{CASE_ID}-control-1] PASSED" in told.stdout


def test_cases_may_lie_elsewhere_and_run_beside_other_tests(project, tmp_path):
    write_cases([build_case(repetitions=2)], tmp_path / "elsewhere")
    project.write("def test_other():\n    pass\n", "tests/test_other.py")
    told = project.run("-v", "tests", cases=tmp_path / "elsewhere")
    assert told.returncode == 0, told.stdout + told.stderr
    assert "test_other PASSED" in told.stdout
    assert re.findall(r"test_regression\[rc_0123456789abcdef(\S*)\] PASSED", told.stdout) == [
        "-1",
        "-2",
        "-control-1-1",
        "-control-1-2",
    ]


def test_a_conftest_of_the_folder_that_is_tested_is_found(project):
    (project.folder / "conftest.py").unlink()
    project.write(PASSES, "tests/conftest.py")
    assert project.run("tests").returncode == 0
    project.write("def test_other():\n    pass\n", "tests/test_other.py")
    assert project.run("tests/test_other.py").returncode == 0
    assert project.run("tests/test_other.py::test_other").returncode == 0


def test_the_agent_sees_the_input_of_the_part_that_is_run(project):
    project.write(
        agent(
            'assert (case.part == "contract") == (case.input.fixture == {"prompt": "broken"})\n'
            'assert (case.part == "control:1") == bool(case.input.structures)\n'
            'return {"status": "success"}'
        )
    )
    assert project.run().returncode == 0


def test_a_scoped_and_an_asynchronous_agent_are_fine(project):
    project.write(
        "import pytest\n\nclass Result:\n    status = 'partial'\n\n@pytest.fixture(scope='module')\ndef run_agent():\n"
        "    async def run(case):\n        return Result()\n    return run\n"
    )
    told = project.run()
    assert told.returncode == 0, told.stdout


VERDICTS = [
    ({"status": "success"}, "pass", None, None),
    ({"status": "PARTIAL", "output": 1}, "pass", None, None),
    ({"status": "failed", "error_message": "the disk is full"}, "fail", True, "It is the same failure again."),
    ({"status": "timeout", "error_message": "out of patience"}, "fail", False, "It is another failure"),
    ({"status": "partial", "error_message": "the disk is full"}, "fail", True, "must_not.signature_ids"),
    ({"status": "cancelled"}, "fail", None, "must.statuses: the status is `cancelled`"),
    ({"status": "fine"}, "error", None, "the status 'fine'"),
    (None, "error", None, "no status"),
]


def run_each(project, results, **overrides):
    """Run a case per result, whose agent returns it, and what was told of each contract."""
    write_cases([build_case(case_id=f"rc_{number}", **overrides) for number in range(len(results))], project.cases)
    project.write(
        agent(
            f'results = {results!r}\nreturn results[int(case.case_id[3:])] if case.part == "contract" else results[0]'
        )
    )
    ran, content, _ = project.results()
    return ran, [one for one in content["results"] if one["part"] == "contract"], content["results"]


def test_a_result_is_held_against_the_contract(project):
    contract = {"must_not": {"signature_ids": [signature_of("the disk is full")]}}
    ran, told, _ = run_each(project, [result for result, *_ in VERDICTS], contract=contract, controls=[])
    assert ran.returncode == 1
    assert [(one["outcome"], one["is_same_failure"]) for one in told] == [verdict[1:3] for verdict in VERDICTS]
    for one, (*_, sentence) in zip(told, VERDICTS, strict=True):
        assert (sentence or "") in (one["message"] or "")
        assert (sentence or "") in ran.stdout


def test_an_agent_that_raises_is_an_error_and_one_that_skips_is_skipped(project):
    project.write(
        agent('if case.part == "contract":\n    raise ConnectionError("the disk is full")\npytest.skip("none")')
    )
    case = build_case(contract={"must_not": {"signature_ids": [signature_of("ConnectionError: the disk is full")]}})
    write_cases([case], project.cases)
    ran, _, results = project.results()
    assert ran.returncode == 1
    raised, skipped = results["contract", 1], results["control:1", 1]
    assert (raised["outcome"], raised["is_same_failure"]) == ("error", True)
    assert "ConnectionError: the disk is full" in raised["message"]
    assert (skipped["outcome"], skipped["message"]) == ("skipped", "Skipped: none")


BOUNDS = [
    ({"attempts": 3, "duration_ms": 1_000}, None),
    ({"attempts": [{"waited_ms": 0}, {"waited_ms": 10}, {"waited_ms": 10}]}, None),
    ({"attempts": 4}, "retry.max_attempts: 4 attempts"),
    ({"attempts": [{}] * 5}, "retry.max_attempts: 5 attempts"),
    ({"attempts": [{"waited_ms": 20}, {"waited_ms": 10}]}, "retry.backoff"),
    ({"duration_ms": 1_001}, "retry.timeout_ms: it took 1001 ms"),
    ({"status": "success"}, "retry.ends_in: it ended as `success`"),
]


def test_a_case_of_resilience_bounds_attempts_waits_and_time(project):
    retry = {"max_attempts": 3, "backoff": "exponential", "timeout_ms": 1_000, "ends_in": ["partial"]}
    results = [{"status": "partial", "duration_ms": 1, **result} for result, _ in BOUNDS]
    contract = {"must_not": {"signature_ids": []}, "retry": retry}
    _, told, everything = run_each(project, results, kind="resilience", contract=contract)
    assert [one["outcome"] for one in told] == ["fail" if sentence else "pass" for _, sentence in BOUNDS]
    for one, (_, sentence) in zip(told, BOUNDS, strict=True):
        assert (sentence or "") in (one["message"] or "")
    assert {one["outcome"] for one in everything if one["part"] == "control:1"} == {"pass"}


def test_a_control_has_no_provider_that_fails(project):
    retry = {"max_attempts": 1, "backoff": "none", "timeout_ms": 1_000}
    write_cases(
        [build_case(kind="resilience", contract={"must_not": {"signature_ids": []}, "retry": retry})], project.cases
    )
    waits = '"attempts": [{"waited_ms": 20}, {"waited_ms": 10}][: 1 if case.contract.retry else 2]'
    project.write(agent(f'return {{"status": "success", "duration_ms": 1, {waits}}}'))
    assert project.run().returncode == 0


def test_a_hostile_case_stays_text(project):
    texts = dict.fromkeys(("title", "what_failed", "template"), HOSTILE)
    write_cases([build_case(**texts, input={"fixture": {"prompt": HOSTILE}}, controls=[])], project.cases)
    message = "case.what_failed + ' \\x00 \\udcff sk-ant-api03-' + 'a1B2' * 24"
    project.write(
        agent(
            f"assert case.input.fixture['prompt'] == {HOSTILE!r}\n"
            f"return {{'status': 'failed', 'error_message': {message}}}"
        )
    )
    ran, _, results = project.results("--junitxml", "out/junit.xml")
    assert ran.returncode == 1
    assert "INTERNALERROR" not in ran.stdout + ran.stderr
    assert "sk-ant" not in results["contract", 1]["message"]
    assert "{{ 7*7 }}" in results["contract", 1]["message"]
    assert len(results["contract", 1]["message"]) <= 2_000
    root = read_xml(project)
    assert len(root.findall(".//testcase")) == 1
    assert not (project.folder / "49").exists()


def test_the_results_tell_the_run_and_the_xml_tells_each_test(project):
    named = ("--agentmill-version", "2.0", "--agentmill-environment", "ci", "--junitxml", "out/junit.xml")
    _, content, results = project.results(*named)
    assert (content["format"], content["format_version"]) == ("agentmill.regression_results", 1)
    assert (content["version"], content["environment"]) == ("2.0", "ci")
    assert uuid.UUID(content["run_id"]).version == 4
    assert results.keys() == {("contract", 1), ("control:1", 1)}
    assert {one["case_id"] for one in content["results"]} == {CASE_ID}
    case = read_xml(project).find(".//testcase")
    told = {one.get("name"): one.get("value") for one in case.findall("properties/property")}
    assert told == {
        "case_id": CASE_ID,
        "part": "contract",
        "repetition": "1",
        "outcome": "pass",
        "version": "2.0",
        "environment": "ci",
        "run_id": content["run_id"],
        "agentmill_repetitions": "1",
        "agentmill_controls": "1",
    }


def test_the_xml_of_half_a_run_tells_what_the_json_does(project):
    write_cases([build_case(repetitions=2)], project.cases)
    _, content, _ = project.results("-k", "not control and not 1]", "--junitxml", "out/junit.xml")
    (run,) = parse_results((project.folder / "out" / "junit.xml").read_bytes()).runs
    told = {(one.part, one.repetition): one.outcome for one in run.results}
    assert told == {(one["part"], one["repetition"]): one["outcome"] for one in content["results"]}
    assert sorted(told.values()) == ["pass", "skipped", "skipped", "skipped"]


RULES = """
extra_rules:
  - {name: guest, pattern: "(for )Meyer", frame: "${1}{}", placeholder: <guest>, example: ["for Meyer", "for <guest>"]}
"""


@pytest.mark.parametrize(("arguments", "is_same"), [((), False), (("--agentmill-config", "rules.yaml"), True)])
def test_rules_of_the_user_make_the_texts_and_signatures_of_the_warehouse(project, arguments, is_same):
    (project.folder / "rules.yaml").write_text(RULES)
    sanitizer = load_settings(project.folder / "rules.yaml").read_sanitizer()
    (clean,) = sanitizer.sanitize_texts(pl.Series(["no seat for Meyer"]))
    assert clean != "no seat for Meyer"
    write_cases([build_case(contract={"must_not": {"signature_ids": [signature_of(clean)]}})], project.cases)
    project.write(agent('return {"status": "failed", "error_message": "no seat for Meyer"}'))
    _, _, results = project.results(*arguments)
    told = results["contract", 1]
    assert (told["is_same_failure"], "Meyer" in told["message"]) == (is_same, not is_same)
    project.write(agent('raise OSError("no seat for Meyer")'))
    _, _, results = project.results(*arguments)
    assert ("Meyer" in results["contract", 1]["message"]) == (not is_same)
    project.write(agent("pass").replace("    return run", '    raise OSError("for Meyer")'))
    _, _, results = project.results(*arguments)
    assert ("Meyer" in results["contract", 1]["message"]) == (not is_same)


def test_a_secret_far_behind_in_a_message_leaves_no_half():
    image = base64.b64encode(random.Random(1).randbytes(40_000)).decode()
    message = f"{image[:49_980]} sk-ant-api03-{'a1B2' * 24}"
    failure = identify_failure("failed", "OSError", message, message, DEFAULT)
    assert clean_text(message, DEFAULT) == "<secret:opaque> <secret:anthropic>"
    assert "a1B2" not in failure.text


def test_a_configuration_that_cannot_be_used_is_told(project):
    (project.folder / "rules.yaml").write_text("surprise: 1\n")
    ran = project.run("--agentmill-config", "rules.yaml")
    assert (ran.returncode, "--agentmill-config: " in ran.stderr, "surprise" in ran.stderr) == (4, True, True)


def test_what_was_selected_away_is_told_as_skipped(project):
    project.write(agent('return {"status": "failed"}'))
    write_cases([build_case(repetitions=2)], project.cases)
    _, _, results = project.results("-x", "-k", "not control")
    assert {key: one["outcome"] for key, one in results.items()} == {
        ("contract", 1): "fail",
        ("contract", 2): "skipped",
        ("control:1", 1): "skipped",
        ("control:1", 2): "skipped",
    }


def test_several_processes_tell_one_run(project):
    write_cases([build_case(repetitions=3)], project.cases)
    named = ("--junitxml", "out/junit.xml", "--agentmill-run-id", "mine")
    _, content, results = project.results("-n", "2", *named, plugins=["xdist"])
    assert content["run_id"] == "mine"
    assert [one["outcome"] for one in results.values()] == ["pass"] * 6
    assert (project.folder / "out" / "junit.xml").read_text().count('name="run_id" value="mine"') == 6


def test_no_agent_is_told_in_a_sentence_and_is_no_result_of_any(project):
    (project.folder / "conftest.py").unlink()
    ran, _, results = project.results()
    assert ran.returncode == 1
    assert "There is no fixture `run_agent`: write one" in ran.stdout
    assert {one["outcome"] for one in results.values()} == {"skipped"}
    project.write("import pytest\n\n@pytest.fixture\ndef run_agent():\n    return 1\n")
    assert "`run_agent` is no callable" in project.run().stdout


def test_a_fixture_of_the_agent_that_fails_is_an_error(project):
    project.write("import pytest\n\n@pytest.fixture\ndef run_agent():\n    raise OSError('no key')\n")
    ran, _, results = project.results()
    assert ran.returncode == 1
    assert (results["contract", 1]["outcome"], results["contract", 1]["message"]) == ("error", "OSError: no key")


BROKEN = [
    ("{", "Invalid JSON"),
    ("[]", "Input should be an object"),
    ("{}", "case_id: Field required"),
    (build_case().to_json().replace(CASE_ID, "../../etc/passwd", 1), "case_id: String should match pattern"),
    (build_case().to_json().replace('"format_version": 1', '"format_version": 2'), "format_version: Input should be 1"),
    (build_case().to_json().replace('"title"', '"surprise": 1, "title"'), "surprise: Extra inputs"),
    (build_case().to_json(), "holds the case rc_0123456789abcdef too"),
]


def test_broken_files_fail_and_the_others_run(project):
    for number, (content, _) in enumerate(BROKEN):
        (project.cases / f"z{number}\n[é].json").write_text(content)
    ran = project.run("-rA")
    assert ran.returncode == 1
    assert f"{len(BROKEN)} failed, 2 passed" in ran.stdout
    assert ran.stdout.count("is no regression case") >= len(BROKEN)
    assert [told for _, told in BROKEN if told not in ran.stdout] == []


def test_a_folder_without_cases_is_an_error(project):
    (project.folder / "empty").mkdir()
    for name, told in (("empty", "there is no case in"), ("missing", "there is no folder")):
        ran = project.run(cases=name)
        assert ran.returncode == 4
        assert told in ran.stderr
    alone = run_pytest(project.folder, "--agentmill-results", "r.json")
    assert (alone.returncode, "needs --agentmill-cases" in alone.stderr) == (4, True)


def test_without_its_option_the_plugin_does_and_imports_nothing(project):
    project.write(
        "import sys\n\ndef test_other():\n    assert not {'polars', 'pydantic', 'psycopg'} & set(sys.modules)\n",
        "tests/test_other.py",
    )
    ran = run_pytest(project.folder, "tests")
    assert ran.returncode == 0, ran.stdout
    assert "1 passed" in ran.stdout


def test_pytest_finds_the_plugin_where_agentmill_is_installed(project):
    points = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["entry-points"]["pytest11"]
    assert points == {"agentmill": "pipelines.pytest_plugin"}
    installed = project.folder / "site" / "agentmill_again-0.dist-info"
    installed.mkdir(parents=True)
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: agentmill-again\nVersion: 0\n")
    (installed / "entry_points.txt").write_text(f"[pytest11]\nagentmill = {points['agentmill']}\n")
    places = [str(REPOSITORY), str(installed.parent)]
    code = f"import sys; sys.path[:0] = {places!r}; import pytest; sys.exit(pytest.main())"
    command = [sys.executable, "-c", code, "-p", "no:xdist", "-p", "no:cacheprovider", "--agentmill-cases", "cases"]
    ran = subprocess.run(command, cwd=project.folder, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "2 passed" in ran.stdout


def test_the_fixture_that_the_documentation_shows_runs(project):
    page = (REPOSITORY / "docs" / "regression-tests.md").read_text()
    (shown,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    project.write(shown + "\n\ndef my_agent(prompt):\n    return prompt\n")
    _, _, results = project.results()
    assert {part: one["outcome"] for (part, _), one in results.items()} == {"contract": "pass", "control:1": "pass"}

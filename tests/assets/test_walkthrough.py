"""docs/walkthrough.md as its reader does it: every block of commands in order, in a copy of the example."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import REPOSITORY, stored

from pipelines.settings import load_settings
from pipelines.warehouse import open_warehouse

PAGE = REPOSITORY / "docs" / "walkthrough.md"
EXAMPLE = REPOSITORY / "docs" / "examples" / "walkthrough"
STEP = re.compile(r"```sh\n(?P<commands>.*?)```(?:\s*```text\n(?P<shown>.*?)```)?", re.DOTALL)
EXIT = re.compile(r"# exits with (\d+)$")
PLANTED = re.compile(rb"sk-proj-[0-9a-f]{20}|[a-z]+\.[a-z]+@example\.com")


class Step:
    """A block of commands: what the page shows of their output, what they printed, how each ended and should have."""

    def __init__(self, commands, shown, folder):
        self.commands, self.shown = commands.splitlines(), shown or ""
        done = [run(command, folder) for command in self.commands]
        self.printed = "".join(one.stdout for one in done)
        self.told = "".join(one.stderr for one in done)
        self.codes = [one.returncode for one in done]
        found = [EXIT.search(command) for command in self.commands]
        self.promised = [int(one[1]) if one else 0 for one in found]


class Walk:
    """The page, walked to its end."""

    def __init__(self, folder):
        self.folder = folder
        self.steps = []
        for commands, shown in STEP.findall(PAGE.read_text()):
            step = Step(commands, shown, folder)
            self.steps.append(step)
            assert step.codes == step.promised, f"{step.commands}\n{step.printed}\n{step.told}"


def run(command, folder):
    """What a shell makes of a command in an environment with nothing of the developer's."""
    programs = Path(sys.executable).parent
    environment = {
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "PYTEST_DEBUG_TEMPROOT": str(folder.parent),
        "HOME": str(folder),
        "COLUMNS": "200",
        "LC_ALL": "C.UTF-8",
        "PYTHONPATH": str(REPOSITORY),
    }
    return subprocess.run(  # noqa: S602 - what the page tells its reader to type
        command, shell=True, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def walk(tmp_path_factory):
    folder = tmp_path_factory.mktemp("walk") / "walkthrough"
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("__pycache__"))
    return Walk(folder)


@pytest.fixture
def settings(walk, monkeypatch):
    monkeypatch.chdir(walk.folder)
    return load_settings()


def words(text):
    return " ".join(text.split())


def test_every_step_prints_what_the_page_shows(walk):
    assert len(walk.steps) == PAGE.read_text().count("```sh") > 10
    for step in walk.steps:
        assert step.shown
        pieces = [re.escape(words(piece)) for piece in step.shown.split("...")]
        assert re.search(".*?".join(pieces), words(step.printed)), step.printed


def test_the_test_fails_on_the_broken_version_alone_and_the_gate_says_the_same(walk):
    codes = {
        command: code for step in walk.steps for command, code in zip(step.commands, step.codes, strict=True) if code
    }
    failed = [re.search(r"^pytest|^agentmill gate", command)[0] for command in codes]
    versions = [re.search(r"version (\S+)", command)[1] for command in codes]
    assert list(zip(failed, versions, strict=True)) == [
        ("pytest", "1.4.0"),
        ("agentmill gate", "1.4.0"),
        ("agentmill gate", "1.5.0"),
    ]


def test_every_run_adds_to_the_confidence(walk, settings):
    printed = "".join(step.printed for step in walk.steps)
    scores = [float(score) for score in re.findall(r"active +true +\d+ +([\d.]+)", printed)]
    assert len(scores) == 3
    assert scores == sorted(set(scores))
    last = open_warehouse(settings).read("select round(confidence_score::numeric, 2)::float8 from regression_cases")
    assert last.item() == scores[-1]


def test_the_failure_is_resolved_then_suspected_in_the_old_version_and_regressed_in_the_new(settings):
    told = open_warehouse(settings).read(
        "select transition.to_state from failure_transitions as transition "
        "join failure_clusters using (cluster_id) where template like 'ValueError%' order by ordinal"
    )
    assert told["to_state"].to_list() == ["new", "ongoing", "resolved", "suspected", "regressed"]


def test_people_and_keys_of_the_logs_stay_in_the_restricted_zone(walk, settings):
    assert len(set(PLANTED.findall(b"".join(path.read_bytes() for path in Path("logs").iterdir())))) == 5
    results = [path.read_bytes() for name in ("cases", "results") for path in Path(name).iterdir()]
    assert len(results) == 4
    kept = b"".join([*stored(settings), *results, *(f"{step.printed}{step.told}".encode() for step in walk.steps)])
    assert kept.count(b"could not convert string to float") > 10
    assert PLANTED.findall(kept) == []

"""The house itself: style, types, import contracts, and that what the documentation says is so."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main
from conftest import KEY_TEXT, REPOSITORY

from assets.automation import jobs, schedules, sensors
from assets.cli import app
from assets.definitions import build_definitions
from assets.resources import Mill
from pipelines.execution import QUALITY_FLAGS, QUARANTINE_REASONS, Privacy
from pipelines.record_types import RECORD_TYPES
from pipelines.settings import EXAMPLE_CONFIG, Settings, parse_settings
from pipelines.sources.kinds import KINDS
from pipelines.sources.mapping import MappedField
from pipelines.sources.presets import preset_names
from pipelines.warehouse.dictionary import load_dictionary
from pipelines.warehouse.questions import ready_questions
from pipelines.warehouse.roles import ANALYST, GROUPS, ONCALL, PRIVACY, READS

BIN = Path(sys.executable).parent
DOCS = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
CONFIGS = [EXAMPLE_CONFIG, *sorted((REPOSITORY / "docs" / "examples").rglob("*.yaml"))]


def texts_in(folder):
    """The text files of a folder."""
    return [
        path
        for path in (REPOSITORY / folder).rglob("*")
        if path.is_file() and path.suffix not in {".pyc", ".png"} and "__pycache__" not in path.parts
    ]


def document(name):
    return (REPOSITORY / "docs" / name).read_text()


@pytest.mark.parametrize(
    "command",
    [
        ["ruff", "check", "--no-cache"],
        ["ruff", "format", "--no-cache", "--check"],
        ["mypy", "--no-incremental"],
        ["lint-imports", "--no-cache"],
    ],
    ids=lambda command: command[0] + " " + command[1],
)
def test_the_code_keeps_its_rules(command):
    told = subprocess.run([BIN / command[0], *command[1:]], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stdout + told.stderr


def test_every_version_is_pinned_and_no_address_is():
    lines = (REPOSITORY / "constraints.txt").read_text().splitlines()
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[\w.+!-]+", line) for line in lines)
    pinned = {re.split("==", line)[0].lower().replace("_", "-") for line in lines}
    text = (REPOSITORY / "pyproject.toml").read_text()
    lists = re.findall(r"^(?:dependencies|test|dev) = \[(.*?)\]$", text, re.DOTALL | re.MULTILINE)
    named = {
        re.sub(r"\[.*", "", name).replace("_", "-") for listed in lists for name in re.findall(r'"([^"]+)"', listed)
    }
    assert len(named) > 20
    assert named - {"agentmill"} <= pinned


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_every_configuration_shown_is_valid(path):
    assert parse_settings(path.read_text(), path).sources


def test_every_configuration_in_the_documentation_is_valid(monkeypatch):
    monkeypatch.setenv("APP_DATABASE_URL", "postgresql://db/app")
    found = 0
    for path in DOCS:
        for block in re.findall(r"```yaml\n(.*?)```", path.read_text(), re.DOTALL):
            lines = block.splitlines()
            margin = len(lines[0]) - len(lines[0].lstrip())
            text = "\n".join(line[margin:] for line in lines)
            if text.startswith("sources:"):
                assert parse_settings(text, path).sources
                found += 1
    assert found == 5


def commands_of(group):
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from ((f"{name} {inner}", option) for inner, option in commands_of(command))
        else:
            yield name, {option for parameter in command.params for option in parameter.opts}


COMMANDS = dict(commands_of(typer.main.get_command(app)))


def test_every_command_in_the_documentation_exists():
    shown = [
        match
        for path in DOCS
        for match in re.findall(r"(?:^|[`&] ?)agentmill ([a-z][^`\n&]*)", path.read_text(), re.MULTILINE)
    ]
    assert len(shown) > 8
    for words in map(shlex.split, shown):
        name = next((name for name in COMMANDS if words[: len(name.split())] == name.split()), None)
        assert name is not None, words
        assert {word for word in words if word.startswith("-")} <= COMMANDS[name], words


def test_every_command_is_told_of():
    told = "\n".join(path.read_text() for path in DOCS)
    assert [name for name in COMMANDS if f"agentmill {name}" not in told] == []


def test_every_link_leads_somewhere():
    links = [
        (path, link)
        for path in DOCS
        for link in re.findall(r"\]\(([^)#]+)", path.read_text())
        if not link.startswith("https:")
    ]
    assert len(links) > 10
    assert [link for path, link in links if not (path.parent / link).exists()] == []


def test_every_setting_is_documented():
    operations, sources = document("operations.md"), document("sources.md")
    assert [name for name in Settings.model_fields if f"`{name}`" not in operations] == []
    keys = {key for kind in KINDS.values() for key in kind.model_fields} - {"name"}
    keys |= {field.alias or name for name, field in MappedField.model_fields.items()}
    told = sources + document("databases.md")
    assert [key for key in keys if f"| `{key}` |" not in told] == []


def test_every_preset_is_documented():
    assert [name for name in preset_names() if f"| `{name}` |" not in document("databases.md")] == []


def test_every_reason_flag_and_column_is_documented():
    sources, dictionary = document("sources.md"), document("data-dictionary.md")
    assert [name for name in (*QUARANTINE_REASONS, *QUALITY_FLAGS) if f"| `{name}` |" not in sources] == []
    columns = [(kind, column) for kind in RECORD_TYPES for column in RECORD_TYPES[kind].columns]
    # A table of single users may close a column further than its contract does.
    classes = {kind: load_dictionary().relation(kind).columns for kind in RECORD_TYPES}
    told = [f" | {column.meaning} | {classes[kind][column.name].privacy} |" for kind, column in columns]
    assert [row for row in told if row not in dictionary] == []
    assert [name for name in RECORD_TYPES if f"| `{name}`" not in sources] == []


def test_every_group_and_class_is_documented():
    access = document("access.md")
    assert [name for name in GROUPS if f"| `{name}`" not in access] == []
    rows = {line.split("|")[1].strip(" `"): line for line in access.splitlines() if line.startswith("| `")}
    readers = {of: ["yes" if of in READS[group] else "" for group in (ANALYST, ONCALL, PRIVACY)] for of in Privacy}
    told = {of: [cell.strip() for cell in rows[of].split("|")[-4:-1]] for of in Privacy}
    assert told == readers


def test_every_ready_question_and_view_of_compat_is_documented():
    told = document("queries.md")
    rows = [f"| `{one.name}` | {one.title} | {one.why} | {one.how_to_read} |" for one in ready_questions()]
    assert [row for row in rows if row not in told] == []
    names = [path.stem for path in (REPOSITORY / "sql" / "compat").glob("*.sql")]
    assert len(names) == 11
    shown = document("compat.md").replace('"', "")
    assert [name for name in names if f"| `{name}` |" not in shown] == []


def test_every_check_job_and_schedule_is_documented(source):
    settings = Settings(sources={"app": source().model_dump(exclude={"name"}, by_alias=True)})
    graph = build_definitions(settings, Mill()).resolve_asset_graph()
    operations = document("operations.md")
    names = {key.name for key in graph.asset_check_keys}
    assert len(names) > 5
    assert [name for name in names if f"| `{name}`" not in operations] == []
    told = operations + (REPOSITORY / "README.md").read_text()
    assert [one.name for one in (*jobs[1:], *schedules, *sensors) if f"`{one.name}`" not in told] == []


def test_every_variable_of_the_environment_is_a_setting():
    named = re.findall(r"^#(AGENTMILL_\w+)=", (REPOSITORY / ".env.example").read_text(), re.MULTILINE)
    known = {f"AGENTMILL_{name.upper()}" for name in Settings.model_fields} | {"AGENTMILL_CONFIG"}
    assert len(named) > 3
    assert set(named) <= known


def test_no_path_of_a_machine_is_kept():
    place = re.compile(r"(?<![\w.<])/(?:home|root|Users|tmp|opt|work)/[a-z]")
    files = [REPOSITORY / name for name in ("README.md", "CHANGELOG.md", "pyproject.toml", "agentmill.example.yaml")]
    files += [path for folder in ("docs", "pipelines", "assets", "sql", ".ci") for path in texts_in(folder)]
    assert len(files) > 100
    # Rules that find such paths, and the demo that plants them, have to show some.
    planted = {"anonymize", "demo"}
    assert [path for path in files if not planted & set(path.parts) and place.search(path.read_text())] == []


def test_a_checkout_says_how_it_is_tested():
    command = next(line for line in (REPOSITORY / "README.md").read_text().splitlines() if line.endswith("&& pytest"))
    assert command.startswith("pip install -c constraints.txt -e ")
    assert "'&& pytest$' README.md" in (REPOSITORY / ".ci" / "run").read_text()


def test_the_key_of_the_tests_is_no_default():
    told = json.dumps(Settings.model_json_schema(), default=str)
    assert KEY_TEXT not in told
    assert Settings().pseudonym_key is None


def test_every_benchmark_can_be_started():
    names = [path.stem for path in (REPOSITORY / "benchmarks").glob("*.py")]
    assert len(names) > 2
    code = "; ".join(f"import benchmarks.{name}" for name in names)
    told = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr

import json
import re
import uuid

import jinja2
import pytest
from regression_builders import CASE_ID, HOSTILE, build_case

from pipelines.regression.exporters import KINDS, export, inert

FIELDS = {
    "langfuse": {"datasetName", "id", "input", "expectedOutput", "metadata"},
    "langsmith": {"id", "inputs", "outputs", "metadata"},
    "phoenix": {"input", "output", "metadata"},
    "promptfoo": {"description", "vars", "assert", "metadata"},
}


@pytest.fixture
def exported(tmp_path):
    """What a file of some cases holds, line by line."""

    def build(kind, *cases):
        path = tmp_path / "cases.jsonl"
        count = export(cases, kind, path)
        lines = path.read_text().splitlines()
        assert len(lines) == count
        return [json.loads(line) for line in lines]

    return build


def texts_in(value):
    """Every text of a JSON value, keys included."""
    if isinstance(value, dict):
        return [text for key, one in value.items() for text in (key, *texts_in(one))]
    if isinstance(value, list):
        return [text for one in value for text in texts_in(one)]
    return [value] if isinstance(value, str) else []


@pytest.mark.parametrize("kind", KINDS)
def test_a_case_and_its_controls_are_a_line_each_in_the_fields_of_the_tool(exported, kind):
    items = exported(kind, build_case(), build_case(case_id="rc_2", controls=[]))
    assert [set(item) for item in items] == [FIELDS[kind]] * 3
    assert [(item["metadata"]["case_id"], item["metadata"]["part"]) for item in items] == [
        (CASE_ID, "contract"),
        (CASE_ID, "control:1"),
        ("rc_2", "contract"),
    ]


def test_an_item_keeps_its_id_from_export_to_export(exported):
    ids = [item["id"] for item in exported("langfuse", build_case())]
    assert ids == [CASE_ID, f"{CASE_ID}-control-1"]
    first, again = (exported("langsmith", build_case(title=title)) for title in ("a", "b"))
    assert [one["id"] for one in first] == [one["id"] for one in again]
    assert len({uuid.UUID(one["id"]) for one in first}) == 2


def test_the_input_is_the_fixture_else_the_structures(exported):
    contract, control = exported("phoenix", build_case())
    assert contract["input"] == {"fixture": {"prompt": "broken"}}
    assert control["input"]["structures"][0]["input_shape"] == "{}"
    assert contract["output"]["must"] == {"statuses": ["success", "partial"]}


def hostile_case():
    texts = dict.fromkeys(("title", "what_failed", "template", "category"), HOSTILE)
    return build_case(
        **texts, agent={"id": "file:///etc/passwd", "name": HOSTILE}, input={"fixture": {HOSTILE: [HOSTILE]}}
    )


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "promptfoo"])
def test_a_hostile_text_is_the_same_text_in_a_line_of_its_own(exported, kind):
    items = exported(kind, hostile_case())
    assert len(items) == 2
    assert items[0]["metadata"]["what_failed"] == HOSTILE
    assert items[0]["metadata"]["agent"] == {"id": "file:///etc/passwd", "name": HOSTILE}


def test_no_text_of_a_promptfoo_test_is_a_template_or_a_reference(exported):
    items = exported("promptfoo", hostile_case())
    told = [text for item in items for key in ("description", "vars", "metadata") for text in texts_in(item[key])]
    assert len([text for text in told if "7*7" in text]) > 5
    assert [text for text in told if re.search(r"\{[{%#]|[}%#]\}", text)] == []
    assert [text for text in told if text.startswith(("file:", "package:"))] == []


@pytest.mark.parametrize(
    "text", ["{{ 7*7 }}", "{% raw %}{{ 7*7 }}{% endraw %}", "{% endraw %}{{ 7*7 }}", "{# x #}", "{{{%{{ 7 }}%}}"]
)
def test_an_inert_text_survives_every_rendering(text):
    # Jinja has the marks of Nunjucks.
    shown = once = inert(text)
    for _ in range(3):
        shown = jinja2.Environment(autoescape=True).from_string(shown).render()
    assert shown == once != text
    assert once.replace("\N{ZERO WIDTH SPACE}", "") == text


def test_the_assertion_of_promptfoo_holds_no_text_of_a_log(exported):
    for case in (build_case(), hostile_case()):
        assertion = exported("promptfoo", case)[0]["assert"]
        assert assertion == [
            {
                "type": "javascript",
                "value": '["success", "partial"].includes('
                "(typeof output === 'string' ? JSON.parse(output) : output).status)",
            }
        ]

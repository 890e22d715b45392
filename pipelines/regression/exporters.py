"""Regression cases as data sets of evaluation tools: JSON lines in the form that each of them takes.

Texts of logs stay data. A tool that renders templates in what it reads gets them with their marks taken apart.
"""

import json
import re
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from pipelines.regression.case_file import CONTRACT, Case, replace_file

Kind = Literal["langfuse", "langsmith", "phoenix", "promptfoo"]
KINDS: tuple[Kind, ...] = get_args(Kind)
DATASET = "agentmill-regression"

_NAMESPACE = uuid.UUID("a5b7c9de-6f2b-5c70-9a34-2f0d7f2c9b11")
_TEMPLATE_MARK = re.compile(r"(?<=[{}%#])(?=[{}%#])")
_REFERENCE = re.compile(
    r"^(?=(?:file|package|python|exec|https?|huggingface|langfuse|portkey|helicone):)", re.IGNORECASE
)
_APART = "\N{ZERO WIDTH SPACE}"


def export(cases: Sequence[Case], kind: Kind, path: Path) -> int:
    """Write the cases and their controls, a line each, and return how many lines there are. Same cases, same bytes."""
    items = [_ITEMS[kind](one) for one in _parts(cases)]
    replace_file(path, "".join(json.dumps(item) + "\n" for item in items))
    return len(items)


def _parts(cases: Sequence[Case]) -> Iterator[Case]:
    for case in cases:
        yield from (case.as_part(part) for part in case.parts)


def _langfuse(case: Case) -> dict[str, Any]:
    """The body of `POST /api/public/dataset-items`, which updates an item of the same id.

    https://cloud.langfuse.com/generated/api/openapi.yml (CreateDatasetItemRequest)
    """
    return {
        "datasetName": DATASET,
        "id": _name(case),
        "input": _input(case),
        "expectedOutput": _expected(case),
        "metadata": _metadata(case),
    }


def _langsmith(case: Case) -> dict[str, Any]:
    """An example for `Client.create_examples(dataset_name=..., examples=[...])`; the id is a UUID made of the case's.

    https://docs.langchain.com/langsmith/example-data-format
    """
    return {
        "id": str(uuid.uuid5(_NAMESPACE, _name(case))),
        "inputs": _input(case),
        "outputs": _expected(case),
        "metadata": _metadata(case),
    }


def _phoenix(case: Case) -> dict[str, Any]:
    """An example for `createDataset({name, description, examples})` of @arizeai/phoenix-client.

    https://app.unpkg.com/@arizeai/phoenix-client@6.5.5/files/docs/datasets.mdx
    """
    return {"input": _input(case), "output": _expected(case), "metadata": _metadata(case)}


def _promptfoo(case: Case) -> dict[str, Any]:
    """A test case for `tests: file://cases.jsonl`. Its assertion reads the status from a provider's JSON output.

    Variables are rendered as Nunjucks templates, again and again, and one that begins with `file://` is read from disk:
    so both are taken apart by an invisible character, in every text. https://www.promptfoo.dev/docs/configuration/test-cases
    """
    allowed = json.dumps(list(case.contract.must.statuses))
    assertion = f"{allowed}.includes((typeof output === 'string' ? JSON.parse(output) : output).status)"
    return {
        "description": inert(f"{_name(case)}: {case.title}"),
        "vars": inert({"case_id": case.case_id, "part": case.part, "input": _input(case)}),
        "assert": [{"type": "javascript", "value": assertion}],
        "metadata": inert(_metadata(case)),
    }


_ITEMS: dict[Kind, Callable[[Case], dict[str, Any]]] = {
    "langfuse": _langfuse,
    "langsmith": _langsmith,
    "phoenix": _phoenix,
    "promptfoo": _promptfoo,
}


def inert(value: Any) -> Any:  # noqa: ANN401 - whatever JSON holds
    """The value with the marks of templates and references taken apart in all of its texts, its keys included.

    An escape such as `{% raw %}` would hold for one rendering only, and a text may close it.
    """
    if isinstance(value, dict):
        return {inert(key): inert(one) for key, one in value.items()}
    if isinstance(value, list):
        return [inert(one) for one in value]
    return _REFERENCE.sub(_APART, _TEMPLATE_MARK.sub(_APART, value)) if isinstance(value, str) else value


def _name(case: Case) -> str:
    return case.case_id if case.part == CONTRACT else f"{case.case_id}-{case.part.replace(':', '-')}"


def _input(case: Case) -> dict[str, Any]:
    """The fixture, else the structures to make an input from."""
    told = case.input.model_dump(mode="json")
    return {"fixture": told["fixture"]} if told["fixture"] is not None else {"structures": told["structures"]}


def _expected(case: Case) -> dict[str, Any]:
    return case.contract.model_dump(mode="json", exclude_none=True)


def _metadata(case: Case) -> dict[str, Any]:
    names = ("case_id", "cluster_id", "title", "kind", "category", "severity", "template", "what_failed", "is_blocking")
    told = case.model_dump(mode="json", include={*names, "agent", "repetitions"})
    return {**told, "part": case.part}

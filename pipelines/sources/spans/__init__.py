"""Traces as sources: spans of OpenTelemetry or Langfuse, and the agent executions that they are parts of.

The executions are the records that a mapping is about. Their fields have the names of the canonical columns, so the
mapping is known; a source adds to it or overrides it. `attributes` and `resource` hold the attributes as they came.
"""

from collections.abc import Callable
from typing import Annotated, Any, Literal

import polars as pl
from pydantic import Field, model_validator

from pipelines.record_types import EXECUTIONS
from pipelines.sources.files import FileSource
from pipelines.sources.spans.executions import EXECUTION_SPAN
from pipelines.sources.spans.langfuse import read_langfuse
from pipelines.sources.spans.otlp import read_otlp

READERS: dict[str, Callable[[pl.DataFrame], pl.DataFrame]] = {"otlp": read_otlp, "langfuse": read_langfuse}
"""What makes spans of lines, by the kind of source."""

_MAPPING = {name: name for name in EXECUTION_SPAN if name in EXECUTIONS.mappable} | {"execution_id": "span_id"}


class TraceSource(FileSource):
    """Files of traces: OTLP/JSON as collectors write it, or exported observations of Langfuse."""

    kind: Literal["otlp", "langfuse"]  # type: ignore[assignment]
    records: Annotated[Literal["executions"], Field(description="Traces are told as executions.")] = "executions"
    format: Annotated[Literal["ndjson"], Field(description="One JSON object per line.")] = "ndjson"

    @model_validator(mode="before")
    @classmethod
    def _know_the_mapping(cls, data: Any) -> Any:  # noqa: ANN401 - whatever YAML holds
        if not isinstance(data, dict) or not isinstance(data.get("mapping", {}), dict):
            return data
        return {**data, "mapping": {**_MAPPING, **data.get("mapping", {})}}

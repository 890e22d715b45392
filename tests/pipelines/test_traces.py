"""Traces as sources: spans written by the real OpenTelemetry SDK, and observations as Langfuse exports them."""

import base64
import json
from collections import defaultdict
from datetime import datetime, timedelta
from decimal import Decimal

import polars as pl
import pytest
from conftest import DAY, NOW, real_data
from google.protobuf.json_format import MessageToDict
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Status, StatusCode, set_span_in_context

from pipelines.clean import clean_records
from pipelines.extract import extract
from pipelines.sources.spans import READERS, TraceSource
from pipelines.sources.spans.executions import as_executions
from pipelines.sources.spans.otlp import count_unknown, read_otlp

NOON = datetime(DAY.year, DAY.month, DAY.day, 12)
MIDNIGHT_NS = int(datetime.fromisoformat(f"{DAY}T00:00:00+00:00").timestamp()) * 10**9
AGENT = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "planner"}
CHAT = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.response.model": "gpt-4o"}
TOOL = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "search"}


class Recorder:
    """The real SDK, told at which second of the day each span begins and ends."""

    def __init__(self):
        resource = Resource({"service.name": "shop", "deployment.environment.name": "production"})
        self.exporter, provider = InMemorySpanExporter(), TracerProvider(resource=resource)
        provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.tracer = provider.get_tracer("agents", "1.0")

    def span(self, name, attributes, start, end, parent=None, error=None):
        context = set_span_in_context(parent) if parent else None
        span = self.tracer.start_span(name, context, attributes=attributes, start_time=MIDNIGHT_NS + start * 10**9)
        if error is not None:
            span.record_exception(error)
            span.set_status(Status(StatusCode.ERROR, str(error)))
        span.end(MIDNIGHT_NS + end * 10**9)
        return span

    def request(self, spans=None):
        """An export request as the collector's file exporter writes it: ids in hex, one line."""
        encoded = MessageToDict(encode_spans(spans or self.exporter.get_finished_spans()), use_integers_for_enums=True)
        return json.dumps(_with_hex_ids(encoded))


def _with_hex_ids(node):
    if isinstance(node, dict):
        ids = ("traceId", "spanId", "parentSpanId")
        return {
            key: base64.b64decode(value).hex() if key in ids else _with_hex_ids(value) for key, value in node.items()
        }
    return [_with_hex_ids(item) for item in node] if isinstance(node, list) else node


@pytest.fixture
def recorder():
    return Recorder()


def source_of(tmp_path, kind="otlp", **overrides):
    given = {"name": "app", "kind": kind, "path": f"{tmp_path}/logs/*", "settle_seconds": 0, **overrides}
    return TraceSource.model_validate(given)


@pytest.fixture
def executions(tmp_path, lake, key, write_log):
    """What becomes of some lines, over some days."""

    def build(*lines, days=(DAY,), kind="otlp", **overrides):
        write_log(*lines)
        source = source_of(tmp_path, kind, **overrides)
        receipts = extract(source, list(days), lake, NOW)
        parts = [lake.read(part) for receipt in receipts.values() for part in receipt.parts]
        return clean_records(parts, source, key, NOW, DAY)

    return build


def spans_of(*lines):
    return read_otlp(pl.DataFrame({"file": ["a"] * len(lines), "line": range(len(lines)), "record": lines}))


def test_an_agent_and_all_it_did_is_one_execution(recorder, executions):
    http = recorder.span("GET /", {"http.route": "/"}, 0, 60)
    agent = recorder.span("invoke_agent planner", {**AGENT, "user.id": "ann", "my.tag": "x"}, 1, 31, http)
    used = {"gen_ai.usage.input_tokens": 100, "gen_ai.usage.output_tokens": 20}
    recorder.span("chat", {**CHAT, **used, "gen_ai.usage.cache_read.input_tokens": 40}, 2, 5, agent)
    recorder.span("execute_tool", TOOL, 6, 7, agent)
    recorder.span("chat", {**CHAT, **used}, 8, 9, agent)
    done = executions(recorder.request(), attributes={"tag": 'attributes."my.tag"'}).rows
    row = done.row(0, named=True)
    assert done.height == 1
    assert (row["agent_name"], row["status"], row["duration_ms"]) == ("planner", "success", 30_000)
    assert (row["llm_calls"], row["tool_calls"], row["tool_names"]) == (2, 1, ["search"])
    assert (row["input_tokens"], row["output_tokens"], row["cache_read_tokens"]) == (200, 40, 40)
    assert (row["provider"], row["model"], row["environment"]) == ("openai", "gpt-4o", "production")
    assert json.loads(row["attributes"]) == {"tag": "x"}
    assert row["user_key"].startswith("k1_")


@pytest.mark.parametrize(("answered", "model"), [({}, "gpt-4o-mini"), (CHAT, "gpt-4o")], ids=["unsaid", "said"])
def test_where_no_span_says_which_model_answered_it_is_the_one_that_was_asked_for(
    recorder, executions, answered, model
):
    asked = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-4o-mini"}
    agent = recorder.span("invoke_agent", {**AGENT, "gen_ai.request.model": "gpt-4o-mini"}, 1, 9)
    recorder.span("chat", asked, 2, 3, agent)
    recorder.span("chat", {**asked, **answered}, 4, 5, agent)
    row = executions(recorder.request()).rows.row(0, named=True)
    assert (row["model"], row["request_model"]) == (model, "gpt-4o-mini")


def test_an_exception_says_why_it_failed_without_telling_on_anybody(recorder, executions):
    agent = recorder.span("invoke_agent", AGENT, 1, 5, error=ValueError("no row for ann@example.org"))
    recorder.span("execute_tool", TOOL, 2, 3, agent, error=KeyError("inner"))
    row = executions(recorder.request()).rows.row(0, named=True)
    assert (row["status"], row["error_type"]) == ("failed", "ValueError")
    assert row["error_message"] == "no row for <email>"


def test_a_failure_that_only_a_part_explains_is_explained_by_it(recorder, executions):
    agent = recorder.tracer.start_span("invoke_agent", attributes=AGENT, start_time=MIDNIGHT_NS)
    recorder.span("chat", CHAT, 2, 3, agent, error=TimeoutError("the model did not answer"))
    agent.set_status(Status(StatusCode.ERROR))
    agent.end(MIDNIGHT_NS + 10**10)
    row = executions(recorder.request()).rows.row(0, named=True)
    assert (row["status"], row["error_type"]) == ("timeout", "TimeoutError")
    assert row["error_message"] == "the model did not answer"


def test_usage_on_an_aggregate_and_on_its_parts_is_the_same_usage(recorder, executions):
    total = {"gen_ai.usage.input_tokens": 300, "gen_ai.usage.output_tokens": 7}
    agent = recorder.span("invoke_agent", {**AGENT, **total}, 1, 9)
    wrapper = recorder.span("chat", {**CHAT, "gen_ai.usage.input_tokens": 300}, 2, 8, agent)
    recorder.span("chat", {**CHAT, "gen_ai.usage.input_tokens": 299}, 3, 7, wrapper)
    row = executions(recorder.request()).rows.row(0, named=True)
    assert (row["input_tokens"], row["output_tokens"], row["llm_calls"]) == (299, 7, 1)


def test_former_spellings_of_attributes_are_read_too(recorder, executions):
    former = {"gen_ai.system": "anthropic", "gen_ai.usage.prompt_tokens": 11, "gen_ai.usage.completion_tokens": 3}
    agent = recorder.span("invoke_agent", AGENT, 1, 9)
    recorder.span("chat", {"gen_ai.operation.name": "chat", **former}, 2, 3, agent)
    row = executions(recorder.request()).rows.row(0, named=True)
    assert (row["provider"], row["input_tokens"], row["output_tokens"]) == ("anthropic", 11, 3)


def test_an_agent_within_an_agent_is_part_of_it_and_two_side_by_side_are_two(recorder, executions):
    outer = recorder.span("invoke_agent", AGENT, 1, 9)
    recorder.span("invoke_agent", {**AGENT, "gen_ai.agent.name": "helper"}, 2, 3, outer)
    recorder.span("invoke_agent", {**AGENT, "gen_ai.agent.name": "second"}, 1, 3)
    rows = executions(recorder.request()).rows
    assert sorted(rows["agent_name"]) == ["planner", "second"]


def test_a_trace_without_an_agent_is_one_execution_and_one_without_ai_is_none(recorder, executions):
    call = recorder.span("chat gpt-4o", CHAT, 1, 9)
    recorder.span("execute_tool", TOOL, 2, 3, call)
    recorder.span("GET /", {"http.route": "/"}, 1, 2)
    rows = executions(recorder.request()).rows
    assert rows["agent_name"].to_list() == ["chat gpt-4o"]


def test_spans_of_a_trace_may_lie_in_several_files_and_around_midnight(recorder, tmp_path, lake, write_log):
    last_minute = 24 * 3600 - 60
    agent = recorder.span("invoke_agent", AGENT, last_minute, last_minute + 600)
    recorder.span("chat", {**CHAT, "gen_ai.usage.input_tokens": 5}, last_minute + 300, last_minute + 400, agent)
    root, leaf = recorder.exporter.get_finished_spans()
    write_log(recorder.request([root]), name="a.ndjson")
    write_log(recorder.request([leaf]), name="b.ndjson")
    days = [DAY, DAY + timedelta(days=1)]
    together = extract(source_of(tmp_path), days, lake, NOW)
    assert [together[day].rows for day in days] == [1, 0]
    alone = extract(source_of(tmp_path), [DAY], lake, NOW)[DAY]
    assert alone.parts == together[DAY].parts
    assert lake.read(alone.parts[0])["record"].struct.field("input_tokens").to_list() == [5]


def test_a_broken_line_is_quarantined_and_a_span_that_came_twice_counts_once(recorder, executions):
    recorder.span("invoke_agent", {**AGENT, "gen_ai.usage.input_tokens": 5}, 1, 9)
    done = executions(recorder.request(), "{broken", recorder.request())
    assert done.rows["input_tokens"].to_list() == [5]
    assert done.quarantine["reason"].to_list() == ["malformed"]


def test_attributes_without_a_column_are_counted_and_not_kept(recorder, executions):
    recorder.span("invoke_agent", {**AGENT, "my.secret": "hunter2", "my.list": ["a", "b"], "my.flag": True}, 1, 9)
    line = recorder.request()
    assert count_unknown(spans_of(line)) == {"my.flag": 1, "my.list": 1, "my.secret": 1}
    assert "hunter2" not in executions(line).rows.write_json()


@given(st.data())
def test_neither_the_order_of_spans_nor_circles_among_them_matter(data):
    ids = [f"{n}" for n in range(8)]
    rows = [
        {
            "trace_id": "t",
            "span_id": name,
            "parent_id": data.draw(st.sampled_from([None, *ids])),
            "name": name,
            "role": data.draw(st.sampled_from(["agent", "llm", "tool", "other"])),
            "is_ai": data.draw(st.booleans()),
            "started_at": NOON,
            "is_error": False,
            "input_tokens": data.draw(st.one_of(st.none(), st.integers(0, 9))),
        }
        for name in ids
    ]
    schema = spans_of().schema
    given = pl.DataFrame([{**dict.fromkeys(schema), **row} for row in rows], schema_overrides=schema, orient="row")
    expected = as_executions(given).sort("span_id")
    shuffled = given.sample(fraction=1, shuffle=True, seed=data.draw(st.integers(0, 99)))
    assert as_executions(shuffled).sort("span_id").equals(expected)
    assert (expected["input_tokens"].sum() or 0) <= (given["input_tokens"].sum() or 0)


def test_lines_that_are_no_spans_are_quarantined(recorder, executions):
    recorder.span("invoke_agent", AGENT, 1, 9)
    line = recorder.request()
    no_id = line.replace('"spanId"', '"idOfSpan"')
    done = executions(line, '{"resourceSpans": {}}', '{"resourceSpans": null}', '{"other": 1}', no_id)
    assert done.rows.height == 1
    assert done.quarantine["reason"].to_list() == ["malformed"] * 4


def test_an_attribute_without_a_name_is_left_out(recorder, executions):
    recorder.span("invoke_agent", {**AGENT, "my.tag": "x"}, 1, 9)
    assert executions(recorder.request().replace('"key": "my.tag", ', "")).rows.height == 1


def test_a_span_with_a_broken_clock_is_quarantined_where_its_file_is(recorder, executions):
    recorder.span("invoke_agent", AGENT, 1, 9)
    good = recorder.request()
    broken = good.replace(recorder.exporter.get_finished_spans()[0].context.span_id.to_bytes(8, "big").hex(), "f" * 16)
    start = str(MIDNIGHT_NS + 10**9)
    done = executions(good, broken.replace(start, "0"), "{broken")
    assert done.rows.height == 1
    assert sorted(done.quarantine["reason"]) == ["malformed", "timestamp_out_of_range"]


def test_spans_that_lost_their_parents_belong_to_the_only_agent(recorder, executions):
    agent = recorder.span("invoke_agent", AGENT, 1, 9)
    lost = recorder.span("not exported", {}, 2, 8, agent)
    recorder.span("chat", {**CHAT, "gen_ai.usage.input_tokens": 7}, 3, 4, lost)
    kept = [span for span in recorder.exporter.get_finished_spans() if span.name != "not exported"]
    row = executions(recorder.request(kept)).rows.row(0, named=True)
    assert (row["input_tokens"], row["llm_calls"]) == (7, 1)


def test_names_of_attributes_that_hold_something_private_are_not_told(recorder, tmp_path, lake, write_log):
    recorder.span(
        "invoke_agent", {**AGENT, "peer.10.1.2.3": "x", "k.sk-" + "proj-" + "a1B2" * 8: "x", "my.tag": "y"}, 1, 9
    )
    write_log(recorder.request())
    assert extract(source_of(tmp_path), [DAY], lake, NOW)[DAY].unknown_attributes == {"my.tag": 1}


def observation(**overrides):
    return json.dumps(
        {
            "id": "o1",
            "traceId": "t1",
            "parentObservationId": None,
            "type": "GENERATION",
            "name": "chat",
            "level": "DEFAULT",
            "startTime": f"{DAY}T10:00:00.000Z",
            "endTime": f"{DAY}T10:00:02.500Z",
            "model": "gpt-4o",
            "usageDetails": {"input": 10, "output": 5, "total": 15},
            "costDetails": {"input": 0.001, "output": 0.002, "total": 0.003},
            "totalCost": 0.003,
            **overrides,
        }
    )


@pytest.mark.parametrize(
    ("usage", "told"),
    [
        ({"input": 10, "output": 5, "total": 15}, (10, 5)),
        ({"input": 10, "input_cached_tokens": 90, "output": 5, "total": 105}, (100, 5)),
        ({"input": 100, "input_cached_tokens": 90, "output": 5, "total": 105}, (100, 5)),
        ({"input": 10, "output": 5, "output_reasoning": 3, "total": 18}, (10, 8)),
        ({"input": 10, "output": 5, "completion_details.reasoning": 3, "total": 15}, (10, 5)),
        ({}, (None, None)),
    ],
)
def test_langfuse_counts_cached_and_reasoning_tokens_apart_or_not(executions, usage, told):
    row = executions(observation(usageDetails=usage), kind="langfuse").rows.row(0, named=True)
    assert (row["input_tokens"], row["output_tokens"]) == told


def test_a_trace_of_langfuse_is_its_outermost_observation(executions):
    lines = [
        observation(id="o0", type="SPAN", name="planner", usageDetails={}, costDetails={}, totalCost=0),
        observation(id="o1", parentObservationId="o0"),
        observation(id="o2", parentObservationId="o1"),
        observation(id="o3", parentObservationId="o0", type="TOOL", name="search", usageDetails={}, costDetails={}),
    ]
    row = executions(*lines, kind="langfuse").rows.row(0, named=True)
    assert (row["agent_name"], row["llm_calls"], row["tool_names"]) == ("planner", 1, ["search"])
    assert (row["input_tokens"], row["cost_usd"]) == (10, Decimal("0.003"))


def test_an_observation_that_is_its_own_parent_is_a_root(executions):
    row = executions(observation(parentObservationId="o1"), kind="langfuse").rows.row(0, named=True)
    assert (row["input_tokens"], row["llm_calls"]) == (10, 1)


def test_a_cost_that_nobody_knows_is_not_zero(executions):
    row = executions(observation(costDetails={}, totalCost=0), kind="langfuse").rows.row(0, named=True)
    assert (row["cost_usd"], row["cost_source"]) == (None, "unpriced")


def test_real_observations_count_every_leaf_once(lake, key):
    path = real_data("langfuse_framework_observations.ndjson")
    observations = {(one["traceId"], one["id"]): one for one in map(json.loads, path.read_text().splitlines())}
    parent = {name: (name[0], one["parentObservationId"]) for name, one in observations.items()}
    taken = set()
    for name, one in observations.items():
        above = parent[name] if one["usageDetails"] else None
        while above in observations:
            taken.add(above)
            above = parent[above]
    expected = defaultdict(lambda: [0, 0, Decimal(0)])
    for name, one in observations.items():
        if one["usageDetails"] and name not in taken:
            usage = defaultdict(int, one["usageDetails"])
            apart = sum(usage[key] for key in ("output_reasoning", "input_cache_read"))
            is_apart = apart and usage["total"] == usage["input"] + usage["output"] + apart
            expected[name[0]][0] += usage["input"]
            expected[name[0]][1] += usage["output"] + (apart if is_apart else 0)
            expected[name[0]][2] += Decimal(str(one["totalCost"])).quantize(Decimal("1e-10"))
    source = TraceSource.model_validate({"name": "app", "kind": "langfuse", "path": str(path), "settle_seconds": 0})
    days = sorted({datetime.fromisoformat(one["startTime"]).date() for one in observations.values()})
    now = datetime.fromisoformat("2026-11-01T00:00:00+00:00")
    receipts = extract(source, days, lake, now)
    parts = [lake.read(part) for receipt in receipts.values() for part in receipt.parts]
    rows = clean_records(parts, source, key, now, DAY).rows
    told = rows.group_by("trace_id").agg(pl.col("input_tokens", "output_tokens", "cost_usd").sum()).sort("trace_id")
    assert told.rows() == [(trace, *figures) for trace, figures in sorted(expected.items())]
    assert len(told) > 15


def test_every_kind_of_trace_has_a_reader():
    assert set(READERS) == {"otlp", "langfuse"}

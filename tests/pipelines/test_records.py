import json

import polars as pl
import pytest

from pipelines.sources.records import ATTRIBUTE, MappingError, map_records


def as_json(*records):
    return pl.DataFrame({"record": [json.dumps(record) for record in records]})


def mapped(source, records, **overrides):
    return map_records(records, source(**overrides))


def test_nested_dotted_and_positioned_fields_are_reached(source):
    records = as_json({"a": {"b": 1}, "x.y": "dot", "list": [{"z": "first"}], "state": "ok"})
    mapping = {"agent_id": "a.b", "error_code": '"x.y"', "finish_reason": "list[0].z"}
    row = mapped(source, records, mapping=mapping).row(0, named=True)
    assert (row["agent_id"], row["error_code"], row["finish_reason"]) == ("1", "dot", "first")


def test_numbers_keep_their_digits(source):
    records = as_json({"big": 2**64, "small": 0.1, "text": "12"})
    mapping = {"input_tokens": "big", "cost_usd": "small", "output_tokens": "text"}
    row = mapped(source, records, mapping=mapping).row(0, named=True)
    assert (row["input_tokens"], row["cost_usd"], row["output_tokens"]) == ("18446744073709551616", "0.1", "12")


def test_objects_and_lists_stay_json(source):
    row = mapped(source, as_json({"prompt": {"m": [1, "x"]}})).row(0, named=True)
    assert row["input"] == '{"m":[1,"x"]}'


def test_an_expression_over_nested_fields_sees_declared_types(source):
    records = as_json({"r": {"ok": True, "n": "3"}}, {"r": {"ok": False, "n": "4"}}, {})
    status = "case when r.ok then 'success' when r.n > 3 then 'failed' else 'error' end"
    told = mapped(source, records, mapping={"status": status}, types={"r.ok": "bool", "r.n": "int"})
    assert told["status"].to_list() == ["success", "failed", "error"]


def test_a_field_that_does_not_fit_its_declared_type_is_a_problem_of_its_record(source):
    records = as_json({"ok": "maybe"}, {"ok": "true"})
    told = mapped(
        source, records, mapping={"status": "case when ok then 'success' else 'failed' end"}, types={"ok": "bool"}
    )
    assert told["problem"].to_list() == ["bad_value", None]


def test_an_expression_that_cannot_be_computed_is_explained_without_the_data(source):
    with pytest.raises(MappingError, match="declare their type") as caught:
        mapped(source, as_json({"secret": "s3cr3t"}), mapping={"attempt": "cast(secret as bigint)"})
    assert "s3cr3t" not in str(caught.value)


def test_constants_value_maps_and_unmeasured_values(source):
    records = as_json({"state": "done", "tokens_in": 0}, {"state": "odd", "tokens_in": 7}, {"tokens_in": None})
    mapping = {
        "environment": {"value": "production"},
        "status": {"from": "state", "values": {"done": "success", "*": "failed", None: "error"}},
        "input_tokens": {"from": "tokens_in", "null_if": [0]},
    }
    told = mapped(source, records, mapping=mapping)
    assert told["environment"].to_list() == ["production"] * 3
    assert told["status"].to_list() == ["success", "failed", "error"]
    assert told["status_raw"].to_list() == ["done", "odd", None]
    assert told["input_tokens"].to_list() == [None, "7", None]


def test_blank_text_is_nothing_and_surrounding_space_goes(source):
    told = mapped(source, as_json({"agent": "  "}, {"agent": " planner\n"}))
    assert told["agent_name"].to_list() == [None, "planner"]


def test_columns_are_reached_like_json_in_their_own_types(source):
    record = pl.DataFrame({"id": [1], "agent": [{"name": "planner"}], "tags": [["a", "b"]]}).to_struct("record")
    mapping = {"agent_name": "agent.name", "execution_type": "tags[1]", "model": "missing.field"}
    row = mapped(source, record.to_frame(), mapping=mapping).row(0, named=True)
    assert (row["execution_id"], row["agent_name"], row["execution_type"], row["model"]) == (1, "planner", "b", None)


def test_only_admitted_attributes_come_along(source):
    told = mapped(source, as_json({"task": "t1", "secret": "x"}), attributes=["task"])
    assert [name for name in told.columns if name.startswith(ATTRIBUTE)] == [f"{ATTRIBUTE}task"]


def test_rows_keep_their_order_beyond_one_batch(source):
    records = pl.DataFrame({"record": [json.dumps({"id": f"r{n}"}) for n in range(300_000)]})
    told = map_records(records, source(), only=["execution_id"])["execution_id"]
    assert (told == pl.Series([f"r{n}" for n in range(300_000)])).all()

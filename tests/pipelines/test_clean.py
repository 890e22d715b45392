import json
import random
import re
from datetime import UTC, datetime
from decimal import Decimal

import polars as pl
import pytest
from conftest import DAY, NOW
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.clean import StaleRawError, clean, clean_records
from pipelines.execution import EXECUTION, QUALITY_FLAGS, QUARANTINE_REASONS
from pipelines.extract import extract
from pipelines.sources.records import POSITION


def reasons(result):
    return dict(zip(result.quarantine["reason"], result.quarantine["detail"], strict=True))


def test_a_record_becomes_an_execution_of_the_canonical_schema(cleaned, record):
    result = cleaned(record())
    assert result.rows.schema == EXECUTION
    row = result.rows.row(0, named=True)
    assert (row["source"], row["agent_id"], row["agent_name"], row["status"]) == (
        "app",
        "planner",
        "planner",
        "success",
    )
    assert (row["duration_ms"], row["input_tokens"], row["cost_usd"]) == (2000, 100, Decimal("0.01"))
    assert row["event_time"] == datetime(2026, 3, 10, 10, tzinfo=UTC)


def test_an_execution_that_ends_before_it_starts_keeps_its_row_but_not_its_duration(execution):
    row = execution(started="2026-03-10T10:00:00Z", ended="2026-03-10T09:59:00Z")
    assert row["duration_ms"] is None
    assert row["quality_flags"] == ["clock_skew"]


def test_an_execution_without_a_start_counts_at_its_end(execution):
    row = execution(started=None)
    assert row["event_time"] == row["completed_at"]
    assert row["quality_flags"] == ["no_start_time"]


def test_a_duration_in_seconds_is_milliseconds_and_a_contradiction_is_flagged(cleaned, record):
    result = cleaned(record(took="2.2"), record(took=9), mapping={"duration_ms": {"from": "took", "unit": "s"}})
    assert sorted(result.rows["duration_ms"].to_list()) == [2200, 9000]
    assert sorted(result.rows["quality_flags"].to_list()) == [[], ["duration_mismatch"]]


@pytest.mark.parametrize(
    ("word", "status"),
    [("Succeeded", "success"), ("timed out", "timeout"), ("CANCELED", "cancelled"), ("partial-success", "partial")],
)
def test_common_words_for_outcomes_are_known(execution, word, status):
    row = execution(state=word)
    assert (row["status"], row["status_raw"]) == (status, word)


@pytest.mark.parametrize(
    ("overrides", "reason", "detail"),
    [
        ({"state": "limbo"}, "unknown_status", "limbo"),
        ({"state": None}, "no_status", None),
        ({"agent": None}, "no_agent", None),
        ({"id": None}, "no_execution_id", None),
        ({"started": None, "ended": None}, "no_event_time", None),
        ({"started": "soon"}, "bad_timestamp", None),
        ({"ended": "1970-01-01T00:00:00Z"}, "timestamp_out_of_range", None),
        ({"tokens_in": "many"}, "bad_value", "input_tokens"),
        ({"tokens_in": 12.5}, "bad_value", "input_tokens"),
        ({"tokens_in": 2**63}, "bad_value", "input_tokens"),
        ({"cost": "9" * 20}, "bad_value", "cost_usd"),
    ],
)
def test_what_is_no_execution_is_refused_with_its_reason(cleaned, record, overrides, reason, detail):
    result = cleaned(record(), record(**overrides))
    assert result.rows.height == 1
    assert reasons(result) == {reason: detail}
    assert reason in QUARANTINE_REASONS


@pytest.mark.parametrize(
    ("overrides", "column", "value", "flag"),
    [
        ({"cost": "NaN"}, "cost_usd", None, "not_a_number"),
        ({"cost": -1}, "cost_usd", None, "negative_value"),
        ({"tokens_in": -5}, "input_tokens", None, "negative_value"),
        ({"tokens_in": "100.0"}, "input_tokens", 100, None),
        ({"error": "boom"}, "error_message", None, "error_on_success"),
        ({"ip": "nowhere"}, "client_ip_prefix", None, "bad_address"),
        ({"model": "bad\0byte"}, "model", "bad\ufffdbyte", "text_repaired"),
        ({"tokens_cached": 300}, "input_tokens", 400, "cache_exclusive"),
        ({"tokens_cached": 80}, "input_tokens", 100, None),
    ],
)
def test_what_can_be_repaired_is_kept_and_flagged(execution, overrides, column, value, flag):
    row = execution(**overrides)
    assert row[column] == value
    assert row["quality_flags"] == ([flag] if flag else [])
    assert flag is None or flag in QUALITY_FLAGS


def test_unknown_cost_is_unknown_and_never_zero(execution):
    assert (execution(cost=None)["cost_usd"], execution(cost=None)["cost_source"]) == (None, "unpriced")
    assert (execution(cost=0)["cost_usd"], execution(cost=0)["cost_source"]) == (Decimal(0), "provided")


def test_without_a_mapped_id_the_content_identifies_an_execution(cleaned, record, source):
    mapping = {name: field for name, field in source().mapping.items() if name != "execution_id"}
    one, other = record(), record(state="failed")
    parts = [
        pl.DataFrame({"record": [json.dumps(r) for r in (one, one, other)]}).with_columns(
            [pl.lit(None, dtype).alias(name) for name, dtype in POSITION.items()]
        )
    ]
    configured = source().model_copy(update={"mapping": mapping})
    from pipelines.anonymize.keys import PseudonymKey

    result = clean_records(parts, configured, PseudonymKey("k1", b"x" * 32), NOW, DAY)
    assert result.rows.height == 2
    assert result.duplicates.dropped == 1


def test_the_latest_version_of_an_execution_wins_in_any_order(cleaned, record):
    early = record(id="x", ended="2026-03-10T10:00:01Z", state="failed")
    late = record(id="x", ended="2026-03-10T10:00:09Z", state="success")
    for order in ([early, late], [late, early]):
        result = cleaned(*order)
        assert result.rows["status"].to_list() == ["success"]
        assert (result.duplicates.dropped, result.duplicates.conflicts) == (1, 1)


def test_an_exact_repetition_is_a_duplicate_without_a_conflict(cleaned, record):
    twice = record(id="x")
    assert cleaned(twice, twice).duplicates.dropped == 1
    assert cleaned(twice, twice).duplicates.conflicts == 0


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.randoms(use_true_random=False), st.lists(st.integers(0, 5), min_size=2, max_size=14))
def test_neither_order_nor_files_matter(cleaned, record, write_log, tmp_path, randomness, ids):
    rows = [record(id=f"r{n}", tokens_in=randomness.randrange(1000)) for n in ids]
    first = cleaned(*rows)
    shuffled = rows[:]
    randomness.shuffle(shuffled)
    cut = randomness.randrange(len(rows))
    write_log(*shuffled[:cut], name="b.ndjson")
    second = cleaned(*shuffled[cut:])
    (tmp_path / "logs" / "b.ndjson").unlink()
    by_id = ["execution_id"]
    assert first.rows.sort(by_id).equals(second.rows.sort(by_id))
    assert first.duplicates == second.duplicates


ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=8),
    st.lists(st.integers(), max_size=2),
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.dictionaries(
            st.sampled_from(
                ["id", "agent", "state", "started", "ended", "tokens_in", "cost", "ip", "user", "error", "prompt"]
            ),
            ODD,
            max_size=11,
        ),
        max_size=6,
    )
)
def test_whatever_comes_in_every_record_is_accounted_for(cleaned, record, oddities):
    result = cleaned(*(record(**odd) for odd in oddities), record())
    total = result.rows.height + result.quarantine.height + result.duplicates.dropped
    assert total == len(oddities) + 1
    assert result.rows.schema == EXECUTION


def test_nothing_personal_or_secret_passes(cleaned, record):
    secret = "sk-" + "proj-" + "a1B2c3D4" * 5
    rows = (
        record(
            state="failed",
            user="ophelia.canary",
            ip="203.0.113.77",
            prompt={"messages": [{"role": "user", "content": "I am ophelia.canary"}], "ophelia.canary@example.org": 1},
            error=f"key {secret} of ophelia.canary@example.org in /home/ophelia.canary/x",
            task="ask ophelia.canary@example.org",
        ),
        record(state="limbo", error="ophelia.canary@example.org", agent="x"),
        '{"user": "ophelia.canary", "error": "' + secret,
    )
    result = cleaned(*rows, attributes=["task"])
    for frame in (result.rows, result.quarantine):
        written = frame.write_json()
        assert "ophelia" not in written
        assert secret not in written
        assert "203.0.113.77" not in written
    row = result.rows.row(0, named=True)
    assert row["error_message"] == "key <secret:openai> of <email> in /home/<user>/x"
    assert json.loads(row["redactions"]) == {"email": 2, "secret:openai": 1, "user": 1}
    assert row["input_shape"] == "{<key>:int,messages:[{content:str(10-99),role:str(2-9)}]x1}"
    assert (row["input_depth"], row["input_key_count"]) == (3, 4)
    assert row["client_ip_prefix"] == "203.0.113.0/24"
    assert row["user_key"].startswith("k1_")
    assert row["attributes"] == '{"task":"ask <email>"}'


def test_the_quarantine_shows_the_structure_of_a_record_and_none_of_its_values(cleaned, record):
    result = cleaned(record(), '{"id": "run-77", "user": "ann", "secret note": "x", "tokens_in": 12')
    assert result.quarantine["excerpt"][0] == '{"id": "<6>", "user": "<3>", "<11>": "<1>", "tokens_in": <2>'
    assert result.quarantine.row(0, named=True) | {"excerpt": ""} == {
        "source": "app",
        "day": DAY,
        "file": "a.ndjson",
        "line": 2,
        "byte_offset": result.quarantine["byte_offset"][0],
        "reason": "malformed",
        "detail": None,
        "excerpt": "",
    }


def test_names_that_the_owner_calls_structure_are_shown_in_shapes_and_in_the_quarantine(cleaned, record):
    prompt = {"invoice": {"ann": 1}}
    result = cleaned(record(prompt=prompt), record(id="2", prompt=prompt, state="limbo"), payload_keys=["invoice"])
    assert result.rows["input_shape"].to_list() == ["{invoice:{<key>:int}}"]
    (excerpt,) = result.quarantine["excerpt"]
    assert '"invoice": {"<3>": <1>}' in excerpt


def test_an_id_that_is_more_than_a_token_becomes_a_pseudonym(execution):
    assert execution(id="ann@example.org/7")["execution_id"].startswith("k1_")
    assert (
        execution(id="2a74c742-95b1-433f-81dc-4e9a2006496b")["execution_id"] == "2a74c742-95b1-433f-81dc-4e9a2006496b"
    )


def test_a_clean_day_is_a_function_of_its_raw_records(source, lake, key, prices, write_log, record):
    rows = [record(tokens_in=n, started=f"2026-03-10T10:00:{n % 60:02}Z") for n in range(40)]
    write_log(*rows)
    extract(source(), [DAY], lake, NOW)
    first = clean(DAY, [source()], lake, key, prices)
    random.Random(1).shuffle(rows)
    write_log(*rows[:25], name="a.ndjson")
    write_log(*rows[25:], name="b.ndjson")
    extract(source(), [DAY], lake, NOW)
    assert clean(DAY, [source()], lake, key, prices).parts == first.parts


def test_a_raw_day_of_another_mapping_is_not_cleaned(source, lake, key, prices, write_log, record):
    write_log(record())
    with pytest.raises(StaleRawError, match="has not been extracted"):
        clean(DAY, [source()], lake, key, prices)
    extract(source(), [DAY], lake, NOW)
    with pytest.raises(StaleRawError, match="has changed since"):
        clean(DAY, [source(timezone="Europe/Berlin")], lake, key, prices)


@pytest.mark.parametrize(
    "odd",
    ["sk-" + "proj-" + "a1B2" * 8, "4111111111111111", "10.1.2.3", "ann@example.org", "/home/ann/run"],
)
def test_an_id_or_a_tool_that_holds_something_private_is_masked(execution, odd):
    row = execution(id=odd, tools=["search", odd], trace=odd, mapping={"tool_names": "tools", "trace_id": "trace"})
    for told in (row["execution_id"], row["trace_id"]):
        assert re.fullmatch(r"k1_[0-9a-f]{32}", told)
    assert row["tool_names"] == ["<tool>", "search"]


@pytest.mark.parametrize("plain", ["run-17", "2a74c742-95b1-433f-81dc-4e9a2006496b", "job:9f8b7c6d", "planner.step_3"])
def test_a_plain_id_stays_as_it_is(execution, plain):
    assert execution(id=plain)["execution_id"] == plain


def test_counts_beyond_a_trillion_are_refused_so_that_no_sum_can_wrap(cleaned, record):
    done = cleaned(record(tokens_in=10**12), record(tokens_in=10**12 + 1), record(tokens_in=2**62))
    assert done.rows.height == 1
    assert done.quarantine["detail"].to_list() == ["input_tokens", "input_tokens"]


def test_a_source_that_counts_cached_tokens_apart_says_so(execution):
    rows = [execution(tokens_in=1000, tokens_cached=n, cache_tokens="separate") for n in (900, 1001)]
    assert [(row["input_tokens"], row["quality_flags"]) for row in rows] == [(1900, []), (2001, [])]


def test_not_measured_is_not_measured_however_zero_is_written(execution):
    for zero in (0, 0.0, "0", "0.00"):
        row = execution(cost=zero, mapping={"cost_usd": {"from": "cost", "null_if": [0]}})
        assert (row["cost_usd"], row["cost_source"]) == (None, "unpriced")


def test_an_outcome_that_is_a_text_about_people_is_not_kept(cleaned, record):
    done = cleaned(record(state="Patient Jane Roe is ill"), record(state="half done"))
    assert sorted(done.quarantine["detail"]) == ["<23 characters>", "half done"]


def test_an_end_that_occurs_twice_is_the_one_after_the_start(execution):
    row = execution(started="2025-10-26T02:30:00", ended="2025-10-26T02:10:00", timezone="Europe/Berlin")
    assert row["duration_ms"] == 40 * 60_000
    assert "clock_skew" not in row["quality_flags"]

import itertools
from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest
from conftest import as_frame, enter_day
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipelines.execution import EXECUTION
from pipelines.failures import (
    CLUSTERS,
    EXECUTION_COUNTS,
    FACTS,
    History,
    categorize_failures,
    derive_clusters,
    edge_times,
    publish_clusters,
    read_facts,
    signature_facts,
)
from pipelines.failures.classify import CATEGORIES, RULES, UNKNOWN, categorize, classify
from pipelines.failures.cluster import cluster
from pipelines.failures.distinct import distinct_rows
from pipelines.failures.facets import frames
from pipelines.failures.fingerprint import (
    _ANY_VALUE,
    _JOINED,
    _SPOKEN,
    MASK,
    _mask,
    _replaced,
    identify,
    normalise,
)
from pipelines.failures.lifecycle import DECISIONS
from pipelines.failures.text import failure_text, heads
from pipelines.publication import publish_derived
from pipelines.warehouse.ledger import BusyError

NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)


def failed(message, at=NOON, number=0, **overrides):
    return {
        "source": "app",
        "execution_id": f"r{number}",
        "row_hash": "0",
        "agent_id": "a",
        "agent_name": "a",
        "status": "failed",
        "error_message": message,
        "event_time": at,
        "cost_source": "unpriced",
        "quality_flags": [],
        **overrides,
    }


def facts(*rows):
    return signature_facts(as_frame(list(rows), EXECUTION))


def clusters(facts):
    return derive_clusters(History(facts, EXECUTION_COUNTS.to_frame()))[CLUSTERS]


def identity(*texts):
    return identify(pl.Series(texts))["signature_id"].to_list()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("timed out after 100 ms", "timed out after 2.5s"),
        ("no such file: /data/a/b.csv", "no such file: /var/lib/c.csv"),
        ("request 3a2d08fb-4150-41cc-94dd-6fcee24cfbdd lost", "request 0f2d08fb-4150-41cc-94dd-6fcee24cfbd1 lost"),
        ("model gpt-4o is overloaded", "model claude-sonnet-4 is overloaded"),
        ("mail to <email> bounced  twice", "mail to <email> bounced twice"),
        ("at 2026-03-10T10:00:00Z it broke", "at 2026-04-11 11:30:00.5 it broke"),
        ("no host 10.1.2.x in the pool", "no host <ip> in the pool"),
        ("mail to ann@<secret:github> bounced", "mail to bob@<email> bounced"),
        ("could not read [1, 2, 3] of the list", "could not read [7, 8] of the list"),
        ("field 'total' is no number", "field 'net price' is no number"),
        ("worker-3 lost its lease", "worker-14 lost its lease"),
        ("google.api.Unavailable7Error: try again", "Unavailable7Error: try again"),
        ("limit=-5 is too low for it", "limit=17 is too low for it"),
        (
            'Traceback (most recent call last):\n  File "a"\nValueError: no',
            "Traceback (most recent call last):\nValueError: no",
        ),
    ],
)
def test_what_varies_does_not_make_another_failure(one, other):
    first, second = identity(one, other)
    assert first == second


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("HTTP 429 from upstream", "HTTP 503 from upstream"),
        ("connection refused", "connection reset"),
        ("ValueError: no", "KeyError: no"),
        ("could not read the file", "could not write the file"),
        ("reading an IPv4 address", "reading an IPv6 address"),
        ('"GET /v1/runs" was slow', '"POST /v1/runs" was slow'),
        ("process ended: exit code 1", "process ended: exit code 137"),
        ("the peer said 'connection refused'", "the peer said 'connection reset'"),
        ("S3Error: no answer", "S3Exception: no answer"),
    ],
)
def test_what_tells_failures_apart_stays(one, other):
    first, second = identity(one, other)
    assert first != second


words = st.text(st.characters(codec="utf-8"), max_size=80)


@settings(max_examples=80)
@given(st.lists(words, min_size=1, max_size=8))
def test_a_signature_depends_on_its_own_text_only(texts):
    together = identity(*texts)
    assert together == [identity(text)[0] for text in texts]
    assert identity(*texts[::-1]) == together[::-1]


def test_a_template_reads_well_and_keeps_the_http_status():
    told = normalise(pl.Series(["Error code: 503 - the model gpt-4o is overloaded (request id req_a1b2c3d4)"]))
    assert told["template"][0] == "Error code: <num> - the model <model> is overloaded (request id <id>) [HTTP 503]"


@pytest.mark.parametrize(
    ("text", "template"),
    [
        ("mail to <email> bounced", "mail to <email> bounced"),
        ("key <secret:github> of <none> is void", "key <secret:github> of <none> is void"),
        ("ann@<secret:aws2> is void", "ann@<secret:aws2> is void"),
        ("cannot read /home/<user>/data/3/x.csv", "cannot read /home/<user>/<path>"),
        ("cannot read C:\\Users\\<user>\\data\\x.csv", "cannot read <path>/<user>/<path>"),
        ("no route to 10.1.2.x", "no route to <ip>"),
        ("no route to 10.1.2.3", "no route to <ip>"),
        ("no route to 2001:db8:85a3:: or fe80::/10, at all", "no route to <ip> or <ip>, at all"),
        ("no route to 2001:db8:85a3:1::7", "no route to <ip>"),
        ("10.1.2.x:5432 or db-1.example.com:5432 is down", "<ip>:<port> or <host>:<port> is down"),
        ("peer 00:1b:44:11:3a:b7 is gone", "peer <mac> is gone"),
        ("std::bad_alloc at main.py:12", "std::bad_alloc at <path>:<line>"),
        ("called by app.Window.draw$Rect:120", "called by app.Window.draw$Rect:<num>"),
        ("called by app.windowManager.draw:120", "called by <name>:<line>"),
        ("v 1.2.3 took 3 ms, 7 of 8 KB", "v <version> took <duration>, <num> of <size>"),
        (
            "https://x.y/z lost 550e8400-e29b-41d4-a716-446655440000 at 2026-03-10T10:00:00Z",
            "<url> lost <uuid> at <time>",
        ),
        ("nul \0 is dropped, 'a b' is not", "nul is dropped, <text> is not"),
        ("", ""),
        (None, None),
    ],
)
def test_a_template_names_values_by_type_and_keeps_what_the_sanitizer_put_in(text, template):
    assert normalise(pl.Series([text], dtype=pl.String))["template"].to_list() == [template]


def test_a_failure_without_words_is_its_outcome():
    rows = as_frame([failed(None), failed(None, error_type="Boom"), failed("Boom: no", error_type="Boom")], EXECUTION)
    assert rows.select(failure_text()).to_series().to_list() == ["failed", "Boom", "Boom: no"]


@pytest.mark.parametrize(
    ("text", "category"),
    [
        ("Rate limit reached for gpt-4o", "rate_limit"),
        ("This model's maximum context length is 8192 tokens", "context_length"),
        ("Request timed out.", "ai_timeout"),
        ("401 Unauthorized", "auth"),
        ("Error code: 503 - overloaded", "provider_error"),
        ("connection refused by 10.0.0.x:5432", "network"),
        ("ModuleNotFoundError: No module named 'x'", "dependency_error"),
        ("SyntaxError: invalid syntax", "syntax_error"),
        ("1 validation error for Invoice", "validation_error"),
        ("tool search failed: no result", "tool_error"),
        ("something odd", "unknown"),
        (None, None),
    ],
)
def test_a_text_has_a_category(text, category):
    assert categorize(pl.Series([text], dtype=pl.String)).to_list() == [category]


def test_only_failures_have_a_category():
    rows = as_frame([failed("HTTP 429"), failed("HTTP 429", status="success")], EXECUTION)
    assert categorize_failures(rows).to_list() == ["rate_limit", None]


def test_every_category_has_a_name_of_its_own():
    names = [category.name for category in (*CATEGORIES, UNKNOWN)]
    assert len(names) == len(set(names))


def test_facts_of_a_day_tell_how_often_when_and_who():
    told = facts(
        failed("disk 7 is full", NOON + timedelta(hours=2), 1, user_key="u2"),
        failed("disk 8 is full", NOON, 2, user_key="u1"),
        failed("disk 8 is full", NOON + timedelta(hours=1), 3, user_key="u1"),
        failed("fine", NOON, 4, status="success"),
        failed("disk 9 is full", NOON, 5, agent_version="2", release="r"),
    )
    assert told.select("agent_version", "release", "occurrence_count").rows() == [("2", "r", 1), (None, None, 3)]
    told = told.row(1, named=True)
    assert told["user_keys"] == ["u1", "u2"]
    assert (told["first_seen_at"], told["last_seen_at"]) == (NOON, NOON + timedelta(hours=2))
    assert told["sample_execution_ids"] == ["r2", "r3", "r1"]


def test_a_session_counts_where_a_failure_hit_it_first_and_as_ended_where_nothing_came_after():
    told = facts(
        failed("disk 7 is full", NOON, 1, session_key="s", model="m"),
        failed("disk 8 is full", NOON + timedelta(hours=1), 2, session_key="s"),
        failed("disk 8 is full", NOON + timedelta(hours=2), 3, session_key="t"),
        failed("fine", NOON + timedelta(hours=3), 4, session_key="t", status="success"),
        failed("disk 8 is full", NOON + timedelta(hours=4), 5),
    )
    assert told.select("model", "session_count", "ended_session_count").rows() == [("m", 1, 0), (None, 1, 1)]


def test_runs_with_such_an_input_are_those_of_the_cell_that_failed():
    told = facts(
        failed("disk 7 is full", number=1, input_shape_id="x"),
        failed("disk 8 is full", number=2, input_shape_id="x"),
        failed("disk 8 is full", number=3),
        failed("fine", number=4, input_shape_id="x", status="success"),
        failed("fine", number=5, input_shape_id="y", status="success"),
        failed("fine", number=6, input_shape_id="x", status="success", agent_version="2"),
    )
    assert told.select("occurrence_count", "shaped_count", "same_input_count").rows() == [(3, 2, 3)]


@pytest.mark.parametrize("count", range(1, 9))
def test_the_edge_times_of_a_day_name_each_occurrence_once(count):
    times = [NOON + timedelta(minutes=n) for n in range(count)]
    told = facts(*(failed("boom", at, n) for n, at in enumerate(times))).select(edge_times()).to_series()[0].to_list()
    assert told == (times if count <= 5 else times[:3] + times[-2:])


def test_facts_have_their_schema_also_without_failures():
    assert facts().schema == FACTS
    assert facts(failed("x")).schema == FACTS


def clusters_of(*keys):
    """The cluster of each key, as a set of keys."""
    rows = pl.DataFrame({"signature_id": keys, "match_key": keys, "day": [0] * len(keys)}, schema=SIGNATURES)
    members = cluster(rows).members
    whole = {of_it: frozenset(group["signature_id"]) for (of_it,), group in members.group_by("cluster_id")}
    return {key: whole[of_it] for key, of_it, _ in members.rows()}


SIGNATURES = {"signature_id": pl.String, "match_key": pl.String, "day": pl.Int64}


def count(*keys):
    return len(set(clusters_of(*keys).values()))


def test_three_different_words_in_one_place_are_one_failure_and_two_are_not():
    keys = [f"could not open the table {name} because it is locked" for name in ("orders", "users", "items")]
    assert count(*keys[:2]) == 2
    assert count(*keys) == 1


def test_few_words_need_more_values_and_identifiers_fewer():
    assert count(*(f"lost {name} again" for name in "ab cd ef gh ij".split())) == 5
    assert count(*(f"lost {name} again" for name in "ab cd ef gh ij kl".split())) == 1
    assert count(*(f"lost the queue {name} again" for name in ("jobs.daily", "jobs.hourly"))) == 1
    assert count(*(f"lost the queue {name} again" for name in ("jobs", "runs"))) == 2


def test_a_value_of_a_field_may_vary_and_its_name_may_not():
    assert count("no lock for owner=ann at all", "no lock for owner=bob at all") == 1
    assert count("no lock for owner=<*> at all", "no lock for holder=<*> at all") == 2


@pytest.mark.parametrize(
    "words",
    [
        ("refused", "reset", "denied", "closed"),
        ("TypeError", "KeyError", "OSError", "LookupError"),
        ("@app.run", "@app.stop", "@db.read", "@db.write"),
        ("429", "500", "502", "503"),
        ("not", "no", "read", "write"),
    ],
)
def test_words_that_say_what_happened_are_never_a_variable(words):
    assert count(*(f"the connection to the main server was {word} by it" for word in words)) == 4


sentences = st.lists(
    st.tuples(
        st.sampled_from(["open", "load", "Load"]),
        st.sampled_from([*"abcdefg", "a.b", "c.d", "<*>"]),
        st.sampled_from(["now", "then", "once", "x=1", "x=y"]),
    ),
    max_size=25,
).map(lambda rows: [f"could not {verb} the table {name} of the shop {when}" for verb, name, when in rows])


@settings(max_examples=120)
@given(sentences, sentences, st.randoms())
def test_clusters_have_no_order_and_more_data_only_merge_them(some, more, random):
    before, everything = clusters_of(*some), some + more
    random.shuffle(everything)
    after = clusters_of(*everything)
    assert after == clusters_of(*some, *more)
    for key in some:
        assert before[key] <= after[key]


@settings(max_examples=50)
@given(st.lists(st.tuples(st.sampled_from("abcdefgh"), st.integers(0, 3)), min_size=1, max_size=20), st.randoms())
def test_a_cluster_is_named_by_its_earliest_member(seen, random):
    rows = [(f"{name}{day}", f"could not open the table {name} of the shop", day) for name, day in seen]
    random.shuffle(rows)
    members = cluster(pl.DataFrame(rows, schema=SIGNATURES, orient="row")).members
    day_of = {identifier: day for identifier, _, day in rows}
    for (cluster_id,), of_it in members.group_by("cluster_id"):
        assert cluster_id == min(of_it["signature_id"], key=lambda one: (day_of[one], one))


def test_a_cluster_tells_what_its_keys_agree_on_and_why_it_is_one():
    keys = [
        f"could not open  the table {name} (of {shop})"
        for name in ("orders", "users", "items")
        for shop in ("a1.x", "b2.y")
    ]
    found = cluster(pl.DataFrame([(key, key, 0) for key in keys], schema=SIGNATURES, orient="row"))
    assert found.members["template"].unique().to_list() == ["could not open  the table <?> (of <?>)"]
    merges = found.merges(found.members["cluster_id"][0])
    assert merges.filter(pl.col("position") == 5)["values"].to_list() == [["items", "orders", "users"]] * 3
    assert merges["pattern"].to_list()[-1] == "could not open  the table <?> (of <?>)"
    assert set(merges.filter(pl.col("pattern").str.ends_with("(of a1.x)"))["position"]) == {5}


def test_the_template_of_a_cluster_is_not_chosen_by_what_else_there_is():
    keys = [f"got type {got} where {wanted} stood in the call" for got in ("ab", "cd", "ef") for wanted in ("gh", "ij")]

    def template(*more):
        found = cluster(pl.DataFrame([(key, key, 0) for key in (*keys, *more)], schema=SIGNATURES, orient="row"))
        return found.members.filter(pl.col("signature_id") == keys[0])["template"].item()

    assert {template(*(f"{name} {n}" for n in range(n))) for n, name in enumerate("abcdefgh")} == {
        "got type <?> where gh stood in the call"
    }


texts_with_values = st.lists(
    st.sampled_from(
        [
            "open",
            "the",
            "'a b'",
            "/x/y/z",
            "17",
            "3 ms",
            "a1b2",
            "\n",
            "<email>",
            "é",
            "KeyError:",
            "=",
            "[",
            "{'a': 1}",
            "503",
        ]
    ),
    max_size=12,
).map(" ".join)


@settings(max_examples=80)
@given(st.lists(texts_with_values, min_size=1, max_size=12), st.integers(0, 12))
def test_batches_and_repetition_do_not_matter_to_a_signature(texts, split):
    whole = identify(pl.Series(texts, dtype=pl.String))
    parts = [identify(pl.Series(part, dtype=pl.String)) for part in (texts[:split], texts[split:])]
    assert whole.equals(pl.concat(parts))
    assert identify(pl.Series(texts * 3, dtype=pl.String)).equals(pl.concat([whole] * 3))
    assert normalise(pl.Series(texts, dtype=pl.String))["match_key"].equals(whole["match_key"])


@settings(max_examples=150)
@given(
    st.lists(
        st.lists(st.sampled_from([*"a 5.'\"AZ-<*>\t", "..", "Error", "b.C", "D7Error", " failed"]), max_size=9).map(
            "".join
        ),
        min_size=1,
        max_size=12,
    )
)
@example(["x ' failed'", "x ' failed' y"])
def test_what_is_not_loose_is_masked_as_by_all_rules(texts):
    shapes = pl.DataFrame({"text": texts}, schema={"text": pl.String})
    by_all = _replaced(shapes, *_SPOKEN, (_ANY_VALUE, MASK), *_JOINED)["text"].str.strip_chars()
    assert _mask(shapes)["text"].to_list() == by_all.to_list()


@given(st.lists(st.tuples(st.sampled_from(["a", "b", None]), st.integers(0, 2)), max_size=20))
def test_rows_are_the_distinct_ones_at_their_places(rows):
    table = pl.DataFrame(rows, schema={"x": pl.String, "y": pl.Int64}, orient="row")
    distinct, place = distinct_rows(table)
    assert distinct.rows() == list(dict.fromkeys(rows))
    assert distinct[place].rows() == rows


@pytest.mark.parametrize(
    ("text", "head"),
    [
        ("one\n\n two \nthree", "one two"),
        ('Traceback (most recent call last):\n  File "a.py", line 1, in f\na.b.AppError: no\nbye', "a.b.AppError: no"),
        (
            "java.lang.IllegalStateException: no\n\tat a.B.c(B.java:1)\nCaused by: java.io.IOException: disk",
            "java.io.IOException: disk",
        ),
        (
            "Error code: 429 - {'error': {'message': 'slow down', 'type': 'tokens', 'code': 'rate_limit'}}",
            "Error code: 429: rate_limit: slow down",
        ),
        ('{"error": {"message": "say \\"please\\"", "code": "rude"}}', 'rude: say "please"'),
        ("bad value {'a': 1} given", "bad value {'a': 1} given"),
        (
            (
                "2 validation errors for Invoice\ntotal\n  bad [type=float_parsing, input=1]\nvat\n"
                "  x [type=float_parsing]\na [type=bool]"
            ),
            "2 validation errors for Invoice bool float_parsing",
        ),
        ("start\nstep 1\nstep 2\nERROR disk is full\nbye", "ERROR disk is full"),
        ("\x1b[31mred\x1b[0m", "red"),
        (None, None),
    ],
)
def test_the_head_of_a_text_is_what_tells_the_failure(text, head):
    assert heads(pl.Series([text], dtype=pl.String)).to_list() == [head]


def test_a_message_has_facets():
    told = normalise(
        pl.Series(
            ["openai.RateLimitError: Error code: 429 from https://api.openai.com/v1 for tool search, exit code 3"]
        )
    ).row(0, named=True)
    assert {
        name: told[name] for name in ("exception_type", "http_status", "exit_code", "host", "tool", "provider")
    } == {
        "exception_type": "RateLimitError",
        "http_status": "429",
        "exit_code": "3",
        "host": "api.openai.com",
        "tool": "search",
        "provider": "openai",
    }


def test_what_the_sanitizer_put_in_and_the_name_of_an_exception_are_no_facets():
    told = normalise(pl.Series(["ToolExecutionError: key <secret:openai> was refused"])).row(0, named=True)
    assert (told["provider"], told["tool"]) == (None, None)


PYTHON = (
    'Traceback (most recent call last):\n  File "/home/<user>/app/{}.py", line 8, in {}\n    x()\n'
    '  File "/usr/lib/site-packages/lib/core.py", line 9, in go\n'
)


@pytest.mark.parametrize(
    ("stack", "told"),
    [
        (PYTHON.format("runner", "step"), ["runner.step"]),
        ('File "/usr/lib/site-packages/lib/core.py", line 9, in go', ["core.go"]),
        ("TypeError: no\n    at load (/srv/app/reader.js:1:2)\n    at node:internal/main:3:4", ["reader.load"]),
        ("\tat com.shop.Cart.total(Cart.java:7)\n\tat java.util.List.get(List.java:1)", ["Cart.total"]),
        ("no frames here", None),
        (None, None),
    ],
)
def test_frames_are_named_without_lines_and_folders_ours_before_others(stack, told):
    assert frames(pl.Series([stack], dtype=pl.String)).to_list() == [told]


def test_frames_join_the_key_only_where_little_else_is_said():
    stacks = pl.Series([PYTHON.format("runner", "step"), PYTHON.format("reader", "load")])
    short = identify(pl.Series(["KeyError: 'total'"] * 2), stacks)["match_key"].to_list()
    assert short == ["KeyError: <*> @runner.step", "KeyError: <*> @reader.load"]
    long = identify(pl.Series(["KeyError: no column of that name"] * 2), stacks)["match_key"]
    assert long.to_list() == ["KeyError: no column of that name"] * 2
    assert classify(pl.Series([*short, None]))["rule"].to_list() == ["validation_error.exception"] * 2 + [None]


def test_every_rule_leads_to_a_category_and_every_category_has_a_rule():
    assert {rule.category for rule in RULES} == {category.name for category in CATEGORIES}
    assert len({rule.id for rule in RULES}) == len(RULES)


def test_a_category_comes_with_its_evidence():
    told = classify(pl.Series(["the server was overloaded [HTTP 529]", "something odd"]))
    assert told.row(0) == ("provider_error", "high", "provider", True, "provider_error.words", "overloaded")
    assert told.row(1) == ("unknown", "medium", "unknown", False, None, None)


def day_facts(day, *messages):
    at = datetime.combine(day, datetime.min.time(), tzinfo=UTC)
    return facts(*(failed(message, at + timedelta(minutes=n), n) for n, message in enumerate(messages)))


def test_a_clusters_id_is_its_earliest_member_so_that_every_id_resolves():
    days = [date(2026, 3, 10) + timedelta(days=n) for n in range(3)]
    names = ("orders", "users", "items")
    daily = [
        day_facts(day, f"could not open the table {name} of the shop") for day, name in zip(days, names, strict=True)
    ]
    first = daily[0]["signature_id"][0]
    told = clusters(pl.concat(daily[::-1]))
    assert told.select("cluster_id", "occurrence_count", "day_count").rows() == [(first, 3, 3)]
    published = {identifier for n in (1, 2, 3) for identifier in clusters(pl.concat(daily[:n]))["cluster_id"]}
    assert published <= set(told["signature_ids"][0])
    assert clusters(pl.concat(daily)).equals(told)


def test_the_title_of_a_cluster_is_what_its_messages_agree_on():
    day = date(2026, 3, 10)
    rows = [f"could not open the table {name} of the shop at 10.1.{n}.x" for n, name in enumerate(("or", "us", "it"))]
    (title,) = clusters(day_facts(day, *rows))["title"]
    assert title == "could not open the table <?> of the shop at <ip>"
    assert clusters(day_facts(day, rows[0]))["title"].to_list() == [rows[0].replace("10.1.0.x", "<ip>")]


def test_no_failures_make_no_clusters():
    told = derive_clusters(History(FACTS.to_frame(), EXECUTION_COUNTS.to_frame()))
    assert [rows.height for rows in told.values()] == [0] * len(told)


def test_published_facts_read_back_as_they_were(warehouse, prices):
    rows = as_frame([failed("boom 1", number=1, user_key="u"), failed('é \\ "', number=2)], EXECUTION)
    facts = publish_derived(enter_day(warehouse, NOON.date(), rows), warehouse, prices).tables[
        "failure_signatures_daily"
    ]
    assert read_facts(warehouse).equals(facts)
    clusters = publish_clusters(warehouse)[CLUSTERS]
    stored = warehouse.read("select cluster_id, occurrence_count from agentmill.failure_clusters order by 1").rows()
    assert stored == clusters.select("cluster_id", "occurrence_count").sort("cluster_id").rows()


def test_clusters_follow_the_days_they_were_derived_from(warehouse, prices):
    def publish(content, *messages):
        rows = as_frame([failed(message, number=n) for n, message in enumerate(messages)], EXECUTION)
        publish_derived(enter_day(warehouse, NOON.date(), rows, content), warehouse, prices)
        return publish_clusters(warehouse)[CLUSTERS].height

    assert publish("one", "boom", "bang: the disk is full") == 2
    assert publish("two", "boom") == 1
    assert warehouse.read("select count(*) from agentmill.failure_clusters").item() == 1


def test_clusters_of_facts_that_changed_meanwhile_are_not_published(warehouse, prices, monkeypatch):
    def publish(content, *messages):
        rows = as_frame([failed(message, number=n) for n, message in enumerate(messages)], EXECUTION)
        publish_derived(enter_day(warehouse, NOON.date(), rows, content), warehouse, prices)

    publish("one", "boom")

    def read_while_another_publishes(warehouse):
        publish("two", "boom", "bang: the disk is full")
        return read_facts(warehouse)

    monkeypatch.setattr("pipelines.failures.derived.read_facts", read_while_another_publishes)
    with pytest.raises(BusyError):
        publish_clusters(warehouse)
    monkeypatch.undo()
    assert publish_clusters(warehouse)[CLUSTERS].height == 2


def test_failures_that_vary_in_many_words_are_one():
    words = [[f"{name}{n}" for n in ("alpha", "beta", "gamma")] for name in "abcdefgh"]
    keys = [f"the request could not be completed because {' '.join(chosen)}" for chosen in itertools.product(*words)]
    assert count(*keys) == 1


def test_two_words_may_vary_together():
    assert (
        count(*(f"tool {name} of the agent stopped at step {name}{n}" for name in ("ab", "cd", "ef") for n in "xyz"))
        == 1
    )


@pytest.mark.parametrize(
    ("text", "category"),
    [
        ("Error code: 429 - slow down", "rate_limit"),
        ("Client error '503 Service down'", "provider_error"),
        ("failed at line 403", "unknown"),
        ("copied 500 of 900 files", "unknown"),
        ("bad option user_timeout_setting", "unknown"),
        ("APITimeoutError: no answer", "ai_timeout"),
        ("ReadTimeout: the pool is empty", "ai_timeout"),
        ("row 429 failed", "unknown"),
    ],
)
def test_numbers_tell_a_category_only_where_they_are_a_status(text, category):
    assert categorize(pl.Series([text])).to_list() == [category]


def history_of(facts, *decided, **told):
    rows = [{"decision_id": n, "decided_by": "kim", "reason": "x", **one} for n, one in enumerate(decided)]
    return History(facts, EXECUTION_COUNTS.to_frame(), pl.DataFrame(rows, schema=DECISIONS), **told)


def test_decisions_under_ids_of_earlier_rules_hold_after_days_were_run_again():
    day = day_facts(date(2026, 3, 10), "the disk is full")
    (new,) = day["signature_id"]
    muted = {"cluster_id": "old", "action": "mute", "effective_at": NOON + timedelta(days=9), "until_escalating": False}
    told = derive_clusters(history_of(day, muted, aliases={"old": "mid", "mid": new}))
    assert told["failure_states"]["state"].to_list() == ["muted"]
    assert told["failure_cluster_signatures"].select("signature_id", "cluster_id").rows() == sorted(
        [("mid", new), ("old", new), (new, new)]
    )


def test_a_decision_outlives_the_signature_that_it_named():
    """The first day of the failure is gone, with a user who was erased: what was decided holds for what is left."""
    names = ("orders", "users", "items")
    days = [
        day_facts(date(2026, 3, 10 + n), f"could not open the table {name} of the shop") for n, name in enumerate(names)
    ]
    first, second, third = (day["signature_id"][0] for day in days)
    muted = {"cluster_id": first, "action": "mute", "effective_at": NOON + timedelta(days=9), "until_escalating": False}
    named = [(first, [first, second, *others])]
    left = derive_clusters(history_of(pl.concat(days[1:]), muted, named=named))
    assert set(left["failure_states"]["state"]) == {"muted"}
    known = dict(left["failure_cluster_signatures"].select("signature_id", "cluster_id").iter_rows())
    assert known[first] == known[second]
    without = derive_clusters(history_of(pl.concat(days[1:]), muted))
    assert set(without["failure_states"]["state"]) == {"new"}

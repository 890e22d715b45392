import math

import polars as pl
import pytest
from conftest import database_url
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.rollup.sketch import ACCURACY, SMALLEST, bucket, count, merge, quantile, sketches
from pipelines.warehouse.connection import Warehouse
from pipelines.warehouse.migrations import upgrade

QUANTILES = (0.0, 0.25, 0.5, 0.95, 0.99, 1.0)


@pytest.fixture(scope="module")
def shared(embedded_server):
    """A warehouse for questions to functions, which leave nothing behind."""
    warehouse = Warehouse(database_url(embedded_server, "test_sketch"))
    upgrade(warehouse)
    return warehouse


def sketch_of(values):
    rows = pl.DataFrame({"value": values}, schema={"value": pl.Float64}).with_columns(bucket("value"), group=0)
    told = sketches(rows["group"], rows["value"])["sketch"]
    return told[0].to_list() if told.len() else None


lognormal = st.builds(lambda z: math.exp(8 + 2 * z), st.floats(-4, 4))
bimodal = st.one_of(st.floats(50, 60), st.floats(90_000, 100_000))
values = st.one_of(
    st.lists(lognormal, min_size=1, max_size=300),
    st.lists(bimodal, min_size=1, max_size=300),
    st.builds(lambda value, n: [value] * n, lognormal, st.integers(1, 300)),
    st.lists(st.just(0.0) | lognormal, min_size=1, max_size=100),
    st.lists(st.integers(0, 2**53).map(float) | st.floats(SMALLEST, 1e15), min_size=1, max_size=100),
)


@given(values, st.sampled_from(QUANTILES) | st.floats(0, 1))
def test_a_quantile_is_within_one_percent_of_the_value_of_its_rank(given_values, q):
    exact = sorted(given_values)[math.floor(q * (len(given_values) - 1))]
    assert quantile(sketch_of(given_values), q) == pytest.approx(exact, rel=ACCURACY + 1e-9, abs=SMALLEST)


@given(st.lists(values, min_size=1, max_size=4), st.randoms())
def test_sketches_merge_in_any_order_to_the_sketch_of_all_values(parts, random):
    whole = [sketch_of(part) for part in parts]
    random.shuffle(parts)
    assert merge(pl.Series(whole)) == sketch_of([value for part in parts for value in part])
    nested = [merge(pl.Series(whole[:1])), merge(pl.Series([None, *whole[1:]], dtype=pl.List(pl.Int64)))]
    assert merge(pl.Series(nested, dtype=pl.List(pl.Int64))) == merge(pl.Series(whole))
    assert count(pl.Series(whole)) == sum(map(len, parts))


def test_a_sketch_is_pairs_by_bucket_and_nothing_known_is_null():
    assert sketch_of([]) is None
    assert merge(pl.Series([None], dtype=pl.List(pl.Int32))) is None
    assert quantile(None, 0.5) is None
    assert sketch_of([1.0, 1.0, 0.0, math.e]) == [-1037, 1, 0, 2, 50, 1]


@settings(max_examples=40)
@given(st.lists(st.none() | values, max_size=5))
def test_sql_merges_counts_and_reads_sketches_as_python_does(shared, parts):
    stored = [None if part is None else sketch_of(part) for part in parts]
    told = shared.read(
        "with part as (select pairs::integer[] as sketch from unnest(%s::text[]) as pairs), "
        "merged as (select agentmill.sketch_merge(sketch) as sketch from part) "
        "select sketch, agentmill.sketch_count(sketch), array(select agentmill.sketch_quantile(sketch, q) "
        "from unnest(%s::float8[]) as q) from merged",
        [[None if sketch is None else "{" + ",".join(map(str, sketch)) + "}" for sketch in stored], list(QUANTILES)],
    ).row(0)
    merged = merge(pl.Series(stored, dtype=pl.List(pl.Int64)))
    assert (None if told[0] is None else list(told[0])) == merged
    assert told[1] == (sum(merged[1::2]) if merged else None)
    for in_sql, q in zip(told[2], QUANTILES, strict=True):
        assert in_sql == (None if merged is None else pytest.approx(quantile(merged, q), rel=1e-12))


def test_sketches_of_groups_merged_in_parallel_are_those_of_all(shared):
    with shared.connect() as connection:
        connection.execute(
            "create table public.part as select n % 7 as grp, array[n % 50, 1, 60 + n % 3, 2] as sketch "
            "from generate_series(1, 60000) as n"
        )
        try:
            for name, value in (
                ("parallel_setup_cost", "0"),
                ("parallel_tuple_cost", "0"),
                ("min_parallel_table_scan_size", "0"),
            ):
                connection.execute("select set_config(%s, %s, false)", [name, value])
            question = "select grp, agentmill.sketch_merge(sketch) from public.part group by grp order by grp"
            plan = "\n".join(line for (line,) in connection.execute("explain " + question))
            assert "Partial" in plan
            together = connection.execute(question).fetchall()
            connection.execute("set max_parallel_workers_per_gather = 0")
            assert connection.execute(question).fetchall() == together
            assert sum(sum(sketch[1::2]) for _, sketch in together) == 3 * 60000
        finally:
            connection.execute("drop table public.part")


def test_a_quantile_outside_zero_to_one_is_null(shared):
    for sketch, q in (([3, 1], 1.1), ([3, 1], -0.1), ([3, 1], None), ([], 0.5)):
        assert shared.read("select agentmill.sketch_quantile(%s::bigint[], %s)", [sketch, q]).item() is None

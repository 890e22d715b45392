"""Views of users: figures as a recount tells them, and groups of few users hidden so that nothing gives them away."""

import statistics
from collections import Counter, defaultdict
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import polars as pl
import psycopg
import pytest
from conftest import as_frame
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.execution import EXECUTION
from pipelines.failures import categorize_failures
from pipelines.pricing.book import load_prices
from pipelines.record_types import USER_AGENT_PREFERENCES
from pipelines.rollup import AGENT_DAILY, CUBE_DAILY, USER_DAILY, compute
from pipelines.settings import Settings
from pipelines.warehouse import open_warehouse
from pipelines.warehouse.copying import copy_frame
from pipelines.warehouse.ledger import Load
from pipelines.warehouse.migrations import downgrade, upgrade
from pipelines.warehouse.publish import publish_partition
from pipelines.warehouse.query import ask

PRICES = load_prices()
MONDAY = datetime(2026, 3, 16, tzinfo=UTC)
"""Clocks change in Europe on the second Sunday after it, and in Lord Howe on the third."""
LAST_DAY = date(2026, 4, 7)


def ran(at, user="u", agent="a", **overrides):
    return {
        "source": "app",
        "execution_id": f"{at}",
        "row_hash": "0",
        "agent_id": agent,
        "agent_name": agent,
        "user_key": user,
        "status": "success",
        "event_time": at,
        "cost_source": "unpriced",
        "quality_flags": [],
        **overrides,
    }


def fill(connection, rows):
    """Make the rollups those of these executions, and nothing else."""
    tables = compute(as_frame(rows, EXECUTION).sort("event_time"), categorize_failures, PRICES)
    for name in (USER_DAILY, AGENT_DAILY, CUBE_DAILY):
        connection.execute(f"delete from agentmill.{name}")
        if tables[name].height:
            copy_frame(connection, tables[name], "agentmill", name)


def load(connection, last_day=LAST_DAY, table=USER_DAILY):
    connection.execute(
        "insert into agentmill.load_ledger (table_name, day, load_id, content_sha256, row_count, code_version) "
        "values (%s, %s, gen_random_uuid(), '', 0, '')",
        [table, last_day],
    )


def let(connection, k):
    connection.execute("update agentmill.privacy_policy set minimum_group_size = %s", [k])


def rows_of(connection, view, order="1, 2, 3"):
    cursor = connection.execute(f"select * from agentmill.{view} order by {order}")
    names = [column.name for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def suppress(connection, user_counts, k, *, overlapping=False):
    """Places of the hidden cells, and whether the total is hidden."""
    told = connection.execute(
        "select cell, is_hidden, hidden_cell_count, is_total_hidden "
        "from agentmill.suppress_cells(%s, %s, %s) order by 1",
        [user_counts, k, overlapping],
    ).fetchall()
    hidden = {cell - 1 for cell, is_hidden, _, _ in told if is_hidden}
    assert [cell for cell, *_ in told] == list(range(1, len(user_counts) + 1))
    assert {count for _, _, count, _ in told} <= {len(hidden)}
    return hidden, any(row[3] for row in told)


@pytest.fixture
def connection(warehouse):
    with warehouse.connect() as connection:
        yield connection


COUNTS = st.lists(st.integers(0, 12), max_size=8)


def ways_to_share(users, cells):
    """Some ways to share out users so that each cell has one at least: two, if there are as many."""
    spare = users - cells
    return {(1 + one, 1 + spare - one) for one in range(spare + 1)} if cells >= 2 else {(users,)}


def test_no_total_gives_a_hidden_cell_away(connection):
    @settings(max_examples=400)
    @given(COUNTS, st.integers(2, 7), st.booleans())
    def check(counts, k, overlapping):
        hidden, is_total_hidden = suppress(connection, counts, k, overlapping=overlapping)
        small = {cell for cell, count in enumerate(counts) if 0 < count < k}
        people = {cell for cell, count in enumerate(counts) if count}
        assert hidden >= small
        if not small:
            assert (hidden, is_total_hidden) == (set(), False)
            return

        def is_enough(cells):
            if overlapping:
                return max((counts[cell] for cell in cells), default=0) >= k
            return sum(counts[cell] for cell in cells) >= k + len(cells)

        assert is_total_hidden == (len(people) < 2 or not is_enough(people))
        if is_total_hidden:
            assert len(hidden) == len(counts)
            return
        assert hidden <= people  # zeros are shown
        assert len(hidden) >= 2
        assert is_enough(hidden)
        assert overlapping or len(ways_to_share(sum(counts[cell] for cell in hidden), len(hidden))) > 1
        # The hidden cells are the smallest ones, and one fewer would not do.
        assert max(counts[cell] for cell in hidden) <= min((counts[cell] for cell in people - hidden), default=99)
        largest = max(hidden, key=lambda cell: (counts[cell], cell))
        rest = hidden - {largest}
        assert largest in small or len(rest) < 2 or not is_enough(rest)

    check()


def test_a_larger_minimum_hides_no_less(connection):
    @settings(max_examples=200)
    @given(COUNTS, st.integers(2, 7), st.booleans())
    def check(counts, k, overlapping):
        less, _ = suppress(connection, counts, k, overlapping=overlapping)
        more, _ = suppress(connection, counts, k + 1, overlapping=overlapping)
        assert less <= more

    check()


@pytest.mark.parametrize(
    ("counts", "hidden"),
    [
        ([5, 9, 0], set()),
        ([3, 9, 20, 0], {0, 1}),
        ([3, 4, 20], {0, 1}),
        ([3, 3, 20], {0, 1, 2}),  # 6 of two that are one at least leave too little
        ([1, 2, 20, 20], {0, 1, 2}),
        ([1, 1, 1, 1, 1, 100], {0, 1, 2, 3, 4, 5}),  # 5 of five would be one each
        ([1, 1, 1, 1, 1], {0, 1, 2, 3, 4}),
        ([4, 0, 0], {0, 1, 2}),
        ([0, 0], set()),
        ([], set()),
    ],
)
def test_the_smallest_cells_are_hidden(connection, counts, hidden):
    assert suppress(connection, counts, 5)[0] == hidden


def hide(counts, k):
    """The rule told once more: hidden places, for cells of distinct users."""
    small = [place for place, count in enumerate(counts) if 0 < count < k]
    people = sorted((place for place, count in enumerate(counts) if count), key=lambda place: (counts[place], place))
    if not small:
        return set()
    for length in range(max(2, len(small)), len(people) + 1):
        if sum(counts[place] for place in people[:length]) >= k + length:
            return set(people[:length])
    return set(range(len(counts)))


def week_of(at):
    return (at - timedelta(days=at.weekday())).date()


RUNS = st.lists(
    st.builds(
        lambda day, minutes, user, agent, kind, status, spent: ran(
            MONDAY + timedelta(days=day, minutes=minutes),
            f"u{user}" if user else None,
            agent,
            execution_type=kind,
            status=status,
            credits=spent,
        ),
        st.integers(0, 22),
        st.sampled_from([0, 30, 600, 635, 1065, 1425]),  # few, so that hours repeat
        st.integers(0, 9),
        st.sampled_from("abc"),
        st.sampled_from(["chat", "task", None]),
        st.sampled_from(["success", "failed", "cancelled"]),
        st.none() | st.integers(0, 100).map(Decimal),
    ),
    max_size=80,
)


def hide_of_week(column, cohorts, hidden_cohorts, week, k):
    """Cohorts whose active users of a week are hidden, so that the total of the week gives none away."""
    small = {
        start
        for start, active in column.items()
        if start in hidden_cohorts or hide([active, cohorts[start] - active], k)
    }
    order = sorted(
        column, key=lambda start: (start not in small, column[start] == 0, start == week, column[start], start)
    )
    for length in range(len(small), len(order) + 1):
        total = sum(column[start] for start in order[:length])
        if not small or total == 0 or (length >= 2 and total >= k + length):
            return set(order[:length])
    return set(order)


def test_retention_is_what_a_recount_tells(connection):
    load(connection)

    @settings(max_examples=40)
    @given(RUNS, st.integers(2, 4))
    def check(rows, k):
        fill(connection, rows)
        let(connection, k)
        weeks = defaultdict(set)
        for row in rows:
            if row["user_key"]:
                weeks[row["user_key"]].add(week_of(row["event_time"]))
        cohorts = Counter(min(of_user) for of_user in weeks.values())
        starts = sorted(cohorts)
        hidden = {starts[place] for place in hide([cohorts[start] for start in starts], max(k, 3))}
        cells = {
            (start, start + timedelta(weeks=since)): sum(
                min(of_user) == start and start + timedelta(weeks=since) in of_user for of_user in weeks.values()
            )
            for start in starts
            for since in range((LAST_DAY - start).days // 7 + 1)
        }
        hidden_cells = set()
        for week in {week for _, week in cells}:
            column = {start: active for (start, of), active in cells.items() if of == week}
            hidden_cells |= {(start, week) for start in hide_of_week(column, cohorts, hidden, week, k)}
        hidden |= {start for start, week in hidden_cells if start == week}
        expected = []
        for start in starts:
            for since in range((LAST_DAY - start).days // 7 + 1):
                week, size = start + timedelta(weeks=since), cohorts[start]
                active = cells[start, week]
                is_hidden = start in hidden or (start, week) in hidden_cells
                shown = (None,) * 3 if is_hidden else (active, size - active, active / size)
                is_complete = week + timedelta(days=6) <= LAST_DAY
                size_shown = None if start in hidden else size
                expected.append((start, since, week, size_shown, *shown, is_complete, is_hidden, 2 if is_hidden else 0))
        assert [tuple(row.values())[:-1] for row in rows_of(connection, "user_retention_weekly", "1, 2")] == expected

    check()


def test_no_total_of_a_week_gives_a_hidden_cohort_away(connection):
    load(connection)
    sizes = st.lists(st.lists(st.integers(0, 20), min_size=3, max_size=3), min_size=3, max_size=3)

    @settings(max_examples=60)
    @given(sizes, st.integers(2, 5))
    def check(active, k):
        rows = [
            ran(MONDAY + timedelta(weeks=cohort + since, minutes=user), f"{cohort}-{user}")
            for cohort, of_weeks in enumerate(active)
            for since, count in enumerate([max(of_weeks), *of_weeks])
            for user in range(count)
            if cohort + since < 4
        ]
        fill(connection, rows)
        let(connection, k)
        told = connection.execute(
            "select total, total - coalesce(shown, 0) from ("
            "select agentmill.user_count(week::timestamp at time zone 'UTC', (week + 7)::timestamp at time zone 'UTC'),"
            " sum(case when weeks_since = 0 then cohort_user_count else active_user_count end)"
            " from agentmill.user_retention_weekly group by week) as told (total, shown)"
        )
        assert all(not 0 < rest < k or total < k for total, rest in told)

    check()


def test_a_week_is_complete_when_it_and_all_days_before_it_were_over(connection):
    fill(connection, users(5))
    for day, at in ((MONDAY, 30), (MONDAY + timedelta(days=6), 30), (MONDAY + timedelta(days=13), 20)):
        load(connection, day.date())
        connection.execute(
            "update agentmill.load_ledger set published_at = %s where day = %s",
            [day + timedelta(hours=at), day.date()],
        )
    told = [(row["weeks_since"], row["is_complete"]) for row in rows_of(connection, "user_retention_weekly")]
    assert told == [(0, True), (1, False)]


def test_views_of_users_and_agents_say_when_they_were_published(connection):
    fill(connection, users(5))
    over, too_early = MONDAY + timedelta(hours=30), MONDAY + timedelta(days=9, hours=10)
    for table in ("user_activity_daily", "agent_metrics_daily", "execution_rollup_daily"):
        for day, at in ((MONDAY, over), (MONDAY + timedelta(days=9), too_early)):
            connection.execute(
                "insert into agentmill.load_ledger values (%s, %s, gen_random_uuid(), '', 0, '', null, %s)",
                [table, day.date(), at],
            )
    as_of = {view: rows_of(connection, view, "1")[0] for view in ("agents", "agent_discovery", "feature_usage")}
    told = {view: (row["published_at"], row["is_final"]) for view, row in as_of.items()}
    assert told == {
        "agents": (too_early, False),
        "agent_discovery": (too_early, False),
        "feature_usage": (over, True),  # of its week
    }
    assert rows_of(connection, "user_retention_weekly")[0]["published_at"] == too_early


def test_readers_are_told_of_whole_days_and_enough_users(warehouse, connection):
    fill(connection, [*users(5, "large"), *users(4, "small")])
    load(connection, MONDAY.date(), CUBE_DAILY)
    day, end = MONDAY, MONDAY + timedelta(days=1)
    question = "select agentmill.user_count(%s, %s, %s)"

    def counts(connection, start):
        agents = ("large", "small", "none", None)
        return [connection.execute(question, [start, end, agent]).fetchone()[0] for agent in agents]

    assert counts(connection, day) == [5, 4, 0, 9]
    with warehouse.connect() as reader:
        reader.execute("set role agentmill_analyst")
        assert counts(reader, day) == [5, None, 0, 9]
        ranking = {row["agent_id"]: row for row in rows_of(reader, "agent_ranking", "1")}
        assert {agent: row["user_count"] for agent, row in ranking.items()} == {"large": 5, "small": None}
        assert ranking["small"]["rank"] == 2  # what is not known is ranked last
        assert "few users" in ranking["small"]["reason"]
        reader.execute("set agentmill.timezone = 'Asia/Kathmandu'")
        midnight = datetime(2026, 3, 16, tzinfo=ZoneInfo("Asia/Kathmandu"))
        for start, until, whole in (
            (midnight, midnight + timedelta(days=2), True),
            (day, end, True),
            (day, end + timedelta(hours=12), False),
        ):
            asked = reader.execute("select user_count from agentmill.user_counts(%s, %s)", [start, until]).fetchall()
            assert any(count for (count,) in asked) == whole
        reader.execute("reset role")
        assert counts(reader, day) == [5, 4, 0, 9]


def test_readers_see_days_not_instants_of_single_users(warehouse, connection):
    fill(connection, users(5))
    times = "select distinct first_execution_at from user_agent_interactions"
    with ask(warehouse, times, role="agentmill_analyst") as answer:
        assert list(answer.rows) == [(MONDAY,)]
    with ask(warehouse, times, role="agentmill_privacy") as answer:
        assert len(list(answer.rows)) == 5


def test_discovery_is_what_a_recount_tells(connection):
    @settings(max_examples=40)
    @given(RUNS, st.integers(2, 4))
    def check(rows, k):
        fill(connection, rows)
        let(connection, k)
        first_uses = defaultdict(dict)
        for row in sorted(rows, key=lambda row: row["event_time"]):
            if row["user_key"]:
                first_uses[row["user_key"]].setdefault(row["agent_id"], row["event_time"])
        paths = defaultdict(list)
        for of_user in first_uses.values():
            ordered = sorted(of_user, key=lambda agent: (of_user[agent], agent))
            second = ordered[1] if len(ordered) > 1 else None
            waited = (of_user[second] - of_user[ordered[0]]) / timedelta(days=1) if second else None
            paths[ordered[0], second].append(waited)
        firsts = sorted({first for first, _ in paths})
        totals = {first: sum(len(users) for path, users in paths.items() if path[0] == first) for first in firsts}

        def told_total(first):
            counts = [len(users) for path, users in paths.items() if path[0] == first]
            is_known_too_well = 0 < min(counts) < k and (len(counts) < 2 or sum(counts) < k + len(counts))
            return min(totals[first], k - 1) if is_known_too_well else totals[first]

        hidden_firsts = {firsts[place] for place in hide([told_total(first) for first in firsts], k)}
        expected = {}
        for first in firsts:
            seconds = sorted((path[1] for path in paths if path[0] == first), key=lambda agent: (agent is None, agent))
            hidden = hide([len(paths[first, second]) for second in seconds], k)
            for place, second in enumerate(seconds):
                users = paths[first, second]
                is_hidden = first in hidden_firsts or place in hidden
                count = len(seconds) if first in hidden_firsts else len(hidden)
                middle = statistics.median(users) if second else None
                shown = (None,) * 3 if is_hidden else (len(users), len(users) / totals[first], middle)
                total = None if first in hidden_firsts else totals[first]
                expected[first, second] = (total, *shown, is_hidden, count)
        told = [tuple(row.values())[:-2] for row in rows_of(connection, "agent_discovery")]
        assert len(told) == len(expected)
        for first, second, *values in told:
            assert values == pytest.approx(list(expected[first, second]))

    check()


def test_feature_usage_is_what_a_recount_tells(connection):
    @settings(max_examples=40)
    @given(RUNS, st.integers(2, 4))
    def check(rows, k):
        fill(connection, rows)
        let(connection, k)
        runs, users = Counter(), defaultdict(set)
        for row in rows:
            cell = week_of(row["event_time"]), row["agent_id"], row["execution_type"]
            runs[cell] += 1
            users[cell] |= {row["user_key"]} - {None}
        told = rows_of(connection, "feature_usage")
        assert len(told) == len(runs)
        hidden = Counter()
        for row in told:
            cell = row["week"], row["agent_id"], row["execution_type"]
            assert row["user_count"] == (None if row["is_hidden"] else len(users[cell]))
            assert row["execution_count"] == runs[cell]
            assert row["is_hidden"] or not 0 < len(users[cell]) < k
            hidden[cell[:2]] += row["is_hidden"]
        assert all(row["hidden_cell_count"] == hidden[row["week"], row["agent_id"]] for row in told)

    check()


ZONES = ("UTC", "Europe/Berlin", "Asia/Kathmandu", "Australia/Lord_Howe", "America/St_Johns")


def test_interactions_are_what_a_recount_tells_in_every_zone(connection):
    @settings(max_examples=60)
    @given(RUNS, st.sampled_from(ZONES))
    def check(rows, zone):
        fill(connection, rows)
        connection.execute("select set_config('agentmill.timezone', %s, false)", [zone])
        of_pair = defaultdict(list)
        for row in rows:
            if row["user_key"]:
                of_pair[row["user_key"], row["agent_id"]].append(row)
        told = rows_of(connection, "user_agent_interactions", "1, 2")
        assert {(row["user_key"], row["agent_id"]) for row in told} == set(of_pair)
        for row in told:
            runs = of_pair[row["user_key"], row["agent_id"]]
            times = sorted(run["event_time"] for run in runs)
            local = [time.astimezone(ZoneInfo(zone)) for time in times]
            days = {time.date() for time in times}
            known = [run["credits"] for run in runs if run["credits"] is not None]
            hours, weekdays = Counter(time.hour for time in local), Counter(time.isoweekday() for time in local)
            assert row["preferred_hour"] == min(hours, key=lambda hour: (-hours[hour], hour))
            assert row["preferred_weekday"] == min(weekdays, key=lambda weekday: (-weekdays[weekday], weekday))
            assert (row["execution_count"], row["active_days"]) == (len(runs), len(days))
            assert row["success_count"] == sum(run["status"] == "success" for run in runs)
            assert row["failure_count"] == sum(run["status"] == "failed" for run in runs)
            assert (row["first_execution_at"], row["last_execution_at"]) == (times[0], times[-1])
            assert row["executions_per_day"] == len(runs) / ((max(days) - min(days)).days + 1)
            assert (row["credited_count"], row["credits"]) == (len(known), sum(known) if known else None)

    check()


def users(count, agent="a", **overrides):
    return [ran(MONDAY + timedelta(minutes=n), f"{agent}{n}", agent, **overrides) for n in range(count)]


def test_who_may_not_see_single_users_sees_agents_of_enough_users_only(warehouse, connection):
    fill(connection, [*users(5, "large"), *users(4, "small"), *users(1, "tiny"), ran(MONDAY, None, "nobody")])
    everything = "select agent_id, count(*) from agentmill.user_agent_interactions group by 1 order by 1"
    assert connection.execute(everything).fetchall() == [("large", 5), ("small", 4), ("tiny", 1)]
    assert "user_agent_interactions" not in {row["view_name"] for row in rows_of(connection, "hidden_groups", "1")}
    with ask(warehouse, everything) as answer:
        assert list(answer.rows) == [("large", 5)]
    with ask(warehouse, "select * from hidden_groups where view_name = 'user_agent_interactions'") as answer:
        assert list(answer.rows) == [("user_agent_interactions", 2, 5)]
    with ask(warehouse, "select * from hidden_groups where view_name = 'compat.UserAgentInteraction'") as answer:
        assert list(answer.rows) == [("compat.UserAgentInteraction", 2, 5)]
    connection.execute("do $$ begin create role agentmill_privacy; exception when duplicate_object then null; end $$")
    connection.execute("grant usage on schema agentmill to agentmill_privacy")
    connection.execute("grant select on all tables in schema agentmill to agentmill_privacy")
    connection.execute("set role agentmill_privacy")
    assert len(connection.execute(everything).fetchall()) == 3


def test_a_function_of_the_reader_is_not_shown_what_the_view_hides(connection):
    fill(connection, users(4))
    connection.execute(
        "create function public.spy(seen text) returns boolean language plpgsql cost 0.0001 "
        "as $$ begin raise notice '%', seen; return true; end $$"
    )
    seen = []
    connection.add_notice_handler(lambda notice: seen.append(notice.message_primary))
    connection.execute("select count(*) from agentmill.user_agent_interactions where public.spy(agent_id)")
    assert len(seen) == 4
    seen.clear()
    connection.execute("set role agentmill_analyst")
    connection.execute("select count(*) from agentmill.user_agent_interactions where public.spy(agent_id)")
    assert seen == []


def test_the_policy_comes_from_the_configuration_and_no_reader_changes_it(empty_database):
    def opened(k):
        return open_warehouse(Settings(database_url=empty_database, minimum_group_size=k))

    size = "select agentmill.minimum_group_size()"
    assert opened(5).read(size).item() == 5
    warehouse = opened(3)
    assert warehouse.read(size).item() == 3
    with warehouse.connect() as connection:
        connection.execute("set role agentmill_analyst")
        assert connection.execute(size).fetchone() == (3,)
        for attempt in (
            "update agentmill.privacy_policy set minimum_group_size = 2",
            "delete from agentmill.privacy_policy",
            "insert into agentmill.privacy_policy values (2)",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(attempt)
        connection.execute("reset role")
        connection.execute("delete from agentmill.privacy_policy")
        assert connection.execute(f"{size} > 1000000").fetchone() == (True,)


def test_an_agent_is_told_whole_and_its_opening_balance_apart(warehouse, connection):
    rows = [
        *users(8, agent_version="1"),
        *users(2, agent_version="2", status="failed", agent_name="new"),
        ran(MONDAY + timedelta(days=1), "a0", agent_version="1", agent_name="newest", credits=Decimal(3)),
    ]
    fill(connection, rows)
    ratings = []
    connection.execute(
        "insert into agentmill.agent_opening_balances values ('a', 'old', '2026-03-01', 700, 600, 100, 12.5, 40, 'm'), "
        "('gone', 'Gone', '2026-03-01', 7, 6, 1, null, 4, 'm')"
    )
    for user, source, hour, rating in (
        ("a0", "app", 1, 1),
        ("a0", "web", 2, 3),
        ("a1", "app", 1, 4),
        ("a2", "app", 1, 5),
        ("a0", "web", 24, None),  # takes nothing back
    ):
        said = {
            "user_key": user,
            "source": source,
            "rating": rating,
            "agent_id": "a",
            "row_hash": "0",
            "quality_flags": [],
        }
        frame = as_frame([{**said, "event_time": MONDAY + timedelta(hours=hour)}], USER_AGENT_PREFERENCES.schema)
        ratings.append(frame)
    for day, frame in (MONDAY, pl.concat(ratings[:-1])), (MONDAY + timedelta(days=1), ratings[-1]):
        load_of_ratings = Load(table=USER_AGENT_PREFERENCES.name, day=day.date(), content="one", rows=frame.height)
        publish_partition(warehouse, load_of_ratings, frame, lambda _: None)
    agent, gone = rows_of(connection, "agents", "1")
    stars = "select rating from agentmill.user_agent_interactions where rating is not null order by user_key"
    assert connection.execute(stars).fetchall() == [(3,), (4,), (5,)]
    assert (agent["agent_name"], agent["agent_versions"]) == ("newest", ["1", "2"])
    assert (agent["first_executed_at"], agent["last_executed_at"]) == (MONDAY, MONDAY + timedelta(days=1))
    assert (agent["execution_count"], agent["success_count"], agent["failure_count"]) == (11, 9, 2)
    assert agent["success_rate_low"] == pytest.approx(0.5230, abs=1e-4)
    assert agent["success_rate_high"] == pytest.approx(0.9486, abs=1e-4)
    assert (agent["user_count"], agent["credits"], agent["rating_count"], agent["rating_avg"]) == (8, 3, 3, 4.0)
    assert (agent["opening_execution_count"], agent["opening_user_count"]) == (700, 40)
    assert (gone["agent_name"], gone["execution_count"], gone["success_rate"]) == ("Gone", 0, None)
    with ask(warehouse, "select rating_count, rating_avg from agents where agent_id = 'a'") as answer:
        assert list(answer.rows) == [(3, None)]


def test_what_was_published_before_gets_its_times_and_types_from_its_executions(warehouse, connection):
    rows = [
        ran(MONDAY + timedelta(minutes=minutes), agent_version="1", execution_type=kind, credits=spent)
        for minutes, kind, spent in ((3, "task", Decimal(1)), (4, "chat", None), (95, None, Decimal("0.5")))
    ]
    frame = as_frame([{**row, "execution_id": str(n)} for n, row in enumerate(rows)], EXECUTION)
    publish_partition(
        warehouse, Load(table="executions", day=MONDAY.date(), content="one", rows=3), frame, lambda _: None
    )
    fill(connection, rows)
    tables = {
        name: connection.execute(f"select * from agentmill.{name}").fetchall() for name in (USER_DAILY, AGENT_DAILY)
    }
    downgrade(warehouse, "0005")
    upgrade(warehouse)
    assert tables[USER_DAILY][0][-3:] == (["chat", "task", None], [0, 6], [2, 1])
    for name, told in tables.items():
        assert connection.execute(f"select * from agentmill.{name}").fetchall() == told

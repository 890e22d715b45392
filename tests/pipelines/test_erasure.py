"""One user erased from everywhere: against the tables of a world in which the user has never been."""

import contextlib
import json
import re
import shutil
import uuid
from datetime import UTC, datetime, timedelta

import polars as pl
import psycopg
import pytest
from conftest import DAY, KEY_TEXT, MAPPING, checksums

from pipelines.anonymize.text import DEFAULT
from pipelines.clean import CLEAN_EXECUTIONS, QUARANTINED, clean, clean_records
from pipelines.extract import RawReceipt, extract, find_dirty_days
from pipelines.failures import publish_clusters
from pipelines.lake import Receipt
from pipelines.legacy.migrate import compare, migrate, roll_back
from pipelines.legacy.plan import make_plan
from pipelines.privacy.buried import reconcile
from pipelines.privacy.erasure import erase
from pipelines.privacy.published import count_rows, strike_rows
from pipelines.privacy.retention import retain
from pipelines.publication import publish_day
from pipelines.regression import publish_candidates, refresh
from pipelines.regression.reviews import Review, review_candidate
from pipelines.settings import LegacySettings, RetentionSettings, parse_settings
from pipelines.sources.files import FileReading, list_files
from pipelines.tombstones import NOBODY, Erased, pseudonyms_of, read_erased, write_tombstones
from pipelines.validate import validate
from pipelines.validate.verdict import Verdict
from pipelines.warehouse import open_warehouse
from pipelines.warehouse.executions import account, publish_records
from pipelines.warehouse.ledger import BusyError, loading
from pipelines.warehouse.server import database_url

NOW = datetime(2026, 3, 15, tzinfo=UTC)
DAYS = [DAY, DAY + timedelta(days=2)]
FORMER = "k0:" + "ab" * 32
LOGS = {"log_id": "id", "message": "text", "event_time": "at", "user": "user"}
PREFERENCES = {"user": "user", "agent_id": "agent", "event_time": "at", "rating": "stars"}
ABOUT_THE_SOURCE = ("receipts_daily", "erased_users")


class World:
    """A configuration with three sources over its own folder, lake and warehouse; with relative paths, to be copied."""

    def __init__(self, folder, url):
        self.folder, self.url = folder, url
        for name in ("app", "logs", "stars"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        self.configure()

    def configure(self, **more):
        shared = {"settle_seconds": 0, "max_quarantine_share": 0.9}
        sources = {
            "app": {"path": "app/*", "mapping": MAPPING, **shared},
            "logs": {"path": "logs/*", "records": "execution_logs", "mapping": LOGS, **shared},
            "stars": {
                "path": "stars/*",
                "records": "user_agent_preferences",
                "mapping": PREFERENCES,
                **shared,
            },
        }
        content = {
            "state_dir": str(self.folder / "state"),
            "database_url": self.url,
            "pseudonym_key": KEY_TEXT,
            "sources": sources,
        }
        path = self.folder / "agentmill.yaml"
        path.write_text(json.dumps({**content, **more}))
        self.settings = parse_settings(path.read_text(), path)
        self.lake, self.warehouse = self.settings.open_lake(), open_warehouse(self.settings)
        self.key = self.settings.read_key()
        return self

    def write(self, name, day, *records):
        lines = [line if isinstance(line, str) else json.dumps(line) for line in records]
        (self.folder / name / f"{day}.ndjson").write_text("".join(f"{line}\n" for line in lines))

    def run(self, days=DAYS):
        """What a run of the graph does."""
        sources, former = list(self.settings.sources.values()), self.settings.read_former_keys()
        reconcile(self.lake, self.warehouse)
        for source in sources:
            extract(source, days, self.lake, NOW, keys=[self.key, *former])
        for day in days:
            receipt = clean(day, sources, self.lake, self.key, self.settings.read_prices(), former_keys=former)
            validate(day, sources, self.lake, self.settings.read_prices())
            publish_day(day, self.lake, self.warehouse, self.settings.read_prices())
            for kind in receipt.other_types():
                publish_records(kind, day, self.lake, self.warehouse)
        publish_clusters(self.warehouse)
        publish_candidates(self.warehouse)
        return self

    def keys_of(self, user):
        return pseudonyms_of(user, "", [self.key, *self.settings.read_former_keys()])

    def erase(self, user="ann"):
        return erase(self.keys_of(user), self.settings, self.lake, self.warehouse, NOW)

    def tables(self):
        return {name: told for name, told in checksums(self.warehouse).items() if name not in ABOUT_THE_SOURCE}

    def receipts(self):
        return self.warehouse.read(
            "select day, source, received_count, clean_count, quarantined_count, duplicate_count, erased_count "
            "from agentmill.receipts_daily order by 1, 2"
        ).rows()

    def raw_names(self, user):
        """Whether the raw zone names a user."""
        parts = (self.folder / "state" / "lake" / "raw").rglob("*.parquet")
        return any(re.search(rf"\b{user}\b", pl.read_parquet(part).write_json()) for part in parts)

    def names(self, user_key):
        """Files of the lake outside the raw zone, by whether they name a pseudonym."""
        lake = self.folder / "state" / "lake"
        return [
            path.relative_to(lake)
            for path in lake.rglob("*.parquet")
            if "raw" not in path.relative_to(lake).parts and user_key in pl.read_parquet(path).write_json()
        ]


def at(day, hour):
    return datetime.combine(day, datetime.min.time(), tzinfo=UTC).replace(hour=hour).isoformat()


def records_of(day, user, count):
    """Executions of a user: one failed with words of their own, one of a state nobody knows, one written twice."""
    shared = {"agent": "planner", "version": "1.0", "model": "gpt-4o", "user": user, "cost": 0.01, "tokens_in": 10}
    rows = [
        {**shared, "id": f"{user}-{day}-{n}", "state": "success", "started": at(day, n), "ended": at(day, n + 1)}
        for n in range(count)
    ]
    failed = {**rows[0], "id": f"{user}-{day}-failed", "state": "failed", "error": f"no room for {user}'s sofa"}
    odd = {**rows[0], "id": f"{user}-{day}-odd", "state": "limbo"}
    return [*rows, failed, odd, rows[0]]


def fill(world, *, with_ann):
    """Three days of two users; what ann left is the same everywhere, or is not there at all."""
    for day in DAYS:
        ann = records_of(day, "ann", 3) if with_ann else []
        bob, nobody = records_of(day, "bob", 5), records_of(day, None, 2)
        world.write("app", day, *ann, *bob, "{torn", *nobody)
        lines = [("l1", "bob"), ("l2", None), *([("l3", "ann"), ("l4", "ann")] if with_ann else [])]
        world.write("logs", day, *({"id": id_, "text": "hm", "at": at(day, 3), "user": user} for id_, user in lines))
        users = ["bob", "ann"] if with_ann else ["bob"]
        stars = [{"user": user, "agent": "planner", "stars": 4, "at": at(day, 4)} for user in users]
        world.write("stars", day, *stars)
    return world


@pytest.fixture(scope="module")
def built(tmp_path_factory, embedded_server):
    """A world with ann, and the tables of one in which she has never been."""
    folders = {name: tmp_path_factory.mktemp(name) for name in ("with_her", "without_her")}
    worlds = {}
    for name, folder in folders.items():
        with contextlib.chdir(folder):
            worlds[name] = fill(World(folder, database_url(embedded_server, name)), with_ann=name == "with_her").run()
    return folders["with_her"], worlds["without_her"].tables()


@pytest.fixture
def world(built, tmp_path, embedded_server, monkeypatch):
    """A copy of the world with ann."""
    name = f"copy_{uuid.uuid4().hex}"
    with psycopg.connect(embedded_server, autocommit=True) as connection:
        connection.execute(f"create database {name} template with_her")
    folder = shutil.copytree(built[0], tmp_path / "world")
    monkeypatch.chdir(folder)
    return World(folder, database_url(embedded_server, name))


@pytest.fixture
def without_ann(built):
    return built[1]


def test_an_erased_user_has_never_been_and_no_backfill_changes_that(world, without_ann):
    received = {(day, source): count for day, source, count, *_ in world.receipts()}
    (ann,) = world.keys_of("ann")
    assert world.names(ann)
    assert world.raw_names("ann")
    told = world.erase()
    assert (told.raw_records, told.clean_rows, told.quarantine_rows) == (2 * 9, 2 * 7, 2)
    assert told.published_rows == {
        "executions": 8,
        "execution_logs": 4,
        "user_agent_preferences": 2,
        "user_activity_daily": 2,
        "interaction_history": 0,
        "failure_signatures_daily": 2,
    }
    assert (told.rebuilt_days, told.blocked_days) == (DAYS, [])
    for again in (False, True):
        if again:
            world.run()
        assert world.tables() == without_ann
        assert {(day, source): count for day, source, count, *_ in world.receipts()} == received
        assert all(total == sum(parts) for _, _, total, *parts in world.receipts())
        assert sum(row[-1] for row in world.receipts()) == 2 * 9
        assert not world.raw_names("ann")
        assert world.names(ann) == []
        assert all(account(day, world.lake, world.warehouse).is_published for day in DAYS)
        for source in world.settings.sources.values():
            assert find_dirty_days(source, world.lake, NOW, DAY) == {}
    assert "ann's" not in (world.settings.reports / "failure_report.md").read_text()


def test_the_same_again_finds_nothing_and_changes_nothing(world):
    assert world.erase().new_tombstones == world.keys_of("ann")
    before = checksums(world.warehouse)
    told = world.erase()
    assert (told.rows, told.new_tombstones, told.rebuilt_days) == (0, [], [])
    assert checksums(world.warehouse) == before


def test_a_user_who_comes_later_is_dropped_and_the_day_is_clean(world):
    assert world.erase("eve").rows == 0
    world.write("app", DAYS[1], *records_of(DAYS[1], "eve", 2))
    source = world.settings.sources["app"]
    assert list(find_dirty_days(source, world.lake, NOW, DAY)) == [DAYS[1]]
    world.run()
    assert find_dirty_days(source, world.lake, NOW, DAY) == {}
    assert not any(count_rows(world.warehouse, world.keys_of("eve")).values())
    assert not world.raw_names("eve")
    assert [row[2:] for row in world.receipts() if row[:2] == (DAYS[1], "app")] == [(5, 0, 0, 0, 5)]


def test_a_user_is_known_under_every_key(world, without_ann):
    old = world.keys_of("ann")
    world.configure(pseudonym_key=FORMER).run([DAYS[1]])
    world.configure(pseudonym_key=FORMER, former_pseudonym_keys=[KEY_TEXT])
    told = world.erase()
    assert (len(told.user_keys), told.published_rows["executions"]) == (2, 8)
    assert set(old) < set(told.user_keys)
    world.configure(pseudonym_key="k2:" + "cd" * 32, former_pseudonym_keys=[KEY_TEXT]).run()
    assert world.warehouse.read("select count(*) from agentmill.executions").item() == without_ann["executions"][0]
    assert not world.raw_names("ann")


def test_days_whose_raw_records_are_gone_are_struck_from_the_clean_zone(world, without_ann):
    retain(RetentionSettings(raw_days=3, quarantine_days=3), world.lake, world.warehouse, NOW.date())
    dropped = [world.lake.receipt("raw/app", day, RawReceipt).is_dropped for day in DAYS]
    assert dropped == [True, False]
    (ann,) = world.keys_of("ann")
    for day in DAYS:
        (world.folder / "app" / f"{day}.ndjson").unlink()
    told = world.erase()
    assert (told.raw_records, told.clean_rows, told.rebuilt_days, told.struck_days) == (9, 14, DAYS, DAYS[:1])
    assert world.tables() == without_ann
    assert world.names(ann) == []
    assert all(total == sum(parts) for _, _, total, *parts in world.receipts())
    assert {row[0]: row[-1] for row in world.receipts() if row[1] == "app"} == {DAYS[0]: 4, DAYS[1]: 6}


def test_a_day_that_a_check_blocks_loses_the_rows_all_the_same(world, without_ann):
    world.write("app", DAYS[1], *["{broken"] * 90, *records_of(DAYS[1], "ann", 3))
    world.run([DAYS[1]])
    assert not account(DAYS[1], world.lake, world.warehouse).is_published
    told = world.erase()
    assert told.blocked_days == [DAYS[1]]
    assert told.published_rows["executions"] == 8
    assert world.tables() == without_ann
    assert all(total == sum(parts) for _, _, total, *parts in world.receipts())


def test_a_source_that_is_no_longer_configured_does_not_keep_the_user(world):
    sources = json.loads((world.folder / "agentmill.yaml").read_text())["sources"]
    (ann,) = world.keys_of("ann")
    world.configure(sources={"logs": sources["logs"]})
    told = world.erase()
    assert not any(count_rows(world.warehouse, [ann]).values())
    assert world.names(ann) == []
    assert [place for place in told.out_of_reach if place.startswith("2 raw days of app,")]


def test_a_restored_warehouse_or_lake_learns_from_the_other(world, without_ann):
    (ann,) = world.keys_of("ann")
    before = {kind: world.lake.receipt(kind, DAY, Receipt) for kind in (CLEAN_EXECUTIONS, QUARANTINED)}
    world.erase()
    with world.warehouse.connect() as connection:  # as an older backup has it
        connection.execute("delete from agentmill.erased_users")
    assert list(reconcile(world.lake, world.warehouse)) == [ann]
    write_tombstones(world.lake, {})
    world.run()
    assert world.tables() == without_ann
    assert read_erased(world.lake, [world.key]).user_keys == {ann}
    assert before != {kind: world.lake.receipt(kind, DAY, Receipt) for kind in before}


def test_what_was_interrupted_is_finished_by_the_same_again(world, without_ann, monkeypatch):
    def stumble(*_, **__):
        raise ConnectionError

    for name in ("validate", "publish_day", "forget"):
        with monkeypatch.context() as broken:
            broken.setattr(f"pipelines.privacy.erasure.{name}", stumble)
            with pytest.raises(ConnectionError):
                world.erase()
    world.erase()
    assert world.tables() == without_ann


def test_rows_are_struck_with_all_that_is_derived_from_them_or_not_at_all(world, without_ann):
    (ann,) = world.keys_of("ann")
    before, prices = world.tables(), world.settings.read_prices()
    with world.warehouse.connect() as other, loading(other, "agent_metrics_daily", DAY), pytest.raises(BusyError):
        strike_rows(world.warehouse, [ann], prices)
    assert world.tables() == before
    strike_rows(world.warehouse, [ann], prices)
    publish_clusters(world.warehouse)
    publish_candidates(world.warehouse)
    assert world.tables() == without_ann


def test_a_day_whose_tables_contradict_each_other_is_struck_and_told(world, monkeypatch):
    (ann,) = world.keys_of("ann")
    wrong = Verdict(check="rollups", severity="error", passed=False, message="they differ", figures={})
    with monkeypatch.context() as broken:
        broken.setattr("pipelines.rollup.judge", lambda *_: wrong)
        assert world.erase().blocked_days == DAYS
    assert not any(count_rows(world.warehouse, [ann]).values())
    assert world.warehouse.read("select count(*) from agentmill.agent_metrics_daily").item() == 0
    assert world.warehouse.read("select count(*) from agentmill.executions").item() > 0


def test_a_refused_record_goes_although_the_first_attempt_was_interrupted(world, monkeypatch):
    def stumble(*_, **__):
        raise ConnectionError

    odd = records_of(DAY, "eve", 1)[2]
    world.write("app", DAY, odd, *records_of(DAY, "bob", 5))
    world.run([DAY])
    with monkeypatch.context() as broken:
        broken.setattr("pipelines.privacy.erasure.clean", stumble)
        with pytest.raises(ConnectionError):
            world.erase("eve")
    told = world.erase("eve")
    assert (told.raw_records, told.quarantine_rows, told.rebuilt_days) == (0, 1, [DAY])
    assert world.erase("eve").rebuilt_days == []


def test_activity_without_executions_goes_too(world):
    (ann,) = world.keys_of("ann")
    retain(RetentionSettings(executions_months=1, raw_days=1), world.lake, world.warehouse, NOW.date().replace(month=5))
    assert world.warehouse.read("select count(*) from agentmill.executions").item() == 0
    before = world.warehouse.read("select * from agentmill.agent_metrics_daily order by day")
    told = world.erase()
    assert told.published_rows["user_activity_daily"] == 2
    assert not any(count_rows(world.warehouse, [ann]).values())
    signatures = world.warehouse.read(
        "select sample_message = template as is_masked, user_keys, sample_execution_ids "
        "from agentmill.failure_signatures_daily where template like '%ann%'"
    )
    assert signatures.rows() == [(True, [], [])] * 2
    assert world.warehouse.read("select * from agentmill.agent_metrics_daily order by day").equals(before)


def test_a_case_that_only_the_user_asked_for_goes_and_the_certificate_says_so(world):
    struck = [
        {**records_of(DAYS[1], user, 1)[1], "id": f"{user}-again-{n}"} for user in ("ann", "bob") for n in range(2)
    ]
    world.write("app", DAYS[1], *records_of(DAYS[1], "ann", 3), *records_of(DAYS[1], "bob", 5), *struck)
    world.run()
    reviews = [
        Review(candidate, "approve", "kim", "it is bad", fixture={"query": words})
        for candidate, words in world.warehouse.read(
            "select candidate_id, sample_message from agentmill.regression_candidates "
            "join agentmill.failure_clusters using (cluster_id)"
        ).rows()
    ]
    for review in reviews:
        review_candidate(world.warehouse, review, DEFAULT)
    refresh(world.warehouse, world.settings)
    cases = {review.candidate_id: "ann" in review.fixture["query"] for review in reviews}
    assert sorted(cases.values()) == [False, True]
    told = world.erase()
    assert told.ended_cases == [case for case, is_hers in cases.items() if is_hers]
    (left,) = world.settings.cases.iterdir()
    assert not re.search(r"\bann\b", left.read_text())
    kept = world.warehouse.read("select count(*) from agentmill.candidate_reviews where fixture::text like '%ann%'")
    assert kept.item() == 1
    assert any("inputs that reviewers gave" in place for place in told.out_of_reach)


def test_transactions_of_an_older_application_stay_away(world, postgres, tmp_path):
    postgres.run(
        """create table "Agent" (id text primary key, stats jsonb)""",
        """insert into "Agent" values ('a1', '{"totalExecutions": 12}')""",
        """create table "Transaction" ("userId" text, "agentId" text, status text, "createdAt" timestamp(3))""",
        """insert into "Transaction" values ('ann', 'a1', 'ok', '2026-02-01'), ('bob', 'a1', 'ok', '2026-02-02'),
           ('ann', 'a1', 'ok', '2026-02-03')""",
    )
    legacy = LegacySettings(url=postgres.url, cut="2026-03-01")
    migrate(world.warehouse, make_plan(legacy, world.key), tmp_path / "backups")
    assert world.erase().published_rows["interaction_history"] == 2
    plan = make_plan(legacy, world.key, read_erased(world.lake, [world.key]))
    assert plan.interactions.refused == {"erased_user": 2}
    assert compare(world.warehouse, plan) == "unchanged"
    assert migrate(world.warehouse, plan, tmp_path / "backups").checks == ()
    roll_back(world.warehouse)
    migrate(world.warehouse, plan, tmp_path / "backups")
    users = world.warehouse.read("select user_key from agentmill.interaction_history")["user_key"].to_list()
    assert users == world.keys_of("bob")


def test_records_that_raw_days_still_hold_are_dropped_when_they_are_cleaned(record, source, key, write_log):
    erased = Erased(frozenset(pseudonyms_of("ann@example.org", "", [key])), (key,))
    write_log(record(), record(user="bob"), record(user=None), record(state="limbo"))
    parts = [batch for file in list_files(source()).ready for batch in FileReading(source(), file)]
    done = clean_records(parts, source(), key, NOW, DAY, erased=erased)
    assert (done.rows.height, done.quarantine.height, done.erased) == (2, 0, 2)


def test_users_are_found_whatever_the_type_of_their_ids(source, key):
    erased = Erased(frozenset(pseudonyms_of("7", "", [key])), (key,))
    records = pl.DataFrame({"record": [{"user": 7}, {"user": 70}, {"user": None}], "problem": [None] * 3})
    torn = pl.DataFrame({"record": [None], "problem": ["malformed"]}, schema={**records.schema, "problem": pl.String})
    rows = pl.concat([records.cast({"problem": pl.String}), torn])
    assert erased.own(rows, source()).to_list() == [True, False, False, False]


def test_an_id_of_two_tenants_is_two_users(record, source, key, write_log):
    write_log(record(user="7"), record(user="8"))
    ours, theirs = source(tenant="acme"), source(tenant="globex")

    def cleaned(of, erased=NOBODY):
        parts = [batch for file in list_files(of).ready for batch in FileReading(of, file)]
        return clean_records(parts, of, key, NOW, DAY, erased=erased)

    users = [cleaned(of).rows["user_key"].to_list() for of in (source(), ours, theirs)]
    assert len({user for keys in users for user in keys}) == 6
    assert users[1] == [*pseudonyms_of("7", "acme", [key]), *pseudonyms_of("8", "acme", [key])]
    gone = Erased(frozenset(pseudonyms_of("7", "acme", [key])), (key,))
    assert [cleaned(of, gone).erased for of in (source(), ours, theirs)] == [0, 1, 0]


def test_ids_are_read_as_records_are(world):
    assert world.keys_of(" ann\t") == world.keys_of("ann")
    assert world.keys_of("  ") == []

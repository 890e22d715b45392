"""Fields renamed, added, dropped or retyped at the source, under each contract: what follows, and how it is counted."""

import json
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest
from conftest import DAY, NOW

from pipelines.clean import CLEAN_EXECUTIONS, clean
from pipelines.extract import ExtractionError, accept, extract, find_dirty_days
from pipelines.extract.fields import Fields, json_types
from pipelines.settings import parse_settings
from pipelines.validate import read_verdict, validate

NEXT = DAY + timedelta(days=1)
MODES = ("evolve", "discard_value", "discard_row", "freeze")
MAPPING = {
    "execution_id": "id",
    "agent_name": "agent",
    "status": "state",
    "started_at": "started",
    "cost_usd": "cost",
    "error_type": "tag",
}
CHANGES = {
    "rename": ({"price": 0.5}, ("cost",), ["`cost` is gone (was number", "`price` is new (number"]),
    "add": ({"extra": "x"}, (), ["`extra` is new (text"]),
    "drop": ({}, ("cost",), ["`cost` is gone (was number"]),
    "retype": ({"cost": "0.5"}, (), ["`cost` is text (was number"]),
}
"""Fields that come, fields that go, and what is told of it."""

# What becomes of the two records of the changed day: costs of the accepted, refused; None where the day is not read.
OUTCOMES = {
    ("rename", "evolve"): ([None, None], 0),
    ("rename", "discard_value"): ([None, None], 0),
    ("rename", "discard_row"): ([], 2),
    ("add", "evolve"): ([0.5, 0.5], 0),
    ("add", "discard_value"): ([0.5, 0.5], 0),
    ("add", "discard_row"): ([], 2),
    ("drop", "evolve"): ([None, None], 0),
    ("drop", "discard_value"): ([None, None], 0),
    ("drop", "discard_row"): ([], 2),
    ("retype", "evolve"): ([0.5, 0.5], 0),
    ("retype", "discard_value"): ([None, None], 0),
    ("retype", "discard_row"): ([], 2),
}


class Files:
    """NDJSON, a file a day."""

    def __init__(self, folder):
        self._folder = folder
        self.source = {"path": f"{folder}/*", "settle_seconds": 0}

    def write(self, day, came=None, went=(), **others):
        records = []
        for n in (1, 2):
            record = {"id": f"{day}-{n}", "agent": "a", "state": "failed", "started": f"{day}T1{n}:00:00Z"}
            record |= {"cost": 0.5, "tag": "T", **(came or {}), **others}
            records.append({name: value for name, value in record.items() if name not in went})
        self._folder.mkdir(exist_ok=True)
        (self._folder / f"{day}.ndjson").write_text("".join(f"{json.dumps(one)}\n" for one in records))

    def add(self, day, record):
        with (self._folder / f"{day}.ndjson").open("a") as file:
            file.write(json.dumps(record) + "\n")


class Csv(Files):
    """CSV, a file a day: every field is text, and none can change its type."""

    def write(self, day, came=None, went=(), **others):
        super().write(day, came, went, **others)
        path = self._folder / f"{day}.ndjson"
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        path.unlink()
        lines = [",".join(rows[0]), *(",".join(map(str, row.values())) for row in rows)]
        path.with_suffix(".csv").write_text("\n".join(lines) + "\n")


class Tables:
    """A table of a database, changed as an application's migration does it."""

    def __init__(self, database):
        self._database = database
        self.source = {"kind": "database", "url": database.url, "table": "runs"}
        database.run(
            "create table runs (id varchar(40), agent varchar(40), state varchar(40), started timestamp null,"
            " cost decimal(12, 6), tag varchar(40))"
        )

    def write(self, day, came=None, went=()):
        statements = [f"alter table runs drop column {name}" for name in went]
        for name, value in (came or {}).items():
            if name == "cost":
                statements += ["alter table runs drop column cost"]
            kind = "text" if isinstance(value, str) else "decimal(12, 6)"
            statements += [f"alter table runs add column {name} {kind}"]
        values = {"id": "", "agent": "a", "state": "failed", "started": "", "cost": 0.5, "tag": "T", **(came or {})}
        for n in (1, 2):
            row = values | {"id": f"{day}-{n}", "started": f"{day} 1{n}:00:00"}
            row = {name: value for name, value in row.items() if name not in went}
            told = ", ".join(f"'{value}'" for value in row.values())
            statements.append(f"insert into runs ({', '.join(row)}) values ({told})")
        self._database.run(*statements)


@pytest.fixture(params=["ndjson", "postgres", "mariadb"])
def logs(request, tmp_path):
    """Where an application logs to."""
    return Files(tmp_path / "logs") if request.param == "ndjson" else Tables(request.getfixturevalue(request.param))


@pytest.fixture
def read(lake, key, prices):
    """Extract, clean and judge a day under a contract; the raw receipt, the rows and the check."""

    def run(logs, day, contract="evolve", **overrides):
        source = {**logs.source, "mapping": MAPPING, "contract": contract, "max_quarantine_share": 1, **overrides}
        configured = parse_settings(json.dumps({"sources": {"app": source}}), Path("x")).sources["app"]
        receipt = extract(configured, [day], lake, NOW)[day]
        cleaned = clean(day, [configured], lake, key, prices)
        validate(day, [configured], lake, prices)
        verdict = next(one for one in read_verdict(day, lake).verdicts if one.check == "schema_drift")
        return receipt, cleaned, verdict, configured

    return run


@pytest.mark.parametrize("contract", MODES)
@pytest.mark.parametrize("change", CHANGES)
def test_a_change_has_the_documented_outcome_and_is_counted(logs, read, lake, change, contract):
    came, went, told = CHANGES[change]
    logs.write(DAY)
    assert read(logs, DAY, contract)[2].passed
    logs.write(NEXT, came, went)
    if contract == "freeze":
        with pytest.raises(ExtractionError) as refused:
            read(logs, NEXT, contract)
        assert all(words in str(refused.value) for words in told)
        assert "agentmill source accept app" in str(refused.value)
        return
    receipt, cleaned, verdict, _ = read(logs, NEXT, contract)
    assert not verdict.passed
    assert all(words in verdict.message for words in told)
    assert f"since {NEXT}" in verdict.message
    costs, refused = OUTCOMES[change, contract]
    assert lake.read(cleaned.parts[0])["cost_usd"].cast(float).to_list() == costs
    (count,) = cleaned.sources
    assert count.quarantined == ({"schema_drift": refused} if refused else {})
    assert count.received == count.clean + refused == receipt.rows == 2


@pytest.mark.parametrize("contract", ["discard_row", "freeze"])
def test_a_change_that_is_agreed_with_is_let_through_and_old_days_still_fit(logs, read, lake, contract):
    logs.write(DAY)
    *_, configured = read(logs, DAY, contract)
    logs.write(NEXT, *CHANGES["rename"][:2])
    if contract == "freeze":
        with pytest.raises(ExtractionError):
            read(logs, NEXT, contract)
    else:
        read(logs, NEXT, contract)
    changes, days = accept(configured, lake)
    assert {(one.name, one.change) for one in changes} == {("cost", "removed"), ("price", "added")}
    assert days == [NEXT]
    assert accept(configured, lake) == ([], [])
    for day in (NEXT, DAY):
        _, cleaned, verdict, _ = read(logs, day, contract)
        assert verdict.passed, verdict.message
        assert cleaned.rows == 2


def test_a_field_that_the_mapping_names_is_agreed_with(tmp_path, read, lake):
    logs = Files(tmp_path / "logs")
    logs.write(DAY)
    read(logs, DAY, "discard_row")
    logs.write(NEXT, {"model": "m"})
    _, cleaned, _, _ = read(logs, NEXT, "discard_row", mapping={**MAPPING, "model": "model"})
    assert lake.read(cleaned.parts[0])["model"].to_list() == ["m", "m"]


def test_what_changed_stays_told_with_the_day_it_began(tmp_path, read):
    logs = Files(tmp_path / "logs")
    for n, day in enumerate(DAY + timedelta(days=n) for n in range(-3, 1)):
        logs.write(day, {"extra": "x"} if n > 1 else {})
        verdict = read(logs, day, "discard_value")[2]
        assert verdict.passed == (n < 2)
    assert f"`extra` is new (text, since {DAY - timedelta(days=1)}) in 2 of 2 records" in verdict.message


def test_under_evolve_a_change_is_told_once_and_running_the_day_again_tells_it_again(tmp_path, read):
    logs = Files(tmp_path / "logs")
    days = [DAY + timedelta(days=n) for n in range(-2, 1)]
    for n, day in enumerate(days):
        logs.write(day, {"extra": "x"} if n else {})
    assert [read(logs, day)[2].passed for day in (*days, days[1])] == [True, False, True, False]


def test_a_field_that_only_some_records_have_is_not_missed(tmp_path, read):
    logs = Files(tmp_path / "logs")
    logs.write(DAY - timedelta(days=1))
    logs.add(DAY - timedelta(days=1), {"id": "x", "agent": "a", "state": "ok", "started": f"{DAY - timedelta(days=1)}"})
    read(logs, DAY - timedelta(days=1), "discard_row")
    logs.write(DAY, went=("cost",))
    _, cleaned, verdict, _ = read(logs, DAY, "discard_row")
    assert verdict.passed
    assert cleaned.rows == 2


def test_only_the_values_and_records_that_differ_are_discarded(tmp_path, read, lake):
    logs = Files(tmp_path / "logs")
    logs.write(DAY)
    read(logs, DAY, "discard_value")
    logs.write(NEXT)
    odd = {"id": "odd", "agent": "a", "state": "failed", "started": f"{NEXT}T20:00:00Z", "cost": [1], "tag": "T"}
    logs.add(NEXT, odd)
    _, cleaned, verdict, _ = read(logs, NEXT, "discard_value")
    assert "`cost` is list (was number" in verdict.message
    assert "in 1 of 3 records" in verdict.message
    assert lake.read(cleaned.parts[0])["cost_usd"].cast(float).to_list() == [0.5, 0.5, None]


@pytest.mark.parametrize("contract", MODES[:-1])
@pytest.mark.parametrize("name", ["", "*", "[x", "[0]", 'a"b', "a/b", "a~b", "a.b", "$", "\U0001f916", " "])
def test_a_field_may_have_any_name(tmp_path, read, lake, contract, name):
    logs = Files(tmp_path / "logs")
    logs.write(DAY)
    read(logs, DAY, contract)
    logs.write(NEXT, {name: 1})
    receipt, cleaned, _, _ = read(logs, NEXT, contract)
    assert [(one.name, one.change, one.records) for one in receipt.drift] == [(name, "added", 2)]
    assert cleaned.rows == (0 if contract == "discard_row" else 2)
    if contract == "discard_value":
        assert lake.read(cleaned.parts[0])["cost_usd"].cast(float).to_list() == [0.5, 0.5]


def test_a_field_that_goes_in_the_middle_of_a_day_is_noticed(tmp_path, read):
    logs = Files(tmp_path / "logs")
    logs.write(DAY)
    read(logs, DAY, "discard_row")
    logs.write(NEXT)
    logs.add(NEXT, {"id": "late", "agent": "a", "state": "failed", "started": f"{NEXT}T20:00:00Z", "tag": "T"})
    _, cleaned, verdict, _ = read(logs, NEXT, "discard_row")
    assert "`cost` is gone (was number, since 2026-03-11) in 1 of 3 records" in verdict.message
    assert cleaned.sources[0].quarantined == {"schema_drift": 1}


def test_a_field_that_is_gone_from_one_record_and_retyped_in_another_refuses_both(tmp_path, read):
    logs = Files(tmp_path / "logs")
    logs.write(DAY)
    read(logs, DAY, "discard_row")
    logs.write(NEXT)
    late = {"agent": "a", "state": "failed", "started": f"{NEXT}T20:00:00Z", "tag": "T"}
    logs.add(NEXT, {**late, "id": "without"})
    logs.add(NEXT, {**late, "id": "as text", "cost": "0.5"})
    receipt, cleaned, _, _ = read(logs, NEXT, "discard_row")
    assert sorted((one.change, one.records) for one in receipt.drift) == [("removed", 1), ("retyped", 1)]
    assert cleaned.sources[0].quarantined == {"schema_drift": 2}


def test_ids_as_keys_are_no_schema(tmp_path, read):
    logs = Files(tmp_path / "logs")
    logs.write(DAY)
    read(logs, DAY, "freeze")
    logs.write(NEXT, {f"a{n:05}": n for n in range(1_200)})
    receipt, cleaned, verdict, _ = read(logs, NEXT, "freeze")
    assert (receipt.drift, verdict.passed, cleaned.rows) == ([], True, 2)


def test_many_changes_are_told_briefly(tmp_path, read):
    logs = Files(tmp_path / "logs")
    logs.write(DAY)
    read(logs, DAY)
    logs.write(NEXT, {f"field_{chr(97 + n)}": n for n in range(20)})
    verdict = read(logs, NEXT)[2]
    assert verdict.message.count("is new") == 8
    assert "12 more fields" in verdict.message


def test_what_was_mended_is_not_agreed_with(tmp_path, read, lake):
    logs = Files(tmp_path / "logs")
    logs.write(DAY)
    *_, configured = read(logs, DAY, "freeze")
    logs.write(NEXT, {"cost": "0.5"})
    with pytest.raises(ExtractionError):
        read(logs, NEXT, "freeze")
    logs.write(NEXT)
    read(logs, NEXT, "freeze")
    assert accept(configured, lake) == ([], [])


def test_an_agreed_day_has_everything_without_being_read_again(tmp_path, read, lake, key, prices):
    logs = Files(tmp_path / "logs")
    logs.write(DAY)
    read(logs, DAY, "discard_value")
    logs.write(NEXT, {"cost": "0.5"})
    *_, configured = read(logs, NEXT, "discard_value")
    assert accept(configured, lake)[1] == [NEXT]
    assert [one.reason for one in find_dirty_days(configured, lake, NOW, DAY).values()] == [
        "its changed fields were agreed with"
    ]
    (tmp_path / "logs" / f"{NEXT}.ndjson").unlink()
    cleaned = clean(NEXT, [configured], lake, key, prices)
    assert lake.read(cleaned.parts[0])["cost_usd"].cast(float).to_list() == [0.5, 0.5]


def test_a_contract_knows_the_days_that_were_read_without_one(tmp_path, read):
    logs = Files(tmp_path / "logs")
    logs.write(DAY, {"old": 1})
    read(logs, DAY)
    logs.write(NEXT)
    assert read(logs, NEXT, "discard_row")[1].rows == 2
    assert read(logs, DAY, "discard_row")[1].rows == 2


def test_a_column_whose_name_needs_quotes_is_agreed_with_when_it_is_mapped(tmp_path, read, lake):
    logs = Csv(tmp_path / "logs")
    logs.write(DAY)
    read(logs, DAY, "discard_value")
    logs.write(NEXT, {"Model Name": "m"})
    _, cleaned, _, _ = read(logs, NEXT, "discard_value", mapping={**MAPPING, "model": '"Model Name"'})
    assert lake.read(cleaned.parts[0])["model"].to_list() == ["m", "m"]


def test_columns_of_csv_come_and_go_too(tmp_path, read, lake):
    logs = Csv(tmp_path / "logs")
    logs.write(DAY)
    read(logs, DAY, "discard_value")
    logs.write(NEXT, {"price": 0.5}, ("cost",))
    _, cleaned, verdict, _ = read(logs, NEXT, "discard_value")
    assert "`cost` is gone (was text" in verdict.message
    assert cleaned.rows == 2
    raw = lake.read(extract(read(logs, NEXT, "discard_value")[3], [NEXT], lake, NOW)[NEXT].parts[0])
    assert "price" in raw["record"].struct.fields  # as received: what is discarded is not lost


def test_no_name_of_a_field_tells_of_a_person(tmp_path, read):
    logs = Files(tmp_path / "logs")
    logs.write(DAY)
    read(logs, DAY)
    logs.write(NEXT, {"ann@example.org": 1, "555-123-4567": 2})
    receipt, _, verdict, _ = read(logs, NEXT)
    assert len(receipt.drift) == 2
    assert "2 fields that are not named here are added" in verdict.message
    assert "ann" not in verdict.message


def test_nested_fields_are_looked_at_where_the_mapping_names_them(source):
    fields = Fields(source(mapping={"input_tokens": "usage.input", "model": 'meta."the.model"'}))
    records = ['{"usage": {"input": 1, "x": 2}, "meta": {"the.model": "m"}, "null": null}', '{"usage": {"input": "1"}}']
    fields.add(DAY, pl.Series(records))
    assert fields.of(DAY) == {
        "/meta": {"object": 1},
        "/meta/the.model": {"text": 1},
        "/null": {"null": 1},
        "/usage": {"object": 2},
        "/usage/input": {"number": 1, "text": 1},
    }
    assert json_types(pl.Series([], dtype=pl.String), ["/a"]) == {}
    assert CLEAN_EXECUTIONS == "clean_executions"

import copy

import pytest
import yaml
from conftest import REPOSITORY

from pipelines.execution import Privacy
from pipelines.warehouse.dictionary import (
    DICTIONARY_FILE,
    DictionaryError,
    differences,
    load_dictionary,
    parse_dictionary,
)
from pipelines.warehouse.dictionary_page import render

CONTENT = yaml.safe_load((REPOSITORY / DICTIONARY_FILE).read_text())


def told_of(warehouse, *changes):
    with warehouse.connect() as connection:
        for change in changes:
            connection.execute(change)
        return differences(connection)


def test_the_database_is_what_the_dictionary_says(warehouse):
    assert told_of(warehouse) == []


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("create table agentmill.extra (n int)", "agentmill.extra is not in the dictionary: add it to sql/dictionary"),
        ("create view agentmill.extra as select 1 as n", "under `views`"),
        ("alter table agentmill.load_ledger add extra int", "agentmill.load_ledger.extra is not in the dictionary"),
        ("alter table agentmill.executions add extra int", "add it to its RecordType"),
        (
            "alter table agentmill.load_ledger drop key_id",
            "agentmill.load_ledger.key_id is in the dictionary and not in",
        ),
        ("comment on column agentmill.load_ledger.day is 'x'", "agentmill.load_ledger.day has another comment"),
        ("comment on table agentmill.load_ledger is 'x'", "agentmill.load_ledger.day has another comment"),
        ("alter table agentmill.load_ledger alter row_count type numeric", "row_count is numeric; the dictionary says"),
        ("create function agentmill.f() returns int return 1", "agentmill.f is not in the dictionary"),
        (
            "drop function agentmill.sees_single_users cascade",
            "agentmill.sees_single_users is in the dictionary and not",
        ),
        ("comment on function agentmill.sees_single_users is null", "has another call or comment"),
    ],
)
def test_whatever_differs_is_told_with_what_to_do(warehouse, change, told):
    found = told_of(warehouse, change)
    assert any(told in one for one in found), found


def test_a_name_that_nothing_defines_is_told_with_the_place_to_add_it():
    content = copy.deepcopy(CONTENT)
    content["tables"]["load_ledger"]["columns"].append("extra")
    with pytest.raises(DictionaryError, match=r"load_ledger.extra is not defined: add it to sql/dictionary.yaml"):
        parse_dictionary(content)
    with pytest.raises(DictionaryError, match=r"`extra` is not in sql/dictionary.yaml"):
        load_dictionary().relation("extra")


def test_a_definition_that_nothing_uses_is_told():
    for place in ("columns", "own"):
        content = copy.deepcopy(CONTENT)
        entries = content["columns"] if place == "columns" else content["tables"]["load_ledger"]["own"]
        entries["extra"] = {"type": "text", "meaning": "Nothing."}
        with pytest.raises(DictionaryError, match="extra: remove it"):
            parse_dictionary(content)


def test_a_table_of_another_schema_keeps_its_schema():
    content = copy.deepcopy(CONTENT)
    content["views"]["compat.Old"] = {"grain": "thing", "columns": ["agent_id"]}
    relation = parse_dictionary(content).relations["compat", "Old"]
    assert relation.shown_name == "compat.Old"
    assert relation.text == "One row per thing."
    assert "## compat.Old" in render(parse_dictionary(content))


def test_nothing_stored_is_personal_or_secret():
    classes = {of.privacy for one in load_dictionary().relations.values() for of in one.columns.values()}
    assert classes == set(Privacy) - {Privacy.PERSONAL, Privacy.SECRET}


def test_a_view_whose_rows_depend_on_the_reader_is_a_security_barrier(warehouse):
    barriers = warehouse.read(
        "select relname::text from pg_class where relnamespace = 'agentmill'::regnamespace "
        "and 'security_barrier=true' = any(reloptions)"
    )["relname"].to_list()
    dependent = {
        path.stem for path in (REPOSITORY / "sql" / "views").glob("*.sql") if "sees_single_users" in path.read_text()
    }
    assert dependent <= set(barriers)


def test_the_page_is_what_the_dictionary_says():
    page = (REPOSITORY / "docs" / "data-dictionary.md").read_text()
    assert page == render(load_dictionary()), "python -m pipelines.warehouse.dictionary_page > docs/data-dictionary.md"

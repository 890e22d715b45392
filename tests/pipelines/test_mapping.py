import pytest
from pydantic import ValidationError

from pipelines.sources.mapping import MappedField, is_path, path_of, sql_paths


@pytest.mark.parametrize(
    "text", ["id", "usage.input_tokens", 'meta."key.with.dots".x', "items[0].id", "user-agent", "@timestamp", "$ref"]
)
def test_a_name_of_a_field_is_a_path(text):
    assert is_path(text)


@pytest.mark.parametrize("text", ["coalesce(a, b)", "a || b", "'production'", "a = 1", "1 + x"])
def test_anything_else_is_an_expression(text):
    assert not is_path(text)


def test_a_path_splits_into_steps_and_quotes_keep_dots_together():
    assert path_of('meta."gen_ai.usage".tokens[2]') == ("meta", "gen_ai.usage", "tokens", "[2]")


def test_an_expression_names_fields_but_not_functions_words_or_literals():
    sql = "case when lower(state) = 'a.b' then coalesce(run.name, \"odd.key\") else id end"
    assert sql_paths(sql) == {("state",), ("run", "name"), ("odd.key",), ("id",)}


def test_a_value_map_compares_text_although_yaml_reads_other_types():
    field = MappedField.model_validate({"from": "x", "values": {True: "success", 404: "failed", None: "error"}})
    assert field.values == {"true": "success", "404": "failed", None: "error"}


@pytest.mark.parametrize("field", [{}, {"from": "a", "value": "b"}, {"form": "a"}, {"from": "a", "unit": "minutes"}])
def test_a_field_without_exactly_one_origin_or_with_unknown_words_is_refused(field):
    with pytest.raises(ValidationError):
        MappedField.model_validate(field)


def test_broken_sql_is_refused_with_the_reason():
    with pytest.raises(ValidationError, match="neither a field's path nor a Polars SQL expression"):
        MappedField.model_validate("coalesce(a,")

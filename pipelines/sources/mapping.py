"""How a mapping names values: paths into a record, SQL expressions, constants, value maps and units."""

import re
from datetime import UTC, datetime
from typing import Any, Literal

import polars as pl
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Path = tuple[str, ...]
FieldType = Literal["text", "bool", "int", "float", "list"]
TimeUnit = Literal["s", "ms", "us", "ns"]

OTHERWISE = "*"
"""Key of a value map that stands for every value the map does not name."""

_SEGMENT = r'(?:[A-Za-z_$@][\w$@%-]*|"[^"]+")'
_PATH = re.compile(rf"{_SEGMENT}(?:\.{_SEGMENT}|\[\d+\])*")
_STEP = re.compile(rf"{_SEGMENT}|\[\d+\]")
_SQL_TOKEN = re.compile(rf"'(?:[^']|'')*'|(?P<path>{_SEGMENT}(?:\.{_SEGMENT})*)\s*(?P<call>\()?")
_SQL_WORDS = frozenset(
    """and as asc between boolean bigint case cast date desc distinct double else end exists false float from ilike
    in int integer interval is like not null or over partition precision real regexp rlike smallint string text then
    timestamp tinyint true try_cast varchar when""".split()
)


def is_path(text: str) -> bool:
    """Whether the text names a field (`usage.input_tokens`, `items[0].id`, `meta."key.with.dots"`); else it is SQL."""
    return _PATH.fullmatch(text) is not None


def path_of(text: str) -> Path:
    """Split a path into its steps: names without their quotes, list positions as `[0]`."""
    return tuple(step.strip('"') for step in _STEP.findall(text))


def sql_paths(text: str) -> set[Path]:
    """Every field an SQL expression may refer to. Words that only look like fields do no harm: they are null."""
    found = (match for match in _SQL_TOKEN.finditer(text) if match["path"] and not match["call"])
    return {path_of(match["path"]) for match in found if match["path"].lower() not in _SQL_WORDS}


def _text_key(key: object) -> str | None:
    """YAML reads `true:` and `404:` as other than text, but source values are compared as text."""
    if key is None:
        return None
    return str(key).lower() if isinstance(key, bool) else str(key)


class MappedField(BaseModel):
    """How one canonical column gets its value: from a path or SQL expression, or as a constant."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    source: str | None = Field(None, alias="from", description="A field's path or a Polars SQL expression.")
    value: str | None = Field(None, description="A constant, instead of `from`.")
    unit: TimeUnit | None = Field(None, description="Unit of a number that means a time or a duration.")
    format: str | None = Field(None, description="strftime format of a time; ISO 8601 needs none.")
    values: dict[str | None, str | None] = Field({}, description="Source value -> canonical value; `*` is the rest.")
    null_if: tuple[str, ...] = Field((), description="Source values that mean: not measured.")

    @model_validator(mode="before")
    @classmethod
    def _read_short_form(cls, data: Any) -> Any:  # noqa: ANN401 - whatever YAML holds
        if isinstance(data, str):
            return {"from": data}
        if not isinstance(data, dict):
            return data
        texts = dict(data)
        if isinstance(texts.get("values"), dict):
            texts["values"] = {_text_key(key): _text_key(value) for key, value in texts["values"].items()}
        if isinstance(texts.get("null_if"), list):
            texts["null_if"] = tuple(_text_key(value) for value in texts["null_if"])
        if "value" in texts:
            texts["value"] = _text_key(texts["value"])
        return texts

    @field_validator("format")
    @classmethod
    def _readable_format(cls, pattern: str | None) -> str | None:
        if pattern is None:
            return None
        if "%Z" in pattern:
            raise ValueError("`%Z` (the name of a zone) tells no offset; use `%z`, or set `timezone` for the source")
        try:
            pl.Series(["x"]).str.to_datetime(pattern, time_zone="UTC" if "z" in pattern else None, strict=False)
            datetime.now(UTC).strftime(pattern)
        except (pl.exceptions.PolarsError, ValueError) as error:
            raise ValueError(f"`{pattern}` is no strftime format of a date and time") from error
        return pattern

    @model_validator(mode="after")
    def _has_one_origin(self) -> "MappedField":
        if (self.source is None) == (self.value is None):
            raise ValueError("needs either `from` (a path or an SQL expression) or `value` (a constant)")
        if self.source is not None and not is_path(self.source):
            try:
                pl.sql_expr(self.source)
            except pl.exceptions.PolarsError as error:
                raise ValueError(f"is neither a field's path nor a Polars SQL expression: {error}") from error
        return self

    @property
    def is_sql(self) -> bool:
        """Whether the value is computed by an SQL expression."""
        return self.source is not None and not is_path(self.source)

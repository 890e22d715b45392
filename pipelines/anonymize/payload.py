"""What is kept of an input or output: its size, its type and its structure, never its values."""

import json

import polars as pl

from pipelines.sources.duck import query_column

KNOWN_KEYS = frozenset(
    """action actions agent answer args arguments attachments body choices code content context data description
    document documents end error errors event events file files filters function functions id image index input inputs
    instruction instructions items kwargs language limit location max_tokens message messages metadata method mode model
    name object offset options order output outputs page parameters params parts path payload plan prompt properties
    query question reason reasoning request response result results role schema score sort source start state status
    step steps stop stream system target task temperature text thought thoughts timestamp title tokens tool tool_call
    tool_call_id tool_calls tools total type unit units url usage user value values version""".split()
)
"""Key names that are structure. Any other key may be data (a user's e-mail as a key) and is shown as `<key>`."""

_OTHER_KEY = "<key>"
_MAX_SHAPE = 2_000
_STRUCTURE = "try(json_structure(record)::varchar)"
_LEAVES = {"VARCHAR": "str", "UBIGINT": "int", "BIGINT": "int", "HUGEINT": "int", "DOUBLE": "num", "BOOLEAN": "bool"}


def describe(payloads: pl.Series) -> pl.DataFrame:
    """bytes, type (`json` for objects and lists, else `text`) and shape of each payload; null stays null."""
    is_json = payloads.str.contains(r"^\s*[\[{]")
    structure = query_column(payloads.zip_with(is_json.fill_null(value=False), _NULL), _STRUCTURE)
    shapes = {text: _shape(text) for text in structure.unique().drop_nulls()}
    return pl.DataFrame({"payload": payloads, "structure": structure}).select(
        bytes=pl.col("payload").str.len_bytes().cast(pl.Int64),
        type=pl.when(pl.col("structure").is_not_null())
        .then(pl.lit("json"))
        .when(pl.col("payload").is_not_null())
        .then(pl.lit("text")),
        shape=pl.col("structure").replace_strict(shapes, default=None, return_dtype=pl.String),
    )


_NULL = pl.Series([None], dtype=pl.String)


def _shape(structure: str) -> str:
    """DuckDB's structure with sorted keys, short type names and no key that could be data."""
    shape = _render(json.loads(structure))
    return shape if len(shape) <= _MAX_SHAPE else f"{shape[:_MAX_SHAPE]}..."


def _render(node: object) -> str:
    if isinstance(node, dict):
        fields = sorted({f"{key if key in KNOWN_KEYS else _OTHER_KEY}:{_render(child)}" for key, child in node.items()})
        return "{" + ",".join(fields) + "}"
    if isinstance(node, list):
        return f"[{','.join(_render(child) for child in node)}]"
    return _LEAVES.get(str(node), "null" if node == "NULL" else "json")

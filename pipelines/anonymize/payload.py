"""What is kept of an input or output: its size, its type and its structure, never its values."""

import hashlib

import polars as pl

from pipelines.anonymize.skeleton import BUCKETS, KNOWN_KEYS, bucket, skeleton
from pipelines.sources.duck import query_column

_JSON = r"^\s*[\[{]"
_KINDS = {
    "binary": r"[\x00-\x08\x0E-\x1A\x1C-\x1F]|\x{FFFD}{2}",
    "python-traceback": r"(?m)^\s*Traceback \(most recent call last\):",
    "diff": r"(?m)^(?:diff --git |@@ -[0-9]+)",
    "html": r"(?i)^\s*<(?:!doctype\s+html|html)\b",
    "xml": r"^\s*<(?:\?xml\s|[A-Za-z][^<>]*>)",
    "number": r"^\s*[+-]?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?\s*$",
    "url": r"^\s*[A-Za-z][A-Za-z0-9+.-]*://\S+\s*$",
    "base64": r"^\s*(?:data:\S+;base64,)?[A-Za-z0-9+/_-]{40}[A-Za-z0-9+/_\s-]*={0,2}\s*$",
    "csv": r"^[^\s,;]+(?:[,;\t][^\s,;]*)+\r?\n[^\n]*[,;\t]",
    "markdown": r"(?m)^(?:```|#{1,6} \S)",
}
"""Kinds of text, told by their beginning; the first that fits counts, and anything else is `text`."""
_BEGINNING = 2_000
_ID_DIGITS = 16

_ESCAPE = r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|.)"
_NUMBER = r"-?[0-9]+"
_ODD = 0x9E3779B97F4A7C15
"""Spreads small numbers over 64 bits."""


def describe(payloads: pl.Series, own_keys: frozenset[str] = frozenset()) -> pl.DataFrame:
    """bytes, type, shape, depth, key count and shape id of each payload; null stays null.

    The type is `json` for objects and lists, else a kind of text, which has a length and lines instead of depth and
    keys. Shapes have the names of keys that are structure anywhere, and of the owner's own keys.
    """
    known = KNOWN_KEYS | own_keys
    given = payloads.alias("payload").to_frame()
    may_be_json = payloads.str.contains(_JSON).fill_null(value=False)
    is_json = query_column(payloads.zip_with(may_be_json, _NULL), "json_valid(record)").fill_null(value=False)
    numbered = given.with_row_index("row").with_columns(is_json=is_json)
    of_json = (
        numbered.filter("is_json")
        .select("row", type=pl.lit("json"))
        .hstack(_structures(payloads.filter(is_json), known))
    )
    texts = numbered.filter(~pl.col("is_json") & pl.col("payload").is_not_null())
    described = pl.concat([of_json, _texts(texts)], how="diagonal")
    return numbered.join(described, on="row", how="left", maintain_order="left").select(
        bytes=pl.col("payload").str.len_bytes().cast(pl.Int64),
        type=pl.col("type"),
        shape=pl.col("shape"),
        depth=pl.col("depth"),
        key_count=pl.col("key_count"),
        shape_id=pl.col("shape_id"),
    )


_NULL = pl.Series([None], dtype=pl.String)
_STRUCTURE = {"shape": pl.String, "depth": pl.Int64, "key_count": pl.Int64, "shape_id": pl.String}


def _identify(shape: str) -> str:
    return hashlib.sha256(shape.encode()).hexdigest()[:_ID_DIGITS]


def _structures(texts: pl.Series, known: frozenset[str]) -> pl.DataFrame:
    """The skeletons of JSON texts. Python sees one text of each structure only."""
    if texts.is_empty():
        return pl.DataFrame(schema=_STRUCTURE)
    has_escape = texts.str.contains("\\", literal=True)
    if has_escape.any():
        texts = texts.zip_with(~has_escape, texts.str.replace_all(_ESCAPE, "~"))
    prints = _fingerprints(texts, known).alias("print")
    examples = pl.DataFrame([prints, texts.alias("text")]).unique("print")
    found = (skeleton(text, known) for text in examples["text"])
    rows = [(*told, _identify(told.shape)) for told in found]
    described = pl.DataFrame(rows, schema=_STRUCTURE, orient="row").with_columns(examples["print"])
    return prints.to_frame().join(described, on="print", how="left", maintain_order="left").select(*_STRUCTURE)


def _fingerprints(texts: pl.Series, known: frozenset[str]) -> pl.Series:
    """64 bits per JSON text without escapes: equal where structure, known keys, types and buckets of lengths are."""
    # A quote more makes pieces come in pairs: what stands before a string, and the string.
    pieces = (texts + '"').str.split('"')
    pairs = pieces.list.len() // 2
    flat = pieces.explode()
    before, strings = flat.gather_every(2), flat.gather_every(2, offset=1)
    numeric = before.str.contains("[0-9]").arg_true()
    between = before.hash().scatter(numeric, before.gather(numeric).str.replace_all(_NUMBER, "0").hash())
    size = pl.Series(BUCKETS, dtype=pl.UInt32).search_sorted(strings.str.len_chars(), side="right")
    is_key = before.str.contains(r"^\s*:").shift(-1, fill_value=False)
    place = pl.select(pl.int_ranges(0, pairs)).to_series().explode()
    columns = {"between": between, "key": strings.hash(), "is_key": is_key, "size": size, "place": place}
    key = (
        pl.when(pl.col("key").is_in(pl.Series(sorted(known)).hash().implode())).then("key").otherwise(len(BUCKETS) + 1)
    )
    string = pl.when("is_key").then(key).otherwise(pl.col("size").cast(pl.UInt64))
    token = pl.col("between") + (string * _ODD + pl.col("place").cast(pl.UInt64)).hash()
    sums = pl.DataFrame(columns).select(token.hash().cum_sum()).to_series().gather(pairs.cum_sum() - 1)
    return sums - sums.shift(1, fill_value=0)


def _texts(rows: pl.DataFrame) -> pl.DataFrame:
    """Kind, bucketed length and bucketed lines of texts that are no JSON."""
    beginning = pl.col("payload").str.head(_BEGINNING)
    kind = pl.coalesce(
        *(pl.when(beginning.str.contains(pattern)).then(pl.lit(name)) for name, pattern in _KINDS.items()),
        pl.lit("text"),
    )
    length, lines = pl.col("payload").str.len_chars(), pl.col("payload").str.count_matches("\n", literal=True) + 1
    more = pl.when(pl.col("lines") > 1).then(pl.format("x{} lines", _bucket(pl.col("lines")))).otherwise(pl.lit(""))
    told = rows.select("row", type=kind, length=length, lines=lines).select(
        "row", "type", shape=pl.concat_str("type", pl.lit("("), _bucket(pl.col("length")), pl.lit(")"), more)
    )
    ids = {shape: _identify(shape) for shape in told["shape"].unique()}
    return told.with_columns(shape_id=pl.col("shape").replace_strict(ids, return_dtype=pl.String))


_LABELS = [bucket([start]) for start in (0, *BUCKETS)]


def _bucket(length: pl.Expr) -> pl.Expr:
    place = pl.sum_horizontal((length >= start).cast(pl.UInt32) for start in BUCKETS)
    return place.replace_strict(list(range(len(_LABELS))), _LABELS, return_dtype=pl.String)

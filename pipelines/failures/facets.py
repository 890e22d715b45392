"""What is read off a failure before its values are masked: statuses, names of parts, and the frames of its stack."""

import polars as pl

from pipelines.failures.words import EXCEPTION

_REASONS = (
    "Bad|Unauthorized|Payment|Forbidden|Not Found|Method|Not Acceptable|Request|Conflict|Gone|Payload|Unprocessable"
    "|Too Many|Client|Internal|Not Implemented|Service|Gateway|Server|Overloaded"
)
_HTTP_STATUS = (
    r"(?i)(?:^|\bhttp(?:/[\d.]+)?|\b(?:status|error|response|http)[ _-]?code|\berror|['\"]status['\"]|\bstatus="
    r"|\b(?:returned|responded with|got|received)(?: an?)?(?: status)?)['\"]?\s*[:=(]*\s*['\"]?([45]\d\d)\b"
    rf"|\b([45]\d\d)\b['\"]?[\s:,-]*(?:{_REASONS})\b"
)
_EXIT_CODE = (
    r"(?i)\b(?:exit(?:ed|s)?|returned non-zero exit)\b(?: with)?(?: non-?zero)?(?: exit)?[ _-]?(?:status|code)?"
    r"\s*[:=]?\s*\(?(-?\d{1,3})\b"
)
_MAYBE_STATUS = r"[^0-9][45][0-9][0-9](?:[^0-9]|$)|^[45][0-9][0-9]|(?i:exit)"
_STATUSES = ("http_status", "exit_code")
_HOST = r"(?i)\bhost(?:name)?=['\"]([\w.-]+)|://(?:[^\s/@]*@)?([\w.-]+)|\b([\w-]+(?:\.[\w-]+)+):\d{2,5}\b"
_TOOL = r"""(?i)\btool(?:[_ ]name)?["']?(?: call)?[\s:=]+["'`]?([a-z][\w.-]*)["'`]?"""
_PROVIDER = (
    r"(?i)\b(openai|anthropic|azure|bedrock|vertex|gemini|mistral|cohere|groq|deepseek|together|fireworks|openrouter"
    r"|ollama|hugging ?face|xai)\b"
)
_TAG = "<[^<>]*>"
"""What the sanitizer put in: a key of a provider, leaked, is no word about the provider."""
_PROVIDERS_OF_MODELS = {
    r"(?i)\b(?:gpt|o[134]|text-embedding|davinci)-\w": "openai",
    r"(?i)\bclaude-\w": "anthropic",
    r"(?i)\bgemini-\w": "gemini",
    r"(?i)\b(?:mistral|mixtral)-\w": "mistral",
    r"(?i)\bdeepseek-\w": "deepseek",
}
_FRAME = (
    r"""File "[^"\n]+", line \d+, in [\w<>.]+"""
    r"""|(?m:^\s*at (?:async |new )?(?:[\w.$<>\[\] ]+ \([^)\n]+\)|[\w.$<>]+\([^)\n]*\)))"""
)
_FUNCTION = r"(?:, in |at (?:async |new )?)([\w.$<>]+)"
_MODULE = r"""(?:File "|\()(?:[^"\n()]*[\\/])?([^\\/"\n():]+?)(?:\.\w+)?["):]"""
_FOREIGN = (
    r"site-packages|dist-packages|[\\/]lib[\\/]python|node_modules|node:|<frozen|<string>"
    r"|^\s*at (?:java|javax|sun|jdk)\."
)
_FRAMES_KEPT = 2


def facets(head: pl.Expr) -> list[pl.Expr]:
    """exception_type (without module), http_status, exit_code, host, tool and provider that a head tells; else null."""
    by_model = [
        pl.when(head.str.contains(pattern)).then(pl.lit(name)) for pattern, name in _PROVIDERS_OF_MODELS.items()
    ]
    said = head.str.replace_all(_TAG, "")
    return [
        head.str.extract(rf"\b({EXCEPTION})\b").alias("exception_type"),
        _first_group(head, _HTTP_STATUS, 2).alias("http_status"),
        head.str.extract(_EXIT_CODE).alias("exit_code"),
        _first_group(head, _HOST, 3).alias("host"),
        head.str.extract(_TOOL).alias("tool"),
        pl.coalesce(said.str.extract(_PROVIDER).str.to_lowercase(), *by_model).alias("provider"),
    ]


def statuses(heads: pl.Series) -> pl.DataFrame:
    """http_status and exit_code of each head, looked for only where a number can be one."""
    table, head = heads.to_frame("head").lazy(), pl.col("head")
    likely = table.select(head.str.contains(_MAYBE_STATUS)).collect(engine="streaming").to_series().arg_true()
    told = [facet for facet in facets(head) if facet.meta.output_name() in _STATUSES]
    found = table.select(head.gather(likely)).select(told).collect()
    nothing = pl.Series([None], dtype=pl.String).new_from_index(0, len(heads))
    return pl.DataFrame([nothing.alias(name).scatter(likely, found[name]) for name in _STATUSES])


def frames(stacks: pl.Series) -> pl.Series:
    """The innermost two frames of each stack as `module.function`, innermost first; no lines, no folders.

    Frames of libraries and of the runtime count only where there are no others. Understands Python, Java and
    JavaScript.
    """
    traces = stacks.rename("stack").to_frame().with_row_index()
    distinct = traces.filter(pl.col("stack").is_not_null()).group_by("stack").agg(pl.col("index"))
    each = distinct.with_row_index("number").with_columns(frame=pl.col("stack").str.extract_all(_FRAME))
    each = (
        each.explode("frame", empty_as_null=True)
        .filter(pl.col("frame").is_not_null())
        .with_columns(
            order=pl.int_range(pl.len()).over("number"),
            is_foreign=pl.col("frame").str.contains(_FOREIGN),
            name=pl.concat_str(
                pl.col("frame").str.extract(_MODULE),
                pl.col("frame").str.extract(_FUNCTION).str.split(".").list.last(),
                separator=".",
                ignore_nulls=True,
            ),
        )
        .filter(~pl.col("is_foreign") | pl.col("is_foreign").all().over("number"))
    )
    inner = pl.when(pl.col("frame").str.starts_with("File")).then(-pl.col("order")).otherwise(pl.col("order"))
    kept = each.group_by("number").agg(
        pl.col("index").first(), pl.col("name").sort_by(inner).head(_FRAMES_KEPT).alias("frames")
    )
    return traces.join(kept.explode("index"), on="index", how="left", maintain_order="left")["frames"]


def _first_group(text: pl.Expr, pattern: str, groups: int) -> pl.Expr:
    return pl.coalesce(text.str.extract(pattern, group) for group in range(1, groups + 1))

"""From a failure's text to its identity: the head of the text, a readable template, a key, a signature.

A pure function of the (sanitized) text and stack and the version of these rules: no other failure, and no order, has a
say.
"""

import re

import polars as pl
import polars_hash as plh

from pipelines.failures.distinct import once
from pipelines.failures.facets import facets, frames, statuses
from pipelines.failures.text import heads
from pipelines.failures.words import EXCEPTION, EXCEPTION_ENDING, TELLS_OUTCOME

RULES_VERSION = 2
"""Part of every signature: whoever changes a rule below, or in the modules it uses, gives it a new version."""

MASK = "<*>"
_ID_DIGITS = 16
_FEW_WORDS = 2
_STATUSES = (pl.format(" [HTTP {}]", "http_status"), pl.format(" [exit {}]", "exit_code"))
_SEGMENT = r"""[^\s\\/:"'`(),;=\[\]{}<>|]+"""
_CODE = "py|pyx|js|mjs|ts|tsx|jsx|vue|java|kt|scala|go|rs|rb|php|c|cc|cpp|h|hpp|cs|swift|lua|sh|sql|ya?ml|json|txt"
_WEEKDAY, _MONTH = "(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)", "(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)"


def _ascii(*rules: tuple[str, str]) -> tuple[tuple[str, str], ...]:
    """The rules with ASCII's letters and digits only, which makes them three times as fast."""
    in_class = re.compile(r"\[\^?(?:\\.|[^\]\\])*\]")
    inside = [in_class.sub(lambda found: _spelled(found[0], "{}"), pattern) for pattern, _ in rules]
    return tuple((_spelled(pattern, "[{}]"), mask) for pattern, (_, mask) in zip(inside, rules, strict=True))


def _spelled(pattern: str, form: str) -> str:
    return pattern.replace(r"\w", form.format("0-9A-Za-z_")).replace(r"\d", form.format("0-9"))


_SPOKEN = _ascii(
    # A quotation that tells an outcome is a message; any other is a value.
    (rf'"([^"]*\s[^"]*{TELLS_OUTCOME}[^"]*|[^"]*{TELLS_OUTCOME}\s[^"]*)"', " ${1} "),
    (rf"\B'([^']*\s[^']*{TELLS_OUTCOME}[^']*|[^']*{TELLS_OUTCOME}\s[^']*)'", " ${1} "),
    # The method of a request tells more than its address.
    (r'"(GET|POST|PUT|DELETE|PATCH|HEAD|OPTIONS) ([^"]*)"', '${1} "${2}"'),
    # The module of an exception varies with versions, and a digit in its name is no value.
    (rf"\b(?:\w+\.)+({EXCEPTION})\b", "${1}"),
    (rf"\b([A-Z][A-Za-z]*)\d+([A-Za-z]*{EXCEPTION_ENDING})\b", "${1}${2}"),
)
_VALUES = _ascii(
    # What a sanitizer put in, and tags that look like it.
    (r"<[a-zA-Z_]+(?::[\w-]+)?>", "${0}"),
    (r"""(?i:[a-z][a-z0-9+.-]*://[^\s"'<>)\]]*[^\s"'<>)\],.;:])""", "<url>"),
    (r'"[^"]*"|\B\'[^\']*\'|`[^`]*`', "<text>"),
    (r"(?i-u:\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b)", "<uuid>"),
    (r"(?i-u:\b(?:[0-9a-f]{1,4}:{1,2}){3,}[0-9a-f]{1,4}\b)", "<ip>"),
    (r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?(?:Z|[+-]\d\d:?\d\d)?", "<time>"),
    (
        rf"\b(?:{_WEEKDAY},? )?{_MONTH} +\d+,? \d+(?::\d+)*(?: [A-Z]{{3,4}})?(?: \d+)?\b",
        "<time>",
    ),
    (r"\b(?:\d{4}-\d\d-\d\d|\d{1,4}/\d{1,2}/\d{1,4}|\d\d?:\d\d(?::\d\d(?:[.,:]\d+)?)?)\b", "<date>"),
    (r"\b(?:req|call|toolu|chatcmpl|msg|resp|run|thread|asst|file|task|job)[-_][A-Za-z0-9]{6,}\b", "<id>"),
    (r"(?i-u:\b(?:gpt|claude|gemini|gemma|llama|mistral|mixtral|qwen|deepseek|grok|phi|o\d)-[\w.:@-]*\w)", "<model>"),
    (
        (
            rf"(?:\b[A-Za-z]:|\.{{1,2}}|~)(?:[\\/]+{_SEGMENT})+[\\/]*|[\w.-]*(?:[\\/]+{_SEGMENT}){{2,}}[\\/]*"
            r"|[\w-]+\.[\w.-]*(?:/[\w.$-]+)+|(?:[\w-]+/)+[\w-]+\.\w+"
        ),
        "<path>",
    ),
    (r"\b[\w-]+(?:\.[\w-]+)+:\d+\b", "<host>:<port>"),
    # Values joined by bars.
    (r"[^\s|:=,(]*(?:\|[^\s|]*){2,}", "<record>"),
    (r"(?i-u:\b(?:0x[0-9a-f]+|[0-9a-f]{8,})\b)", "<hex>"),
    (r"\b\d{1,3}\.\d{1,3}\.\d{1,3}\.x\b", "<ip>"),
    (r"\b\d+(?:\.\d+){2,3}\b", "<version>"),
    (
        r"(?i-u:\b\d[\d,]*(?:\.\d+)?\s?(?:ms|s|us|sec|secs|seconds?|min|minutes?|h|hours?|days?|(?:milli|micro)seconds?)\b)",
        "<duration>",
    ),
    (r"(?i-u:\b\d[\d,]*(?:\.\d+)?\s?(?:b|[kmg]i?b|bytes)\b)", "<size>"),
    # Digits at the start, in the middle or at the end of a long word; IPv6, utf8 and eth0 are names.
    (r"\b(?:\d\w*(?:[.,]\d\w*)*|[A-Za-z_]\w*\d\w+|[A-Za-z_]\w{5,}\d|[A-Za-z]\d)\b", "<num>"),
    (r"(?i-u:\b(?:true|false|null|none|nil|undefined)\b)", "<bool>"),
)
_FINER = _ascii(
    (r"\d{1,3}(?:\.\d{1,3}){2}\.(?:x|\d{1,3}):\d+", "<ip>:<port>"),
    (rf"[\w.-]+\.(?:{_CODE}):\d+", "<path>:<line>"),
    (r"[\w.-]*[a-z][A-Z][\w.-]*:\d+", "<name>:<line>"),
    (r"\d{1,3}(?:\.\d{1,3}){3}", "<ip>"),
    (r"(?i-u:[0-9a-f]{2}(?::[0-9a-f]{2}){5,7})", "<mac>"),
)
"""What a template tells more finely than a key has to."""
_NETWORK = (
    r"(?i-u:\b(?:(?:[0-9a-f]{1,4}:){2,7}|(?:[23][0-9a-f]{3}|f[cde][0-9a-f]{2}):):)(?:/\d+)?([\s,;.)\]}'\x22]|$)",
    "<ip>${1}",
)
"""The network of an IPv6 address, as the sanitizer leaves it."""
_HOMES = (("<path><user>", "<path>/<user>"), ("<user><path>", "<user>/<path>"))
_NUMBERS = r"(?i-u:\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b|\b(?:0x)?[0-9a-f]{8,}\b)|\b\d+(?:[.,:]\d+)*\w*"
"""Written as 0 before a key is made, so that texts which differ in numbers only are masked once."""
_ANY_VALUE = "|".join(pattern for pattern, _ in _VALUES)
_JOINED_MASKS = _ascii(
    # What hangs together with a value is part of it, signs before it too; values in a row are one.
    (r"(?:\B[-+#*]+)?(?:[\w$@~]+[-.])*[\w$@~]*<\*>(?:[-.~@$]*\w+|[-.~@$:]*<\*>)*", MASK),
    (r"<\*>(?:[\s,;:|/#+.x@~%-]*<\*>)+", MASK),
)
_JOINED = ((r"\.{2,}", " .. "), *_JOINED_MASKS, (r"\s{2,}", " "))


_LOOSE = r"""["']|\.[A-Z]|[A-Z][A-Za-z]*[0-9]|\.\.|  |[^\S ]"""
"""Where this is not found, nothing is spoken, no dots are in a row, and no space becomes two."""
_EXCEPTION_NAME = _ascii((rf"\b{EXCEPTION}\b", ""))[0][0]
_ASCII_WORD = r"[^\x00-@\[-`{-\x7f]{2,}"


def identify(messages: pl.Series, stacks: pl.Series | None = None) -> pl.DataFrame:
    """match_key and signature_id of each failure, in order; null where there is no message.

    The key is the head with every value masked, and its HTTP status and exit code. Where fewer than two words are left
    besides an exception's name, which may be said in many places, the frames of the stack are part of it.
    """
    return once(_texts(messages, stacks), _identities)


def normalise(messages: pl.Series, stacks: pl.Series | None = None) -> pl.DataFrame:
    """The identity of each failure and what it was made from, in order; null where there is no message.

    head; the facets exception_type, http_status, exit_code, host, tool and provider; frames, innermost first; template,
    which is the head with its values named by type; match_key and signature_id.
    """
    told = heads(messages).to_frame().with_columns(facets(pl.col("head")))
    traces = _traces(_texts(messages, stacks))
    return told.with_columns(frames(traces), _templates(told), *identify(messages, stacks))


def values(head: pl.Series) -> pl.DataFrame:
    """The values of each head, as lists in their order: `type`, as templates name it, and `text`, which it stands for.

    A tag that the sanitizer put in is its own type. `before` is what stands before each value, and after the last one.
    """
    spoken = _replaced(head.to_frame("text"), ("\0", ""), *_SPOKEN, _NETWORK)["text"]
    texts = spoken.str.extract_all(_ANY_VALUE).rename("text")
    before = spoken.str.replace_all(_ANY_VALUE, "\0").str.split("\0").rename("before")
    said = texts.list.explode(keep_nulls=False, empty_as_null=False).unique()
    types = dict(zip(said, said.to_frame("text").select(_type(pl.col("text"))).to_series(), strict=True))
    named = texts.list.eval(pl.element().replace_strict(types, return_dtype=pl.String)).rename("type")
    return pl.DataFrame([texts, named, before])


def _type(value: pl.Expr) -> pl.Expr:
    """What a template says for a value."""
    named = [
        pl.when(value.str.contains(rf"^(?:{pattern})$")).then(value.str.replace(r"(?s)^(.*)$", mask))
        for pattern, mask in (*_FINER, *_VALUES)
    ]
    return pl.coalesce(*named, pl.lit("<value>"))


def _templates(told: pl.DataFrame) -> pl.Series:
    """The heads with their values named by type, and their statuses."""
    found = values(told["head"])
    named = pl.concat_list("type", pl.lit("")).alias("type")
    each = found.with_row_index().with_columns(named).drop("text").explode("before", "type")
    texts = each.group_by("index", maintain_order=True).agg(pl.concat_str("before", "type").str.join(""))["before"]
    written = _replaced(texts.to_frame("text"), *_HOMES, (r"\s{2,}", " "))
    rows = pl.concat([told, written], how="horizontal")
    template = pl.concat_str(pl.col("text").str.strip_chars(), *_STATUSES, ignore_nulls=True)
    return rows.select(pl.when(pl.col("head").is_not_null()).then(template).alias("template")).to_series()


def _texts(messages: pl.Series, stacks: pl.Series | None) -> pl.DataFrame:
    return pl.DataFrame([messages.rename("message"), *([] if stacks is None else [stacks.rename("stack")])])


def _identities(texts: pl.DataFrame) -> pl.DataFrame:
    """match_key and signature_id of each message (and stack)."""
    head = heads(texts["message"])
    shapes = _replaced(head.to_frame("text"), (_NUMBERS, "0")).with_columns(statuses(head))
    traces = _traces(texts)
    if traces.null_count() == len(traces):
        return once(shapes, lambda distinct: once(_keys(_mask(distinct)), _signatures))
    masked = once(shapes, _mask)
    return once(_keys(masked, _frames(traces, masked["text"])), _signatures)


def _keys(masked: pl.DataFrame, *frames_told: pl.Series) -> pl.DataFrame:
    """match_key of each masked text, its statuses and frames."""
    told = pl.concat_str("text", *_STATUSES, *frames_told, ignore_nulls=True)
    return masked.select(pl.when(pl.col("text").is_not_null()).then(told).alias("match_key"))


def _mask(shapes: pl.DataFrame) -> pl.DataFrame:
    """The shapes with their values masked. Few are loose, and most rules are for those."""
    is_loose = shapes["text"].str.contains(_LOOSE).fill_null(value=False)
    loose = _replaced(shapes.filter(is_loose), *_SPOKEN, (_ANY_VALUE, MASK), *_JOINED)
    other = _replaced(shapes.filter(~is_loose), (_ANY_VALUE, MASK), *_JOINED_MASKS)
    places = pl.concat([is_loose.arg_true(), (~is_loose).arg_true()]).arg_sort()
    return shapes.with_columns(pl.concat([loose["text"], other["text"]]).gather(places).str.strip_chars())


def _replaced(texts: pl.DataFrame, *rules: tuple[str, str]) -> pl.DataFrame:
    """The texts with what each rule finds replaced, on all cores."""
    text = pl.col("text")
    for pattern, mask in rules:
        text = text.str.replace_all(pattern, mask)
    return texts.lazy().select(text).collect(engine="streaming")


def _frames(traces: pl.Series, keys: pl.Series) -> pl.Series:
    """` @frame @frame` of each failure whose key says little, where there is a stack."""
    words = keys.str.count_matches(_ASCII_WORD) - keys.str.count_matches(_EXCEPTION_NAME)
    short = traces.zip_with((words < _FEW_WORDS).fill_null(value=False), pl.Series([None], dtype=pl.String))
    return frames(short).list.eval(" @" + pl.element()).list.join("")


def _traces(texts: pl.DataFrame) -> pl.Series:
    """The stack of each failure, else its message where that has lines."""
    of_message = pl.when(pl.col("message").str.contains("\n", literal=True)).then("message")
    traces = pl.coalesce("stack", of_message) if "stack" in texts.columns else of_message
    return texts.select(traces.alias("trace")).to_series()


def _signatures(keys: pl.DataFrame) -> pl.DataFrame:
    """match_key again, and the signature_id."""
    versioned = pl.format(f"{RULES_VERSION}\n{{}}", "match_key").alias("versioned")
    digest = plh.col("versioned").chash.sha2_256().str.head(_ID_DIGITS)
    return keys.with_columns(versioned).select("match_key", digest.alias("signature_id"))

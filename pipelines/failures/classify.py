"""What kind of failure a key tells of: category, severity, fault domain, and whether to try again helps.

Ordered rules; the first that fits wins, and its id and the words it saw are the evidence.
"""

from dataclasses import dataclass
from typing import Literal

import polars as pl

from pipelines.failures.fingerprint import identify

Severity = Literal["high", "medium", "low"]
FaultDomain = Literal["provider", "agent", "tool", "user_input", "platform", "unknown"]


@dataclass(frozen=True, slots=True)
class Category:
    """A kind of failure."""

    name: str
    severity: Severity
    fault_domain: FaultDomain
    retryable: bool


@dataclass(frozen=True, slots=True)
class Rule:
    """The keys that tell of a category: those in which a pattern is found."""

    id: str
    category: str
    pattern: str


CATEGORIES = (
    Category("rate_limit", "medium", "provider", retryable=True),
    Category("context_length", "medium", "agent", retryable=False),
    Category("content_policy", "low", "user_input", retryable=False),
    Category("step_limit", "medium", "agent", retryable=False),
    Category("ai_timeout", "high", "provider", retryable=True),
    Category("auth", "high", "platform", retryable=False),
    Category("out_of_memory", "high", "platform", retryable=False),
    Category("provider_error", "high", "provider", retryable=True),
    Category("network", "medium", "platform", retryable=True),
    Category("dependency_error", "high", "platform", retryable=False),
    Category("syntax_error", "medium", "agent", retryable=True),
    Category("tool_error", "medium", "tool", retryable=True),
    Category("file_not_found", "medium", "tool", retryable=False),
    Category("validation_error", "high", "agent", retryable=True),
    Category("assertion", "medium", "agent", retryable=False),
    Category("command_error", "medium", "tool", retryable=False),
    Category("cancelled", "low", "user_input", retryable=False),
    Category("code_error", "medium", "agent", retryable=False),
)
UNKNOWN = Category("unknown", "medium", "unknown", retryable=False)

RULES = (
    Rule("rate_limit.status", "rate_limit", r"\[http 429\]"),
    Rule(
        "rate_limit.words",
        "rate_limit",
        r"rate.?limit|too many requests|quota (?:was )?exceeded|exceeded your current quota|insufficient.?quota|throttl"
        r"|resource.?exhausted",
    ),
    Rule(
        "context_length.words",
        "context_length",
        r"context.?(?:length|window)|maximum context|prompt is too long|too many tokens|token limit|input is too long",
    ),
    Rule(
        "content_policy.words",
        "content_policy",
        r"content.?(?:policy|filter|management)|safety (?:system|filter)|refused to answer|responsible.?ai",
    ),
    Rule(
        "step_limit.words",
        "step_limit",
        r"(?:step|turn|iteration|recursion|budget|cost).?limit|max(?:imum)?[_ ](?:number of )?(?:steps|turns|iterations"
        r"|errors)|exceed(?:ed|s) (?:the )?limit|exit.?(?:cost|context)|too_many_errors|early.?exit|cost <\*> exceeds"
        r"|(?:agent|test)[_ ](?:command )?(?:timeout|timed out)",
    ),
    Rule(
        "ai_timeout.words",
        "ai_timeout",
        r"\btime[sd]?[ _-]?out\b|timeout(?:error|exception|expired)"
        r"|(?:read|write|connect|connection|request|gateway|pool|api|agent|model)[ _]?timeout|deadline exceeded"
        r"|took too long",
    ),
    Rule("ai_timeout.status", "ai_timeout", r"\[http (?:408|504|524)\]"),
    Rule("auth.status", "auth", r"\[http 40[13]\]"),
    Rule(
        "auth.words",
        "auth",
        r"unauthori[sz]ed|forbidden|authentication|(?:invalid|incorrect) (?:api )?key|permission.?denied|access.?denied"
        r"|permissionerror|not permitted|read-only file system",
    ),
    Rule(
        "out_of_memory.words",
        "out_of_memory",
        r"out.?of.?memory|oom.?kill|memoryerror|cannot allocate memory|enospc|no space left|\[exit 137\]",
    ),
    Rule(
        "provider_error.words",
        "provider_error",
        r"\[http 5\d\d\]|internal server error|bad gateway|service unavailable|overloaded|upstream",
    ),
    Rule(
        "network.words",
        "network",
        r"connection.?(?:refused|reset|aborted|closed|error)|\beconn|\benotfound|getaddrinfo|name resolution"
        r"|resolv(?:e|ing)"
        r"|unreachable|broken ?pipe|remote end closed|disconnected|\bssl\b|\btls\b|\bdns\b|max retries exceeded",
    ),
    Rule(
        "dependency_error.words",
        "dependency_error",
        r"modulenotfound|importerror|cannot (?:find|import|load) module|no module named|cannot import name"
        r"|unmet dependency"
        r"|npm err|installation.?failed|no matching distribution|unable to locate package|missing dependency"
        r"|classnotfound|shared librar(?:y|ies)|could not find a version",
    ),
    Rule(
        "syntax_error.words",
        "syntax_error",
        r"syntax ?error|invalid syntax|indentationerror|unexpected (?:token|indent)|jsondecode"
        r"|(?:invalid|malformed) json"
        r"|pars(?:e|ing)[ _]?(?:error|failed)|error pars|failed to (?:parse|decode)|cannot parse|parseerror"
        r"|outputparser"
        r"|unterminated|was never closed|expecting (?:value|property)|not well-formed|introduced new .*error",
    ),
    Rule(
        "file_not_found.words",
        "file_not_found",
        r"no such file|filenotfound|file .{0,40}(?:not found|does not exist)"
        r"|path .{0,40}(?:not found|does not exist|not allowed)"
        r"|notadirectory|isadirectory|not a directory|is a directory|fileexists",
    ),
    Rule(
        "command_error.words",
        "command_error",
        r"command not found|command .{0,60}(?:failed|returned non-zero)|calledprocesserror"
        r"|unrecognized (?:option|argument)"
        r"|unary operator|unbound variable|no matches found|usage:|illegal option|invalid option|\[exit \d+\]",
    ),
    Rule(
        "tool_error.words",
        "tool_error",
        r"\btool\b.{0,60}(?:failed|error|not found|raised|unknown)|toolexecution|tool_error",
    ),
    Rule(
        "tool_error.call",
        "tool_error",
        r"(?:function|tool) name <\*> not found|(?:unknown|no such|matching) (?:function|tool)|number of functions"
        r"|error in execution|execution (?:failed|result)|error executing",
    ),
    Rule(
        "validation_error.words",
        "validation_error",
        r"validat|schema|missing (?:a )?required|invalid (?:argument|value|type|parameter|input|format)"
        r"|(?:incorrect|wrong|unexpected) (?:type|parameter|value|argument|output|number)|optional parameter"
        r"|must be (?:a|an|of|in|one)\b|inconsisten|expected type|\[http 4\d\d\]|already exists|not eligible"
        r"|does not match",
    ),
    Rule("assertion.words", "assertion", r"\bassert|did not pass"),
    Rule("cancelled.words", "cancelled", r"\bcancell?ed\b|keyboardinterrupt|\bsigterm\b|\bsigint\b"),
    Rule(
        "validation_error.exception",
        "validation_error",
        r"(?:type|value|key|attribute|index|lookup)error",
    ),
    Rule(
        "code_error.exception",
        "code_error",
        r"\b\w+(?:error|exception)\b|is not defined|has no attribute|undefined name|not callable|traceback|panic\b"
        r"|segmentation fault|core dumped|object is not",
    ),
)
_CATEGORY_OF = {category.name: category for category in (*CATEGORIES, UNKNOWN)}


_FRAMES = r"(?: @\S+)+$"
"""Where it failed is no evidence of what failed."""


def classify(keys: pl.Series) -> pl.DataFrame:
    """category, severity, fault_domain, retryable, rule (its id) and evidence (the words it saw) of each match key.

    A key that no rule fits is of category unknown, without rule and evidence. Null stays null.
    """
    unique = keys.rename("key").drop_nulls().unique().to_frame()
    said = pl.col("key").str.replace(_FRAMES, "")
    fits = [said.str.extract(f"(?i)({rule.pattern})") for rule in RULES]
    found = [pl.when(fit.is_not_null()) for fit in fits]
    named = unique.with_columns(
        category=pl.coalesce(
            *(one.then(pl.lit(rule.category)) for one, rule in zip(found, RULES, strict=True)), pl.lit(UNKNOWN.name)
        ),
        rule=pl.coalesce(one.then(pl.lit(rule.id)) for one, rule in zip(found, RULES, strict=True)),
        evidence=pl.coalesce(fits),
    ).with_columns(
        pl.col("category")
        .replace_strict(
            {name: getattr(category, attribute) for name, category in _CATEGORY_OF.items()}, return_dtype=dtype
        )
        .alias(attribute)
        for attribute, dtype in (("severity", pl.String), ("fault_domain", pl.String), ("retryable", pl.Boolean))
    )
    told = keys.to_frame("key").join(named, on="key", how="left", maintain_order="left")
    return told.select("category", "severity", "fault_domain", "retryable", "rule", "evidence")


def categorize(texts: pl.Series) -> pl.Series:
    """The category of each failure text; null stays null. A pure function of its key, as its signature is."""
    return classify(identify(texts)["match_key"])["category"]

"""What kind of failure a text tells of: category, severity and fault domain, by ordered rules; the first fit wins."""

from dataclasses import dataclass
from typing import Literal

import polars as pl

from pipelines.failures.fingerprint import fingerprint

Severity = Literal["high", "medium", "low"]
FaultDomain = Literal["provider", "agent", "tool", "user_input", "platform", "unknown"]


@dataclass(frozen=True, slots=True)
class Category:
    """A kind of failure, and the texts that tell of it."""

    name: str
    severity: Severity
    fault_domain: FaultDomain
    pattern: str


CATEGORIES = (
    Category(
        "rate_limit",
        "medium",
        "provider",
        r"rate.?limit|\[http 429\]|too many requests|quota (?:was )?exceeded|exceeded your current quota|throttl"
        r"|resource.?exhausted",
    ),
    Category(
        "context_length",
        "medium",
        "agent",
        r"context.?(?:length|window)|maximum context|prompt is too long|too many tokens|token limit",
    ),
    Category(
        "content_policy", "low", "user_input", r"content.?(?:policy|filter)|safety (?:system|filter)|refused to answer"
    ),
    Category(
        "step_limit",
        "medium",
        "agent",
        r"(?:step|turn|iteration|recursion).?limit|max(?:imum)?[_ ](?:steps|turns|iterations)|(?:agent|test).?timeout",
    ),
    Category(
        "ai_timeout",
        "high",
        "provider",
        r"\btime[sd]?[ _-]?out\b|timeout(?:error|exception|expired)"
        r"|(?:read|write|connect|connection|request|gateway|pool|api|agent|model)[ _]?timeout|\[http (?:408|504|524)\]"
        r"|deadline exceeded|took too long",
    ),
    Category(
        "auth",
        "high",
        "platform",
        r"\[http 40[13]\]|unauthori[sz]ed|forbidden|authentication|invalid (?:api )?key"
        r"|permission.?denied|access.?denied",
    ),
    Category(
        "out_of_memory", "high", "platform", r"out.?of.?memory|oom.?kill|memoryerror|cannot allocate memory|enospc"
    ),
    Category(
        "provider_error",
        "high",
        "provider",
        r"\[http 5(?:00|02|03|29)\]|internal server error|bad gateway|service unavailable|overloaded|upstream",
    ),
    Category(
        "network",
        "medium",
        "platform",
        r"connection.?(?:refused|reset|aborted|closed|error)|\beconn|\benotfound|getaddrinfo|name resolution"
        r"|unreachable|broken pipe|\bssl\b|\btls\b",
    ),
    Category(
        "dependency_error",
        "high",
        "platform",
        r"modulenotfound|importerror|cannot find module|no module named|unmet dependency|npm err|installation.?failed",
    ),
    Category(
        "syntax_error",
        "medium",
        "agent",
        r"syntaxerror|indentationerror|unexpected token|jsondecode|invalid json|pars(?:e|ing).?(?:error|failed)"
        r"|outputparser|unterminated",
    ),
    Category(
        "tool_error", "medium", "tool", r"\btool\b.{0,60}(?:failed|error|not found|raised)|toolexecution|tool_error"
    ),
    Category(
        "validation_error",
        "high",
        "agent",
        r"validation|schema|(?:type|value|key|attribute)error|missing required|invalid (?:argument|value|type)"
        r"|must be (?:a|an|of)\b",
    ),
    Category("assertion", "medium", "agent", r"assert"),
)
UNKNOWN = Category("unknown", "medium", "unknown", "")


def categorize(texts: pl.Series) -> pl.Series:
    """The category of each failure text; null stays null. A pure function of its template, as its signature is."""
    unique = texts.unique().drop_nulls()
    templates = fingerprint(unique)["template"].alias("template")
    fits = [
        pl.when(pl.col("template").str.contains(f"(?i){category.pattern}")).then(pl.lit(category.name))
        for category in CATEGORIES
    ]
    named = pl.DataFrame([unique.alias("text"), templates]).select(
        "text", pl.coalesce(*fits, pl.lit(UNKNOWN.name)).alias("category")
    )
    return texts.to_frame("text").join(named, on="text", how="left", maintain_order="left")["category"]

"""Rules of a gitleaks configuration, read at run time. Its patterns are Go's, which are nearly Rust's."""

import logging
import re
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import polars as pl
from pydantic import AfterValidator, BaseModel, Field, ValidationError

from pipelines.anonymize.checksums import entropy
from pipelines.anonymize.rules import Rule, Stage
from pipelines.anonymize.user_rules import UnfitRuleError, check_pattern, reason_of

_ASCII = {r"\w": "[0-9A-Za-z_]", r"\W": "[^0-9A-Za-z_]", r"\d": "[0-9]", r"\D": "[^0-9]", r"\b": r"(?-u:\b)"}
"""What Go means by these is ASCII; Rust's Unicode classes exceed the size limit in some rules."""

log = logging.getLogger(__name__)


class GitleaksError(Exception):
    """A gitleaks configuration cannot be used. `problems` say in which line, where and what."""

    def __init__(self, path: Path, problems: list[tuple[int | None, str, str]]) -> None:
        super().__init__(f"{path}: " + "; ".join(f"{where}: {what}" for _, where, what in problems))
        self.path = path
        self.problems = problems


def _as_rust(pattern: str) -> str:
    return re.sub(r"\\.", lambda found: _ASCII.get(found[0], found[0]), pattern, flags=re.DOTALL)


Pattern = Annotated[str, AfterValidator(_as_rust)]


class _Allowlist(BaseModel):
    """Values that are no secrets. What depends on files and commits cannot hold for a text."""

    target: Literal["secret", "match", "line"] = Field("secret", alias="regexTarget")
    regexes: list[Pattern] = []
    stopwords: list[str] = []
    paths: list[str] = []
    commits: list[str] = []
    condition: Literal["OR", "AND", "||", "&&", "or", "and"] = "OR"
    rules: list[str] = Field([], alias="targetRules")

    def allows(self, secret: str, match: str) -> bool:
        """Whether the secret is none. Of the line around it only the match is known."""
        text = secret if self.target == "secret" else match
        verdicts = [_contains(text, self.regexes)] if self.regexes else []
        verdicts += [any(word.lower() in secret.lower() for word in self.stopwords)] if self.stopwords else []
        if self.condition.upper() in {"AND", "&&"}:
            return bool(verdicts) and all(verdicts) and not self.paths and not self.commits
        return any(verdicts)


class _Rule(BaseModel):
    id: str
    regex: Pattern | None = None
    group: int = Field(0, alias="secretGroup", ge=0)
    entropy: float = 0
    keywords: list[str] = []
    allowlist: _Allowlist | None = None
    allowlists: list[_Allowlist] = []


class _Configuration(BaseModel):
    rules: list[_Rule] = []
    allowlist: _Allowlist | None = None
    allowlists: list[_Allowlist] = []
    extend: dict[str, Any] = {}


def read_gitleaks(path: Path) -> tuple[Stage, ...]:
    """The rules of a gitleaks configuration, one stage each. Raises GitleaksError.

    Rules without a regex look at the names of files only; they are left out, and so is what `extend` names.
    """
    text, configuration = _parse(path)
    for rule in configuration.rules:
        if rule.regex is None:
            log.warning("%s: %s is left out: it has no regex, only names of files", path, rule.id)
    if configuration.extend:
        log.warning("%s: `extend` is not followed; name a file that holds all rules", path)
    shared = _all(configuration)
    found = [(rule, rule.regex) for rule in configuration.rules if rule.regex is not None]
    problems = [(_line(text, rule.id), rule.id, what) for rule, regex in found if (what := _unfit(rule, regex, shared))]
    if problems:
        raise GitleaksError(path, problems)
    return tuple(_stage(rule, regex, shared) for rule, regex in found)


def _parse(path: Path) -> tuple[str, _Configuration]:
    try:
        text = path.read_text(encoding="utf-8")
        return text, _Configuration.model_validate(tomllib.loads(text))
    except OSError as error:
        problems = [("file", f"it cannot be read ({error.strerror})")]
    except UnicodeDecodeError:
        problems = [("file", "it is not UTF-8")]
    except tomllib.TOMLDecodeError as error:
        problems = [("file", str(error))]
    except ValidationError as error:
        problems = [(".".join(map(str, one["loc"])), one["msg"]) for one in error.errors()]
    raise GitleaksError(path, [(None, where, what) for where, what in problems])


def _all(holder: _Rule | _Configuration) -> list[_Allowlist]:
    return [*holder.allowlists, *([holder.allowlist] if holder.allowlist else [])]


def _unfit(rule: _Rule, regex: str, shared: list[_Allowlist]) -> str | None:
    """Why a rule is refused."""
    try:
        check_pattern(regex)
        for allowlist in (*_all(rule), *shared):
            _contains("", allowlist.regexes)
    except UnfitRuleError as error:
        return str(error)
    except pl.exceptions.PolarsError as error:
        return f"an allowlist of it is no Rust regular expression ({reason_of(error)})"
    has = len(_groups(regex, ""))
    return f"its secretGroup is {rule.group}, and its regex has {has} groups" if rule.group > has else None


def _stage(rule: _Rule, regex: str, shared: list[_Allowlist]) -> Stage:
    """The rule behind its keywords."""
    allowlists = [*_all(rule), *(one for one in shared if not one.rules or rule.id in one.rules)]
    name = re.sub("[^a-z0-9_.-]", "-", rule.id.lower())
    gates = ("(?i)" + "|".join(map(re.escape, rule.keywords)),) if rule.keywords else ()
    found = Rule(rule.id, regex, f"<secret:{name}>", ("", ""), find=_finder(rule, regex, allowlists))
    return Stage(rule.id, gates, (found,))


def _finder(rule: _Rule, regex: str, allowlists: list[_Allowlist]) -> Callable[[str], str | None]:
    def _find(match: str) -> str | None:
        """The secret within a match: the group that the rule names, else its first one, else all."""
        groups = _groups(regex, match)
        secret = groups[rule.group - 1] if rule.group else next(filter(None, groups), match)
        if not secret or (rule.entropy and entropy(secret) <= rule.entropy):
            return None
        return None if any(one.allows(secret, match) for one in allowlists) else secret

    return _find


def _groups(regex: str, text: str) -> list[str | None]:
    return list((pl.Series([text]).str.extract_groups(regex)[0] or {}).values())


def _contains(text: str, patterns: list[str]) -> bool:
    return any(pl.Series([text]).str.contains(pattern)[0] for pattern in patterns)


def _line(text: str, name: str) -> int | None:
    """The line that names a rule."""
    lines: Iterator[tuple[int, str]] = enumerate(text.splitlines(), start=1)
    return next(
        (number for number, line in lines if re.match(rf"\s*id\s*=\s*[\"']+{re.escape(name)}[\"']", line)), None
    )

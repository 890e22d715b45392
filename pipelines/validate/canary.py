"""Does stored text hold what it must not? The detectors share no pattern with the sanitizer that they watch."""

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

import polars as pl

from pipelines.clean import CleanReceipt
from pipelines.lake import Lake
from pipelines.record_types import EXECUTIONS, RecordType
from pipelines.validate.verdict import Finding, Verdict

_MOST_TEXTS = 20_000
"""Distinct texts of a column that are looked at."""
_READ_TOGETHER = 10
_MOST_EXAMPLES = 5
_DIGESTS = {"row_hash", "user_key", "session_key"}
_FILE_ENDINGS = {"png", "jpg", "jpeg", "svg", "gif", "js", "ts", "json", "yml", "yaml", "txt"}


def _is_card(found: str) -> bool:
    """Whether digits have a network's first ones and length, and a valid check digit."""
    digits = re.sub("[^0-9]", "", found)
    if not re.fullmatch("4[0-9]{15}|5[1-5][0-9]{14}|3[47][0-9]{13}|6(?:011|5[0-9]{2})[0-9]{12}", digits):
        return False
    doubled = [sum(divmod(2 * int(digit), 10)) for digit in digits[-2::-2]]
    return len(set(digits)) > 1 and (sum(doubled) + sum(map(int, digits[-1::-2]))) % 10 == 0


def _is_email(found: str) -> bool:
    return found.rsplit(".", 1)[-1].lower() not in _FILE_ENDINGS


class _Detector(NamedTuple):
    kind: str
    pattern: str
    confirms: Callable[[str], bool] | None = None


_BEFORE = r"(?:^|[^0-9A-Za-z_])"
_OPEN, _CLOSE = r"(?:^|[\s\"'=:(])", r"(?:$|[\s\"',;)])"
_DETECTORS = (
    _Detector(
        "vendor key",
        rf"{_BEFORE}(?:sk-(?:proj-|ant-|or-|svcacct-|admin-)?[0-9A-Za-z_]{{24}}|gh[oprsu]_[0-9A-Za-z]{{30}}"
        r"|github_pat_[0-9A-Za-z_]{30}|glpat-[0-9A-Za-z_-]{20}|(?:AKIA|ASIA)[2-7A-Z]{16}|AIza[0-9A-Za-z_-]{35}"
        r"|xox[abp]-[0-9]{10}|[rs]k_live_[0-9A-Za-z]{16}|hf_[A-Za-z]{30}|npm_[0-9A-Za-z]{36}"
        r"|SG\.[0-9A-Za-z_-]{22}\.[0-9A-Za-z_-]{16})",
    ),
    _Detector("private key", r"-----BEGIN (?:[A-Z]{2,12} ){0,2}PRIVATE KEY-----"),
    _Detector("web token", rf"{_BEFORE}eyJ[0-9A-Za-z_-]{{10,}}\.eyJ[0-9A-Za-z_-]{{10,}}"),
    _Detector("password in a URL", r"[a-z0-9]://[^\s/:@?#<>\"'`|]{1,64}:[^\s/:@?#<>\"'`|]{3,128}@[0-9A-Za-z\[]"),
    _Detector(
        "e-mail address", r"[0-9A-Za-z_]@[0-9A-Za-z-]{1,63}(?:\.[0-9A-Za-z-]{1,63}){0,4}\.[A-Za-z]{2,}", _is_email
    ),
    _Detector(
        "card number",
        rf"{_OPEN}(?:[3-6][0-9]{{3}}[ -]?[0-9]{{4}}[ -]?[0-9]{{4}}[ -]?[0-9]{{4}}|3[47][0-9]{{13}}){_CLOSE}",
        _is_card,
    ),
    _Detector(
        "social security number",
        rf"{_OPEN}(?:00[1-9]|0[1-9][0-9]|[1-578][0-9]{{2}}|6[0-57-9][0-9])-[0-9]{{2}}-[0-9]{{4}}{_CLOSE}",
    ),
    _Detector("home folder", r"(?:^|[\s\"'=(])/(?:home|Users)/[0-9A-Za-z_]|(?i:[a-z]:\\{1,2}users\\{1,2}[0-9a-z_])"),
)
_GATE = "|".join(detector.pattern for detector in _DETECTORS)


def judge_secrets(receipt: CleanReceipt, lake: Lake) -> Verdict:
    """Nothing secret or personal stands in a sample of what is about to be stored. Findings never quote it."""
    findings, looked_at = [], 0
    for kind in receipt.types():
        for name, sample in _samples(kind, receipt, lake):
            looked_at += len(sample)
            findings += [
                Finding(
                    rule=f"{kind.name}.{name}: {secret}",
                    failed=len(found),
                    of=len(sample),
                    examples=_holders(found, name, kind, receipt, lake),
                )
                for secret, found in find_secrets(sample).items()
            ]
    return Verdict(
        check="no_secrets_stored",
        severity="error",
        passed=not findings,
        message="; ".join(map(_told, findings)) or f"nothing secret or personal in {looked_at} texts",
        figures={"texts": looked_at, "hits": sum(one.failed for one in findings)},
        findings=findings,
    )


def _told(finding: Finding) -> str:
    such_as = f", such as that of {', '.join(finding.examples)}" if finding.examples else ""
    return f"{finding.rule} in {finding.failed} of {finding.of} texts{such_as}"


def find_secrets(texts: pl.Series) -> dict[str, list[str]]:
    """The texts that hold something secret or personal, by what it is."""
    suspects = texts.filter(texts.str.contains(_GATE).fill_null(value=False))
    found = {detector.kind: _confirmed(suspects, detector) for detector in _DETECTORS} if len(suspects) else {}
    return {kind: holders for kind, holders in found.items() if holders}


def _confirmed(suspects: pl.Series, detector: _Detector) -> list[str]:
    hits = suspects.filter(suspects.str.contains(detector.pattern))
    if detector.confirms is None:
        return hits.to_list()
    matches = zip(hits, hits.str.extract_all(detector.pattern), strict=True)
    return [text for text, words in matches if any(map(detector.confirms, words))]


def _text_columns(kind: RecordType) -> list[str]:
    texts = (pl.String(), pl.List(pl.String()))
    return [column.name for column in kind.columns if column.dtype in texts and column.name not in _DIGESTS]


def _samples(kind: RecordType, receipt: CleanReceipt, lake: Lake) -> Iterator[tuple[str, pl.Series]]:
    """Each text column and the texts of it that are looked at. Some columns are read at once, to bound memory."""
    names, parts = _text_columns(kind), [part for part in receipt.parts_of(kind) if part.rows]
    for start in range(0, len(names), _READ_TOGETHER):
        together = names[start : start + _READ_TOGETHER]
        texts: dict[str, list[pl.Series]] = {name: [] for name in together}
        for part in parts:
            for values in lake.read(part, together):
                texts[values.name].append(_texts(values))
        yield from ((name, _sample(found)) for name, found in texts.items())


def _texts(values: pl.Series) -> pl.Series:
    return (values.list.explode() if values.dtype == pl.List else values).drop_nulls().unique(maintain_order=True)


def _sample(parts: list[pl.Series]) -> pl.Series:
    """Distinct texts, spread evenly over the day: the same ones whenever the same day is judged."""
    texts = pl.concat([pl.Series([], dtype=pl.String), *(part.alias("") for part in parts)]).unique(maintain_order=True)
    return texts.gather_every(max(1, -(-len(texts) // _MOST_TEXTS)))


def _holders(texts: list[str], name: str, kind: RecordType, receipt: CleanReceipt, lake: Lake) -> list[str]:
    """Ids of rows that hold one of the texts; no id that is itself suspicious."""
    by = "execution_id" if kind is EXECUTIONS else "row_hash"
    rows = pl.concat([lake.read(part, [by, name] if by != name else [by]) for part in receipt.parts_of(kind)])
    held = rows.explode(name) if rows.schema[name] == pl.List else rows
    ids = held.filter(pl.col(name).is_in(texts))[by].drop_nulls().unique(maintain_order=True)
    return ids.filter(~ids.str.contains(_GATE)).head(_MOST_EXAMPLES).to_list()

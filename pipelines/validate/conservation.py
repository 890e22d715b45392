"""Conservation: every record received is clean, quarantined, a duplicate or erased; and what the quarantine says."""

from collections import Counter
from collections.abc import Iterable, Sequence

import polars as pl

from pipelines.clean import CleanReceipt
from pipelines.sources.source import Source
from pipelines.validate.verdict import Finding, Verdict


def judge_conservation(receipt: CleanReceipt, tables: Iterable[pl.DataFrame]) -> Verdict:
    """Records received = clean + quarantined + duplicates + erased, by source; and the clean ones are all there."""
    present: Counter[str] = Counter()
    for rows in tables:
        present.update(dict(rows["source"].value_counts().iter_rows()))
    findings = []
    for count in receipt.sources:
        quarantined = sum(count.quarantined.values())
        unaccounted = count.received - count.clean - quarantined - count.duplicates - count.erased
        lost = count.clean - present[count.source]
        if unaccounted:
            findings.append(Finding(rule=f"{count.source}: records", failed=unaccounted, of=count.received))
        if lost:
            findings.append(Finding(rule=f"{count.source}: rows", failed=lost, of=count.clean))
    figures: dict[str, float | int] = {
        "received": sum(count.received for count in receipt.sources),
        "clean": sum(count.clean for count in receipt.sources),
        "quarantined": sum(sum(count.quarantined.values()) for count in receipt.sources),
        "duplicates": sum(count.duplicates for count in receipt.sources),
        "erased": sum(count.erased for count in receipt.sources),
    }
    message = "{received} received = {clean} clean + {quarantined} quarantined + {duplicates} duplicates"
    message += " + {erased} of erased users" if figures["erased"] else ""
    return Verdict(
        check="conservation",
        severity="error",
        passed=not findings,
        message=("records are lost or invented: " if findings else "") + message.format(**figures),
        figures=figures,
        findings=findings,
    )


def judge_quarantine(receipt: CleanReceipt, sources: Sequence[Source]) -> Verdict:
    """No source has more than its share of refused records; the reasons it tolerates do not count."""
    settings = {source.name: source for source in sources}
    findings, quarantined, worst = [], 0, 0.0
    for count in receipt.sources:
        source = settings[count.source]
        counted = {reason: n for reason, n in count.quarantined.items() if reason not in source.tolerate}
        share = sum(counted.values()) / count.received if count.received else 0.0
        quarantined, worst = quarantined + sum(counted.values()), max(worst, share)
        if share > source.max_quarantine_share:
            reasons = ", ".join(f"{reason} {n}" for reason, n in counted.items())
            rule = f"{count.source}: at most {source.max_quarantine_share:.1%} refused ({reasons})"
            findings.append(Finding(rule=rule, failed=sum(counted.values()), of=count.received))
    return Verdict(
        check="quarantine_share",
        severity="error",
        passed=not findings,
        message="; ".join(f"{finding.rule}: {finding.failed} of {finding.of}" for finding in findings)
        or f"{quarantined} records refused, at most {worst:.2%} of a source",
        figures={"quarantined": quarantined, "worst_share": round(worst, 6)},
        findings=findings,
    )


def judge_inputs(receipt: CleanReceipt) -> Verdict:
    """Every source has input for the day, none is still being written, and every row has a day."""
    missing = [count.source for count in receipt.sources if count.inputs == 0 and count.failure is None]
    growing = [count.source for count in receipt.sources if count.growing]
    unplaced = {count.source: count.unplaced for count in receipt.sources if count.unplaced}
    problems = {
        "no input holds a record of the day": missing,
        "inputs are still being written, NDJSON was read so far and others were left out": growing,
        "the day is incomplete, a source could not be read": [
            f"{count.source} ({count.failure})" for count in receipt.sources if count.failure is not None
        ],
        "rows without a usable time belong to no day": [f"{source} {rows}" for source, rows in unplaced.items()],
    }
    inputs = sum(count.inputs for count in receipt.sources)
    told = "; ".join(f"{problem}: {', '.join(sources)}" for problem, sources in problems.items() if sources)
    return Verdict(
        check="inputs",
        severity="warning",
        passed=not told,
        message=told or f"{inputs} inputs read",
        figures={
            "inputs": inputs,
            "missing": len(missing),
            "growing": len(growing),
            "unplaced": sum(unplaced.values()),
        },
    )


def judge_drift(receipt: CleanReceipt) -> Verdict:
    """The fields of every source are those agreed, or those of the days before."""
    told = {count.source: count.drift for count in receipt.sources if count.drift}
    sentences = [f"{source}: {', '.join(changes)}" for source, changes in told.items()]
    return Verdict(
        check="schema_drift",
        severity="warning",
        passed=not told,
        message="; ".join(sentences) or "no field is new, gone or of another type",
        figures={"changed_fields": sum(map(len, told.values()))},
    )

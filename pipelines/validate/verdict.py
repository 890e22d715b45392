"""What a check says of a day: passed or not, how badly, with its figures and what to look at."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from typing import Literal

from pydantic import BaseModel

Severity = Literal["error", "warning"]


class Finding(BaseModel, frozen=True):
    """A rule that did not hold: what it demands, how often it failed, and executions to look at."""

    rule: str
    failed: int
    of: int
    examples: list[str] = []


class Verdict(BaseModel, frozen=True):
    """The outcome of one check on one day. A failed check of severity `error` keeps the day from being published."""

    check: str
    severity: Severity
    passed: bool
    message: str
    figures: dict[str, float | int] = {}
    findings: list[Finding] = []

    @property
    def blocks(self) -> bool:
        """Whether the day must not be published."""
        return not self.passed and self.severity == "error"


class DayVerdict(BaseModel, frozen=True):
    """All verdicts on one clean day, and the content they are about."""

    day: date
    content: list[str]
    verdicts: list[Verdict]

    @property
    def is_publishable(self) -> bool:
        """Whether no check blocks the day."""
        return not any(verdict.blocks for verdict in self.verdicts)

    @property
    def reasons(self) -> list[str]:
        """Why the day is blocked."""
        return [f"{verdict.check}: {verdict.message}" for verdict in self.verdicts if verdict.blocks]

    @property
    def warnings(self) -> dict[str, str]:
        """What to look at, by check, although the day may be published."""
        return {one.check: one.message for one in self.verdicts if not one.passed and not one.blocks}


@dataclass(frozen=True, slots=True)
class Check:
    """A check that every day goes through: its name, how badly it fails, and what it asks."""

    name: str
    severity: Severity
    question: str


CHECKS = (
    Check("expectations", "error", "Does every row keep the rules of an execution? (Great Expectations)"),
    Check("expectations_to_watch", "warning", "Do the rows look as they usually do? (Great Expectations)"),
    Check("other_records", "error", "Do log lines and preferences keep their rules?"),
    Check("no_secrets_stored", "error", "Does text that would be stored hold nothing secret or personal?"),
    Check("conservation", "error", "Is every record received clean, quarantined, a duplicate or of an erased user?"),
    Check("quarantine_share", "error", "Is the share of refused records within what each source allows?"),
    Check("inputs", "warning", "Has every source input for the day, and is all of it complete?"),
    Check("schema_drift", "warning", "Are the fields of every source the same as before, or as agreed?"),
    Check("repeated_on_other_days", "warning", "Does no execution of the day stand on another day as well?"),
    Check("costs", "warning", "Are provided costs what the price book makes of the same tokens?"),
)
GATE = Check("gate", "error", "May any day of this run be published? A blocked day keeps its old data in place.")


def judge_gate(days: Iterable[DayVerdict]) -> Verdict:
    """Whether the run has anything to publish. In a run of many days, a blocked day does not hold up the others."""
    judged = list(days)
    blocked = [day for day in judged if not day.is_publishable]
    told = "; ".join(f"{day.day} is blocked ({', '.join(day.reasons)})" for day in blocked)
    return Verdict(
        check=GATE.name,
        severity=GATE.severity,
        passed=len(blocked) < len(judged),
        message=told or f"all {len(judged)} days may be published",
        figures={"days": len(judged), "blocked_days": len(blocked)},
    )

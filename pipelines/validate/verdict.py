"""What a check says of a day: passed or not, how badly, with its figures and what to look at."""

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

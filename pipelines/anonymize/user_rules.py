"""Rules of a user's own: how they are written, and what a rule must stand before texts are trusted to it."""

import time

import polars as pl
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from pipelines.anonymize.rules import Rule, Stage
from pipelines.anonymize.text import Sanitizer

_PLACEHOLDER = r"^<[a-z][a-z0-9_]*(?::[a-z0-9_.-]+)?>$"
_SIZES = (1_000, 10_000, 100_000)
_MOST_SECONDS = 1.0
"""Of the processor, for 100 kB: what a rule may take for a text made to slow it down."""
_SLOWING = ("a", "1", "key=", "a1B2", "((", "[{", "\"'", "= ", "a.b@", "password: ", "\n", "ab-12_cd/", "é")
_EVERYDAY = ("", "a", "error: timed out after 30.5 s (attempt 2)", "\n", "é")


class UnfitRuleError(ValueError):
    """A rule cannot be used; the message says why."""


class ExtraRule(BaseModel):
    """A rule as a user writes it; the fields are those of our own rules."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    pattern: str
    placeholder: str = Field(pattern=_PLACEHOLDER)
    example: tuple[str, str]
    frame: str = "{}"

    @field_validator("frame")
    @classmethod
    def _holds_placeholder(cls, frame: str) -> str:
        if frame.count("{}") != 1:
            raise ValueError("it has to hold `{}`, the place of the placeholder, once")
        return frame

    @model_validator(mode="after")
    def _is_fit(self) -> "ExtraRule":
        """Refuse a rule that does not compile, is slow, or does not do what its example says."""
        try:
            check_pattern(self.pattern)
        except UnfitRuleError as error:
            raise ValueError(f"the rule `{self.name}` is refused: {error}") from None
        before, after = self.example
        sanitizer = Sanitizer((self.stage,))
        told = sanitizer.sanitize_texts(pl.Series([before, after])).to_list()
        if told != [after, after]:
            raise ValueError(f"the rule `{self.name}` is refused: its example becomes {told[0]!r}, then {told[1]!r}")
        return self

    @property
    def stage(self) -> Stage:
        """The rule as the sanitizer applies it."""
        rule = Rule(self.name, self.pattern, self.placeholder, self.example, self.frame)
        return Stage(self.name, (), (rule,))


def check_pattern(pattern: str) -> None:
    """Raise UnfitRuleError where a pattern does not compile, finds the empty text, or is slow."""
    try:
        found = pl.Series(_EVERYDAY).str.extract_all(pattern).to_list()
    except pl.exceptions.PolarsError as error:
        raise UnfitRuleError(f"its pattern is no Rust regular expression ({reason_of(error)})") from None
    if any("" in matches for matches in found):
        raise UnfitRuleError("its pattern finds the empty text")
    for size in _SIZES:
        for text in _SLOWING:
            if (seconds := _seconds(pattern, text * (size // len(text)))) > _MOST_SECONDS:
                raise UnfitRuleError(f"its pattern takes {seconds:.1f} s for {size // 1000} kB of {text!r}")


def reason_of(error: pl.exceptions.PolarsError) -> str:
    """What the regex compiler says, without the pattern."""
    return str(error).split("\n\n")[0].splitlines()[-1].removeprefix("regex error: ").removeprefix("error: ")


def _seconds(pattern: str, text: str) -> float:
    """Time of the processor that a pattern takes for one text."""
    texts = pl.Series([text])
    start = time.process_time()
    texts.str.extract_all(pattern)
    return time.process_time() - start

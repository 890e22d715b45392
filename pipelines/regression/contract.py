"""What a run of an agent comes to under the contract of a case: kept, or which clause was broken, and by what."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from numbers import Real
from typing import Any, get_args

import polars as pl

from pipelines.anonymize.text import Sanitizer
from pipelines.execution import FAILURES
from pipelines.failures.fingerprint import identify
from pipelines.failures.text import failure_text
from pipelines.regression.case_file import Case, Retry, Status

LONGEST_MESSAGE = 2_000
_TEXTS = ("error_type", "error_message", "stack")
_MOST_READ = 50_000
"""Characters of a sanitized text; what stands behind them would tell nothing more, and take long."""


class ResultError(Exception):
    """What `run_agent` returned tells no outcome."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a contract was kept; `broken` has a sentence for each clause that was not."""

    broken: tuple[str, ...]
    signature_id: str | None
    is_same_failure: bool | None
    """Whether it failed as the case did; null where nothing failed."""

    @property
    def message(self) -> str:
        """What was broken, and whether it is the failure of before."""
        if self.is_same_failure is None:
            return " ".join(self.broken)
        return " ".join((*self.broken, _name_failure(is_same=self.is_same_failure)))[:LONGEST_MESSAGE]


@dataclass(frozen=True, slots=True)
class Failure:
    """A failure by its sanitized text and its signature."""

    text: str
    signature_id: str | None

    def is_of(self, case: Case) -> bool:
        """Whether it is the failure that the case is about."""
        return self.signature_id in case.contract.must_not.signature_ids


def judge(case: Case, result: object, elapsed_ms: float, sanitizer: Sanitizer) -> Verdict:
    """Hold a result against the contract. Raises ResultError where it has no status that we know.

    A result is a mapping or an object with `status`, and where known `error_type`, `error_message`, `stack`,
    `duration_ms`, `output` and `attempts` (how many, or a list whose members may tell `waited_ms`). `elapsed_ms` stands
    for a duration that it does not tell.
    """
    status = _status(result)
    failure = None
    if status in FAILURES or any(_texts(result)):
        failure = identify_failure(status, *_texts(result), sanitizer)
    clauses = [*_broken(case, status, failure)]
    if case.contract.retry is not None:
        clauses += _broken_retry(case, case.contract.retry, status, result, elapsed_ms)
    return Verdict(
        tuple(clauses), failure.signature_id if failure else None, failure.is_of(case) if failure and clauses else None
    )


def explain_exception(case: Case, error: BaseException, sanitizer: Sanitizer) -> Verdict:
    """What an exception out of `run_agent` tells: no verdict on the contract, but which failure it was."""
    failure = identify_failure("error", type(error).__name__, _text(error), None, sanitizer)
    sentence = f"run_agent raised {failure.text}."
    return Verdict((sentence,), failure.signature_id, failure.is_of(case))


def identify_failure(
    status: str, error_type: str | None, error_message: str | None, stack: str | None, sanitizer: Sanitizer
) -> Failure:
    """The failure as a day's executions would have it: sanitized first, then fingerprinted."""
    given = pl.DataFrame(
        {"status": status, "error_type": error_type, "error_message": error_message, "stack": stack},
        schema=dict.fromkeys(("status", *_TEXTS), pl.String),
    )
    clean = given.with_columns(sanitizer.sanitize(given.select(_TEXTS))[0].select(pl.all().str.head(_MOST_READ)))
    clean = clean.with_columns(text=failure_text())
    signature = identify(clean["text"], clean["stack"])["signature_id"][0]
    return Failure(str(clean["text"][0])[: LONGEST_MESSAGE // 2], signature)


def clean_text(text: str, sanitizer: Sanitizer) -> str:
    """A message that may leave the machine it arose on: sanitized, and of at most 2,000 characters."""
    sanitized = sanitizer.sanitize_texts(pl.Series([storable(text)], dtype=pl.String))
    return str(sanitized[0])[:LONGEST_MESSAGE]


def storable(text: str) -> str:
    """A text without what Postgres cannot hold: NUL and halves of surrogate pairs."""
    return text.encode(errors="replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")


def _broken(case: Case, status: str, failure: Failure | None) -> Iterator[str]:
    must, must_not = case.contract.must, case.contract.must_not
    if status in must_not.statuses:
        yield f"must_not.statuses: the status is `{status}`{f' ({failure.text})' if failure else ''}."
    elif status not in must.statuses:
        yield f"must.statuses: the status is `{status}`, which is none of {', '.join(must.statuses)}."
    elif failure is not None and failure.is_of(case):
        yield f"must_not.signature_ids: it ended as `{status}` with {failure.text}."


def _broken_retry(case: Case, retry: Retry, status: str, result: object, elapsed_ms: float) -> Iterator[str]:
    attempts, waits = _attempts(result)
    if status in case.contract.must.statuses and status not in retry.ends_in:
        yield f"retry.ends_in: it ended as `{status}`, which is none of {', '.join(retry.ends_in)}."
    if attempts is not None and attempts > retry.max_attempts:
        yield f"retry.max_attempts: {attempts} attempts, where {retry.max_attempts} are allowed."
    if retry.backoff == "exponential" and any(later < wait for wait, later in pairwise(waits)):
        yield f"retry.backoff: the waits got shorter ({', '.join(f'{wait:.0f}' for wait in waits)} ms)."
    told = _field(result, "duration_ms")
    duration = float(told) if _is_number(told) else elapsed_ms
    if duration > retry.timeout_ms:
        yield f"retry.timeout_ms: it took {duration:.0f} ms, where {retry.timeout_ms} are allowed."


def _name_failure(*, is_same: bool) -> str:
    return "It is the same failure again." if is_same else "It is another failure than the one the case is about."


def _status(result: object) -> str:
    told = _field(result, "status")
    status = str(getattr(told, "value", told)).strip().lower()
    if status not in get_args(Status):
        known = ", ".join(get_args(Status))
        shown = "no status" if told is None else f"the status {status[:40]!r}"
        raise ResultError(f"run_agent returned {shown}; a result has a status that is one of {known}.")
    return status


def _texts(result: object) -> tuple[str | None, str | None, str | None]:
    error_type, error_message, stack = (_field(result, name) for name in _TEXTS)
    return _text(error_type), _text(error_message), _text(stack)


def _attempts(result: object) -> tuple[int | None, list[float]]:
    told = _field(result, "attempts")
    if isinstance(told, Sequence) and not isinstance(told, str):
        waits = [_field(one, "waited_ms") for one in told]
        return len(told), [float(wait) for wait in waits if _is_number(wait)]
    return (int(told), []) if _is_number(told) else (None, [])


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _field(result: object, name: str) -> Any:  # noqa: ANN401 - whatever a user's agent returns
    return result.get(name) if isinstance(result, Mapping) else getattr(result, name, None)


def _text(value: object) -> str | None:
    """Null stays null, and nothing is null."""
    return storable("" if value is None else str(value)) or None

"""What people decide, as jobs: from the launchpad of the Dagster UI, with a form instead of a command line."""

from datetime import datetime
from typing import Any, Literal

import dagster as dg
from pydantic import Field

from assets.resources import Mill, guarded
from pipelines.failures.decisions import DecisionError, decide
from pipelines.regression import refresh
from pipelines.regression.reviews import Review, ReviewError, review_candidate

_TAGS = {"dagster/max_runtime": str(3600)}


class CandidateReview(dg.Config):
    """What a person says about a candidate for a regression test."""

    candidate_id: str = Field(description="Id of the candidate, such as rc_54c194783ee6c57a.")
    action: Literal["approve", "reject", "merge", "retire", "reopen"]
    reason: str = Field(description="Why; kept for good.")
    reviewed_by: str = Field(description="Who says so.")
    merged_into: str | None = Field(None, description="The candidate whose test covers it, to merge.")
    is_blocking: bool = Field(True, description="Whether the test may stop a release, to approve.")  # noqa: FBT003
    fixture: dict[str, Any] | None = Field(None, description="Input for the test, to approve.")


class FailureDecision(dg.Config):
    """What a person decides about a failure."""

    cluster_id: str = Field(description="Id of the failure, such as 54c194783ee6c57a.")
    action: Literal["resolve", "reopen", "mute", "unmute"]
    reason: str = Field(description="Why; kept for good.")
    decided_by: str = Field(description="Who decides.")
    environment: str | None = Field(None, description="The environment; every one where left out.")
    fixed_in_version: str | None = Field(None, description="The version that resolves it.")
    muted_until: str | None = Field(None, description="When the mute ends, such as 2026-12-01T00:00:00+00:00.")
    until_escalating: bool = Field(False, description="Whether the mute ends when the failure escalates.")  # noqa: FBT003


@dg.op(tags={"kind": "postgres"})
@guarded
def enter_review(context: dg.OpExecutionContext, config: CandidateReview, mill: Mill) -> None:
    """Enter what was said, and derive anew what follows."""
    try:
        review_candidate(mill.warehouse, Review(**config.model_dump()), mill.sanitizer)
    except ReviewError as error:
        raise dg.Failure(str(error), allow_retries=False) from None
    _derive(context, mill)


@dg.op(tags={"kind": "postgres"})
@guarded
def enter_decision(context: dg.OpExecutionContext, config: FailureDecision, mill: Mill) -> None:
    """Enter what was decided, and derive anew what follows."""
    until = datetime.fromisoformat(config.muted_until) if config.muted_until else None
    try:
        decide(
            mill.warehouse,
            config.cluster_id,
            config.action,
            config.decided_by,
            config.reason,
            environment=config.environment,
            fixed_in_version=config.fixed_in_version,
            muted_until=until,
            until_escalating=config.until_escalating,
            sanitizer=mill.sanitizer,
        )
    except DecisionError as error:
        raise dg.Failure(str(error), allow_retries=False) from None
    _derive(context, mill)


def _derive(context: dg.OpExecutionContext, mill: Mill) -> None:
    for name, rows in refresh(mill.warehouse, mill.settings).items():
        context.log_event(dg.AssetMaterialization(name, metadata={"dagster/row_count": rows.height}))


@dg.job(
    tags={"dagster/max_runtime": str(3600)},
    description="Approve, reject, merge, retire or reopen a candidate for a regression test.",
)
def review_of_candidate() -> None:
    """One review, as its config says."""
    enter_review()


@dg.job(tags=_TAGS, description="Resolve, reopen, mute or unmute a failure.")
def decision_about_failure() -> None:
    """One decision, as its config says."""
    enter_decision()


jobs = (review_of_candidate, decision_about_failure)

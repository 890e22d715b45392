"""Running a range of days in this process, the way the jobs do: chunk by chunk, then what is derived from all days."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import dagster as dg

from assets.instance import PROCESS_TAG, fail_dead_runs, process_name

_CHUNK_DAYS = 30
_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


@dataclass(frozen=True, slots=True)
class Failure:
    """A step that failed, and what it said."""

    step: str
    message: str


def run_days(definitions: dg.Definitions, days: Sequence[date], tags: Mapping[str, str]) -> list[Failure]:
    """Run everything for the days, and return what failed. A blocked day is no failure."""
    os.environ.setdefault("DAGSTER_EVENT_BATCH_SIZE", "100")  # storing events in batches halves the time
    failures: list[Failure] = []
    with dg.DagsterInstance.get() as instance:
        fail_dead_runs(instance)
        for start, end in _chunks(sorted(days)):
            in_one_run = {
                "dagster/asset_partition_range_start": start.isoformat(),
                "dagster/asset_partition_range_end": end.isoformat(),
                **tags,
            }
            failures += _execute(definitions, "daily_tables", instance, in_one_run)
        failures += _execute(definitions, "derived_tables", instance, {})
    return failures


def _chunks(days: Sequence[date]) -> Iterator[tuple[date, date]]:
    """Days that follow each other, a month of them at most, so that a killed run loses no more than that."""
    start = 0
    for place in range(1, len(days) + 1):
        is_next = place < len(days) and days[place] - days[place - 1] == timedelta(days=1)
        if not is_next or place - start == _CHUNK_DAYS:
            yield days[start], days[place - 1]
            start = place


def _execute(
    definitions: dg.Definitions, job: str, instance: dg.DagsterInstance, tags: dict[str, str]
) -> list[Failure]:
    result = definitions.resolve_job_def(job).execute_in_process(
        instance=instance,
        run_config=_QUIET,
        raise_on_error=False,
        tags={PROCESS_TAG: process_name(), **tags},
    )
    return [_failure(event) for event in result.get_step_failure_events() if not _is_gate(event)]


def _failure(event: dg.DagsterEvent) -> Failure:
    data = event.step_failure_data
    told = data.user_failure_data.description if data.user_failure_data else None
    raised = data.error.message.strip() if data.error else "it gave no reason"
    return Failure(event.step_key or "run", told or raised)


def _is_gate(event: dg.DagsterEvent) -> bool:
    """Whether a step stopped only because every day of it is blocked, which the accounts of the days tell better."""
    error = event.step_failure_data.error
    return error is not None and error.cls_name == "DagsterAssetCheckFailedError"

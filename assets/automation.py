"""When it runs: yesterday once it is over, today every hour, and whatever a person asks for."""

import logging
from datetime import UTC, date, datetime, timedelta

import dagster as dg

from assets.resources import Mill
from pipelines.anonymize.errors import describe_error
from pipelines.clean.stale import find_stale_days
from pipelines.extract import ExtractionError, find_dirty_days

log = logging.getLogger(__name__)

_MAX_RUNTIME = {"dagster/max_runtime": str(6 * 3600)}

_MOST_LATE_DAYS = 30
"""Runs that one look at the sources may ask for; the next look asks for the others."""

_CLEANED_WITHIN = timedelta(hours=1)
"""What was read longer ago and is not clean belongs to a run that failed or was stopped."""

_audit = dg.AssetSelection.assets("access_audit")
_everything = dg.AssetSelection.all() - dg.AssetSelection.groups("retention") - _audit
daily_pipeline = dg.define_asset_job(
    "daily_pipeline",
    selection=_everything,
    tags=_MAX_RUNTIME,
    description="Everything, for one UTC day or a range of them: raw records to published tables and reports.",
)
_clusters = dg.AssetSelection.assets("failure_clusters").required_multi_asset_neighbors()
_derived = dg.AssetSelection.groups("regression", "reports") | _clusters
daily_tables = dg.define_asset_job(
    "daily_tables",
    selection=_everything - _derived,
    tags=_MAX_RUNTIME,
    description="What depends on single days only; for backfills, before `derived_tables` once at the end.",
)
derived_tables = dg.define_asset_job(
    "derived_tables",
    selection=_derived,
    tags=_MAX_RUNTIME,
    description="What is derived from all days: clusters, candidates and reports.",
)


apply_retention = dg.define_asset_job(
    "apply_retention",
    selection=dg.AssetSelection.groups("retention"),
    tags=_MAX_RUNTIME,
    description="Drops what was kept for as long as `retention` says.",
)

load_access_audit = dg.define_asset_job(
    "load_access_audit",
    selection=_audit,
    tags=_MAX_RUNTIME,
    description="Loads who read what from the server's log.",
)


@dg.schedule(job=daily_pipeline, cron_schedule="30 0 * * *", default_status=dg.DefaultScheduleStatus.RUNNING)
def yesterday(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    """The day that is over, half an hour after midnight UTC."""
    day = (context.scheduled_execution_time - timedelta(days=1)).date().isoformat()
    return dg.RunRequest(run_key=f"yesterday-{day}", partition_key=day)


@dg.schedule(job=daily_pipeline, cron_schedule="10 1-23 * * *", default_status=dg.DefaultScheduleStatus.RUNNING)
def today(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    """The day so far, every hour. Its figures are provisional until `yesterday` has run."""
    at = context.scheduled_execution_time
    return dg.RunRequest(run_key=f"today-{at:%Y-%m-%dT%H}", partition_key=at.date().isoformat())


@dg.schedule(job=apply_retention, cron_schedule="40 3 * * *", default_status=dg.DefaultScheduleStatus.STOPPED)
def nightly_retention(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    """Every night, once its owner has switched it on: it deletes data."""
    return dg.RunRequest(run_key=f"retention-{context.scheduled_execution_time:%Y-%m-%d}")


@dg.schedule(job=load_access_audit, cron_schedule="10 4 * * *", default_status=dg.DefaultScheduleStatus.STOPPED)
def nightly_access_audit(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    """Every night, once `access_log` is set and somebody has switched it on."""
    return dg.RunRequest(run_key=f"access-audit-{context.scheduled_execution_time:%Y-%m-%d}")


@dg.sensor(job=daily_pipeline, minimum_interval_seconds=900, default_status=dg.DefaultSensorStatus.RUNNING)
def late_data(mill: Mill) -> dg.SensorResult:
    """Days before today whose source has changed since they were run: late, moved or corrected records.

    And days that were read and not cleaned since, as by a run that failed half-way. Older days that were never run are
    left to whoever wants them: `agentmill run --dirty`, or a backfill.
    """
    now = datetime.now(UTC)
    found: dict[date, list[str]] = {}
    for source in mill.settings.sources.values():
        try:
            dirty_days = find_dirty_days(source, mill.lake, now, mill.settings.start_date)
        except ExtractionError as error:
            log.error("%s could not be looked at: %s", source.name, describe_error(error))  # noqa: TRY400 - it may quote data
            continue
        for day, dirty in dirty_days.items():
            is_recent = now.date() - day <= timedelta(days=source.lookback_days)
            if day < now.date() and not dirty.needs_consent and (is_recent or not dirty.is_new):
                found.setdefault(day, []).append(f"{source.name} {dirty.state}")
    sources = list(mill.settings.sources.values())
    stale = find_stale_days(sources, mill.lake, mill.settings.start_date, now - _CLEANED_WITHIN)
    for day, names in stale.items():
        if day < now.date():
            found.setdefault(day, []).extend(f"{name} not cleaned" for name in names)
    # At most once an hour for the same state: a run may fail, and is asked for again.
    requests = [
        dg.RunRequest(run_key=f"late-{day}-{now:%Y-%m-%dT%H}-{found[day]}", partition_key=day.isoformat())
        for day in sorted(found)[-_MOST_LATE_DAYS:]
    ]
    return dg.SensorResult(requests)


jobs = (daily_pipeline, daily_tables, derived_tables, apply_retention, load_access_audit)
schedules = (yesterday, today, nightly_retention, nightly_access_audit)
sensors = (late_data,)

"""The whole system on one screen: what there is, in flow order, and when it runs."""

import dagster as dg

from assets import access, automation, failures, regression, regression_results, report, retention, reviews
from assets.clean import clean_assets
from assets.extract import raw_asset
from assets.publication import published_day_asset
from assets.resources import Mill
from assets.warehouse import published_asset
from pipelines.clean import CLEAN_EXECUTIONS, types_of
from pipelines.record_types import EXECUTIONS, RECORD_TYPES
from pipelines.settings import Settings, find_config, load_settings


def build_definitions(settings: Settings, mill: Mill) -> dg.Definitions:
    """Everything Dagster needs to know, for one configuration."""
    cleaned = {kind.name: kind.clean_name for kind in types_of(settings.sources.values())}
    return dg.Definitions(
        assets=[
            *(raw_asset(source) for source in settings.sources.values()),
            clean_assets(settings.sources.values()),
            published_day_asset(CLEAN_EXECUTIONS),
            *(
                published_asset(kind, cleaned.get(name, CLEAN_EXECUTIONS))
                for name, kind in RECORD_TYPES.items()
                if kind is not EXECUTIONS
            ),
            failures.failure_tables,
            regression.regression_candidates,
            regression_results.regression_results,
            regression_results.regression_cases,
            report.failure_report,
            report.regression_report,
            access.access_audit,
            retention.retention,
        ],
        jobs=(*automation.jobs, *reviews.jobs),
        schedules=automation.schedules,
        sensors=(*automation.sensors, regression_results.new_results),
        resources={"mill": mill},
        executor=dg.in_process_executor,
    )


defs = build_definitions(load_settings(), Mill(config=str(path.absolute()) if (path := find_config()) else None))

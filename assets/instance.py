"""Dagster's own home: its storage beside the warehouse, its configuration, and runs whose process has died."""

import os
import socket

import dagster as dg
import sqlalchemy as sa

from pipelines.settings import Settings, dagster_home
from pipelines.warehouse.server import database_url, is_alive, start_server

PROCESS_TAG = "agentmill/process"
_URL_VARIABLE = "AGENTMILL_DAGSTER_DATABASE_URL"
_NAME = "dagster"
_CONFIG = """\
# Written by Agentmill. Delete it to have it written anew.
storage:
  postgres:
    postgres_url: {env: AGENTMILL_DAGSTER_DATABASE_URL}
run_monitoring:
  enabled: true
  free_slots_after_run_end_seconds: 300
run_retries:
  enabled: true
  max_retries: 1
  retry_on_asset_or_op_failure: false
python_logs:
  managed_python_loggers: [assets, pipelines]
  python_log_level: INFO
telemetry:
  enabled: false
nux:
  enabled: false
"""


def prepare_home(settings: Settings) -> None:
    """Make Dagster's home, and point the environment of this process and its children to it.

    A DAGSTER_HOME that is set already is left as it is: its owner has configured Dagster.
    """
    if dagster_home() is not None:
        return
    folder = (settings.state_dir / "dagster").absolute()
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "dagster.yaml"
    if not config.exists():
        config.write_text(_CONFIG)
    os.environ["DAGSTER_HOME"] = str(folder)
    os.environ[_URL_VARIABLE] = _storage_url(settings).render_as_string(hide_password=False)


def fail_dead_runs(instance: dg.DagsterInstance) -> list[str]:
    """Mark runs as failed whose process is gone, and return their ids; they would stay started for ever."""
    going = dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.STARTING])
    dead = [run for run in instance.get_runs(going) if _has_died(run.tags.get(PROCESS_TAG, ""))]
    for run in dead:
        instance.report_run_failed(run, "The process that ran it is gone; run its days again.")
    return [run.run_id for run in dead]


def process_name() -> str:
    """This process, told from those of other hosts that share Dagster's storage."""
    return f"{socket.gethostname()}/{os.getpid()}"


def _has_died(process: str) -> bool:
    host, _, pid = process.rpartition("/")
    return host == socket.gethostname() and not is_alive(int(pid))


def _storage_url(settings: Settings) -> sa.URL:
    """Dagster's database: the configured one, else beside the warehouse. Its driver must be named (psycopg2)."""
    if settings.dagster_database_url is not None:
        url = sa.make_url(settings.dagster_database_url.get_secret_value())
    elif settings.database_url is not None:
        url = sa.make_url(settings.database_url.get_secret_value())
        url = url.update_query_dict({"options": f"-csearch_path={_NAME}"})
        with sa.create_engine(url.set(drivername="postgresql+psycopg")).begin() as connection:
            connection.execute(sa.text(f"create schema if not exists {_NAME}"))
    else:
        url = sa.make_url(database_url(start_server(settings.state_dir / "postgres"), _NAME))
    return url.set(drivername="postgresql+psycopg2")

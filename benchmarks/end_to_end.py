"""One day of a million raw records to its published partition, indexes, rollups and failure facts, beside a bare COPY.

usage: python -m benchmarks.end_to_end [--records N] [--keep FOLDER]

Both sides run in processes of their own, one after the other, against the same embedded server, through the product's
own functions. CPU is the process's and the server's. The ratio is what to look at: seconds differ by machine.
"""

import argparse
import contextlib
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import psutil

from pipelines.anonymize.keys import PseudonymKey
from pipelines.clean import CLEAN_EXECUTIONS, CleanReceipt, clean
from pipelines.demo.logs import app_record
from pipelines.demo.traffic import FIRST_DAY, traffic
from pipelines.extract import extract
from pipelines.publication import publish_day
from pipelines.settings import Settings, parse_settings
from pipelines.validate import validate
from pipelines.warehouse import open_warehouse
from pipelines.warehouse.connection import Warehouse
from pipelines.warehouse.copying import copy_frame

DAY = FIRST_DAY
_IMPORT = "(import of checks)"
_SETTLE_SECONDS = 0.5  # a backend that has ended must be reaped before its CPU is counted
KEY = PseudonymKey("k1", b"benchmark" * 4)
MAPPING = {
    "execution_id": "id",
    "agent_name": "agent.name",
    "agent_version": "agent.version",
    "execution_type": "agent.kind",
    "environment": "env",
    "user": "user.id",
    "session": "user.session",
    "client_ip": "user.ip",
    "user_agent": "user.agent",
    "status": {"from": "state", "values": {"errored": "error"}},
    "started_at": "started",
    "completed_at": "ended",
    "queue_time_ms": "timing.queue_ms",
    "ttft_ms": "timing.ttft_ms",
    "provider": "model.provider",
    "model": "model.name",
    "input_tokens": "usage.input",
    "cache_read_tokens": "usage.cached",
    "output_tokens": "usage.output",
    "cost_usd": "cost_usd",
    "tool_names": "tools",
    "error_type": "error.type",
    "error_message": "error.message",
    "stack": "error.stack",
    "input": "prompt",
    "output": "reply",
}


def write_records(path: Path, records: int) -> None:
    """Write so many records of the demo's application, all of one day."""
    runs = traffic(0, records).head(records)
    with path.open("w") as file:
        file.writelines(f"{json.dumps(app_record(run))}\n" for run in runs.iter_rows(named=True))


def settings_of(folder: Path) -> Settings:
    """The configuration of the benchmark's folder."""
    source = {"path": f"{folder}/logs/*.ndjson", "settle_seconds": 0, "mapping": MAPPING}
    return parse_settings(json.dumps({"state_dir": f"{folder}/state", "sources": {"app": source}}), folder)


class Meter:
    """Seconds, CPU and memory by stage."""

    def __init__(self, warehouse: Warehouse) -> None:
        with warehouse.connect() as connection:
            self._server = psutil.Process(psutil.Process(connection.info.backend_pid).ppid())
        self.rows: list[dict[str, float | str]] = []

    def measure(self, stage: str, work: Callable[[], object]) -> object:
        """Do the work and keep its figures."""
        wall, own, server = time.perf_counter(), time.process_time(), self._server_cpu()
        result = work()
        wall = time.perf_counter() - wall
        time.sleep(_SETTLE_SECONDS)
        figures = {
            "wall": wall,
            "own_cpu": time.process_time() - own,
            "server_cpu": self._server_cpu() - server,
        }
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        self.rows.append({"stage": stage, **figures, "peak_gib": peak})
        return result

    def _server_cpu(self) -> float:
        own = self._server.cpu_times()
        total = own.user + own.system + own.children_user + own.children_system
        for backend in self._server.children():
            with contextlib.suppress(psutil.NoSuchProcess):  # it has just ended
                times = backend.cpu_times()
                total += times.user + times.system
        return float(total)


def pipeline(folder: Path) -> list[dict[str, float | str]]:
    """Raw records to everything that is published of a day."""
    settings = settings_of(folder)
    warehouse, lake, sources = open_warehouse(settings), settings.open_lake(), list(settings.sources.values())
    prices = settings.read_prices()
    meter = Meter(warehouse)
    meter.measure("extract", lambda: extract(sources[0], [DAY], lake, datetime.now(UTC)))
    meter.measure("clean", lambda: clean(DAY, sources, lake, KEY, prices))
    meter.measure(_IMPORT, lambda: __import__("great_expectations"))
    meter.measure("validate", lambda: validate(DAY, sources, lake, prices))
    if meter.measure("publish", lambda: publish_day(DAY, lake, warehouse, prices)[0].outcome) != "published":
        raise SystemExit("the day was not published")
    return meter.rows


def bare_copy(folder: Path) -> list[dict[str, float | str]]:
    """The clean day into a table without indexes or checks: as CSV, which is what people do, and as binary."""
    settings = settings_of(folder)
    warehouse, lake = open_warehouse(settings), settings.open_lake()
    receipt = lake.receipt(CLEAN_EXECUTIONS, DAY, CleanReceipt)
    if receipt is None:
        raise SystemExit("run the pipeline's side first")
    rows = pl.concat([lake.read(part) for part in receipt.parts])
    meter = Meter(warehouse)
    meter.measure("bare COPY, CSV", lambda: _copy_csv(warehouse, rows))
    meter.measure("bare COPY, binary", lambda: _copy_binary(warehouse, rows))
    return meter.rows


def _copy_csv(warehouse: Warehouse, rows: pl.DataFrame) -> None:
    as_arrays = [
        pl.format("{{{}}}", pl.col(name).list.join(",")).alias(name) for name in ("tool_names", "quality_flags")
    ]
    with warehouse.connect() as connection, connection.cursor() as cursor:
        connection.execute("drop table if exists public.bare_csv")
        connection.execute("create table public.bare_csv (like agentmill.executions)")
        names = ", ".join(rows.columns)
        with cursor.copy(f"copy public.bare_csv ({names}) from stdin (format csv)") as copy:  # type: ignore[call-overload]
            copy.write(rows.with_columns(as_arrays).write_csv(include_header=False).encode())


def _copy_binary(warehouse: Warehouse, rows: pl.DataFrame) -> None:
    with warehouse.connect() as connection:
        connection.execute("drop table if exists public.bare_binary")
        connection.execute("create table public.bare_binary (like agentmill.executions)")
        copy_frame(connection, rows, "public", "bare_binary")


def main() -> None:
    """Run both sides and print their figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--keep", type=Path, help="a folder to use and keep, records included")
    parser.add_argument("--side", choices=["pipeline", "bare_copy"], help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.side:
        rows = {"pipeline": pipeline, "bare_copy": bare_copy}[chosen.side](chosen.keep)
        print(json.dumps(rows))
        return
    with tempfile.TemporaryDirectory(prefix="agentmill-benchmark-") as temporary:
        _compare(chosen.keep or Path(temporary), chosen.records)


def _compare(folder: Path, records: int) -> None:
    raw = folder / "logs" / "app.ndjson"
    if not raw.exists():
        print(f"writing {records:,} records ...", flush=True)
        raw.parent.mkdir(parents=True, exist_ok=True)
        write_records(raw, records)
    print(f"{raw.stat().st_size / 1e6:,.0f} MB of NDJSON")
    ours, bare = (_side(name, folder) for name in ("pipeline", "bare_copy"))
    work = [row for row in ours if row["stage"] != _IMPORT]  # paid once per process, however many days it runs
    total = {column: sum(float(row[column]) for row in work) for column in ("wall", "own_cpu", "server_cpu")}
    total |= {"stage": "all", "peak_gib": max(float(row["peak_gib"]) for row in ours)}
    print(f"{'':20}{'wall s':>9}{'own CPU s':>11}{'server CPU s':>14}{'peak GiB':>10}")
    for row in (*ours, total, *bare):
        print(
            f"{row['stage']:<20}{row['wall']:>9.2f}{row['own_cpu']:>11.2f}{row['server_cpu']:>14.2f}{row['peak_gib']:>10.2f}"
        )
    for row in bare:
        ratio = (total["own_cpu"] + total["server_cpu"]) / (float(row["own_cpu"]) + float(row["server_cpu"]))
        print(f"CPU of the pipeline / {row['stage']}: {ratio:.2f}")


def _side(name: str, folder: Path) -> list[dict[str, float | str]]:
    command = [sys.executable, "-m", "benchmarks.end_to_end", "--side", name, "--keep", str(folder)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)  # noqa: S603 - our own words
    rows: list[dict[str, float | str]] = json.loads(done.stdout.splitlines()[-1])
    return rows


if __name__ == "__main__":
    main()

"""How the marketplace logs its runs: an application that writes NDJSON, and batch workers that write CSV in local time.

With all that real logs suffer from: records twice, records late, lines broken, clocks astray, values unknown.
"""

import gzip
import json
from collections import defaultdict
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from pipelines.demo.traffic import DAYS, FIRST_DAY, RUNS, SEED, traffic, user_name

BATCH_AGENTS = ("sql-analyst", "seo-writer")
_BATCH_ZONE = "Europe/Berlin"
_BATCH_CODES = {"succeeded": "0", "failed": "1", "errored": "2", "timed_out": "124", "canceled": "130", "partial": "3"}
_LATE, _REPEATED, _CORRECTED = 0.004, 0.008, 0.001
_BROKEN = ('{"id": "app-torn", "started": "2025-03-0', "WARN log rotated, 3 handlers reopened", '{"id": 17, "state"')
_BROWSERS = (
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/126.0.0.0 Safari/537.36",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 14_5) AppleWebKit/605.1.15 Version/17.5 Safari/605.1.15",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:127.0) Gecko/20100101 Firefox/127.0",
    "python-requests/2.32.3",
)


@dataclass(slots=True)
class Written:
    """The truth about the logs: every record is an execution, one repeated, or one that is broken."""

    executions: int = 0
    repeated: int = 0
    broken: int = 0

    @property
    def records(self) -> int:
        """All records in all files."""
        return self.executions + self.repeated + self.broken


def write_logs(folder: Path, runs: int = RUNS // DAYS, days: int = DAYS) -> Written:
    """Write `app/*.ndjson.gz` and `batch/*.csv` below the folder, one file per day, and tell what is in them."""
    written = Written()
    lines: dict[int, list[str]] = defaultdict(list)
    batch = []
    for day in range(days):
        of_day = traffic(day, runs)
        is_batch = pl.col("agent").is_in(BATCH_AGENTS)
        _log_app(of_day.filter(~is_batch), day, lines, written)
        batch.append(of_day.filter(is_batch))
    _write_app(folder / "app", lines)
    _write_batch(folder / "batch", pl.concat(batch), written)
    return written


def app_record(run: dict[str, Any]) -> dict[str, Any]:
    """One run as the application logs it."""
    user = user_name(run["user"])
    error = None
    if run["error_type"] is not None:
        frame = f'  File "/home/{user}/app/runner.py", line 88, in run\n    step()'
        stack = f"Traceback (most recent call last):\n{frame}\n{run['error_type']}: {run['error_message']}"
        error = {"type": run["error_type"], "message": run["error_message"], "stack": stack}
    return {
        "id": f"app-{run['serial']:08d}",
        "started": f"{run['started_at'].isoformat(timespec='milliseconds')}Z",
        "ended": f"{run['ended_at'].isoformat(timespec='milliseconds')}Z",
        "state": run["state"],
        "env": "production",
        "agent": {"name": run["agent"], "version": run["version"], "kind": run["kind"]},
        "user": {
            "id": f"{user}@example.org",
            "session": f"{user}-{run['started_at']:%Y%m%d%H}",
            "ip": f"203.0.{run['user'] % 200}.{run['serial'] % 250 + 1}",
            "agent": _BROWSERS[run["user"] % len(_BROWSERS)],
        },
        "model": {"name": run["model"], "provider": run["provider"]},
        "usage": {"input": run["input_tokens"], "cached": run["cached_tokens"], "output": run["output_tokens"]},
        "timing": {"queue_ms": run["queue_ms"], "ttft_ms": run["ttft_ms"]},
        "cost_usd": run["cost_usd"],
        "error": error,
        "tools": run["tools"],
        "prompt": {"messages": [{"role": "user", "content": f"I am {user}, request {run['serial']}."}]},
        "reply": None if error else f"Dear {user}, it is done.",
    }


def _log_app(runs: pl.DataFrame, day: int, lines: dict[int, list[str]], written: Written) -> None:
    """Append a day's records to the files they land in: some twice, some corrected, some only the next day."""
    rng = np.random.default_rng([SEED, day, 1])
    for run, chance in zip(runs.iter_rows(named=True), rng.random(runs.height), strict=True):
        record = app_record(run)
        line = json.dumps(record)
        target = lines[day + 1] if chance < _LATE else lines[day]
        target.append(line)
        if _LATE <= chance < _LATE + _REPEATED:
            target.append(line)
            written.repeated += 1
        elif _LATE + _REPEATED <= chance < _LATE + _REPEATED + _CORRECTED:
            later = run["ended_at"] + timedelta(seconds=1)
            target.append(json.dumps(record | {"ended": f"{later.isoformat(timespec='milliseconds')}Z"}))
            written.repeated += 1
    written.executions += runs.height
    lost = app_record(runs.row(0, named=True)) | {"id": f"app-lost-{day}", "state": "limbo"}
    for line in (*_BROKEN, json.dumps(lost)):
        lines[day].insert(int(rng.integers(1, len(lines[day]))), line)
        written.broken += 1


def _write_app(folder: Path, lines: dict[int, list[str]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for day, of_file in lines.items():
        content = "".join(f"{line}\n" for line in of_file).encode()
        path = folder / f"app-{FIRST_DAY + timedelta(days=day)}.ndjson.gz"
        path.write_bytes(gzip.compress(content, compresslevel=3, mtime=0))


def _write_batch(folder: Path, runs: pl.DataFrame, written: Written) -> None:
    """Write the workers' files, by local day. Each holds one row that lost its end."""
    folder.mkdir(parents=True, exist_ok=True)
    local = pl.col("started_at").dt.replace_time_zone("UTC").dt.convert_time_zone(_BATCH_ZONE)
    users = {number: f"{user_name(number)}@example.org" for number in runs["user"].unique()}
    rows = runs.select(
        pl.format("batch-{}", "serial").alias("run_id"),
        "agent",
        "version",
        "model",
        user=pl.col("user").replace_strict(users),
        start=local.dt.strftime("%Y-%m-%d %H:%M:%S%.3f"),
        seconds=(pl.col("duration_ms") / 1000).round(3),
        exit_code=pl.col("state").replace_strict(_BATCH_CODES),
        error=pl.concat_str("error_type", "error_message", separator=": ", ignore_nulls=True),
        input_tokens="input_tokens",
        cached_tokens="cached_tokens",
        output_tokens="output_tokens",
        cost_usd="cost_usd",
    )
    by_day = rows.with_columns(day=pl.col("start").str.head(10)).partition_by("day", as_dict=True, include_key=False)
    for (day,), of_file in by_day.items():
        (folder / f"batch-{day}.csv").write_text(of_file.write_csv() + f"batch-torn-{day},seo-writer,1.1.0\n")
        written.broken += 1
    written.executions += rows.height

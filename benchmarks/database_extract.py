"""Extraction of a million rows from PostgreSQL and from MariaDB, against the fastest plain reader of the same query.

The query asks for the rows of a day and for their count; beside it stands a reader of bare rows, which nobody counts.
The sides take turns, each time in a process of its own, on servers that listen on their local standard ports. What
counts is the median of the ratios of neighbours, because whatever else the machine does slows both:

    python -m benchmarks.database_extract
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from statistics import median

import connectorx as cx
import psycopg
import pymysql

from pipelines.extract import extract
from pipelines.lake import Lake
from pipelines.sources.database import DatabaseSource, Table

DAY = date(2026, 3, 10)
TABLE = "agentmill_benchmark_runs"
URLS = {"postgresql": "postgresql://root@127.0.0.1:5432/test", "mariadb": "mysql://root@127.0.0.1:3306/test"}
MAPPING = {
    "execution_id": "id",
    "user": "user_id",
    "agent_name": "agent",
    "status": "status",
    "error_message": "error",
    "cost_usd": "cost",
    "input_tokens": "tokens",
    "started_at": "started",
}
_POSTGRES = """
    drop table if exists TABLE;
    create table TABLE as select n::int as id, 'user' || n % 5000 as user_id, 'agent' || n % 20 as agent,
        (array['success', 'failed', 'partial'])[1 + n % 3] as status,
        case when n % 3 = 1 then 'Error ' || n % 100 || ': connection refused by host' end as error,
        (n / 1000.0)::numeric(12, 6) as cost, (n % 9000)::bigint as tokens,
        timestamptz 'DAY 00:00Z' + n * interval '1 day' / ROWS as started from generate_series(0, ROWS - 1) n;
    create index on TABLE (started);
    analyze TABLE
"""
_MARIADB = """
    drop table if exists TABLE;
    create table TABLE (id int unsigned primary key, user_id varchar(40), agent varchar(60), status varchar(20),
        error text, cost decimal(12, 6), tokens bigint, started datetime(3), key (started));
    insert into TABLE select seq, concat('user', seq % 5000), concat('agent', seq % 20),
        elt(1 + seq % 3, 'success', 'failed', 'partial'),
        if(seq % 3 = 1, concat('Error ', seq % 100, ': connection refused by host'), null), seq / 1000.0, seq % 9000,
        'DAY' + interval floor(seq * 86400000000 / ROWS) microsecond from seq_0_to_ROWS where seq < ROWS
"""
_PLAIN = {
    "postgresql": f"select id, user_id, agent, status, error, cost::text as cost, tokens, started from {TABLE}",  # noqa: S608
    "mariadb": f"select id, user_id, agent, status, error, cast(cost as char) as cost, tokens, started from {TABLE}",  # noqa: S608
}


def fill(server: str, rows: int) -> None:
    """Make the table and its rows, all of one day."""
    script = _POSTGRES if server == "postgresql" else _MARIADB
    script = script.replace("TABLE", TABLE).replace("ROWS", f"{rows}").replace("DAY", f"{DAY}")
    statements = script.split(";")
    if server == "postgresql":
        with psycopg.connect(URLS[server], autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement.encode())
    else:
        with pymysql.connect(host="127.0.0.1", user="root", database="test", autocommit=True) as connection:
            for statement in statements:
                connection.cursor().execute(statement)


def extracted(server: str, folder: Path) -> int:
    """The product's own extraction, into a lake."""
    return extract(_source(server), [DAY], Lake(folder.as_uri()), datetime.now(UTC))[DAY].rows


def read_plainly(server: str, _: Path) -> int:
    """The same query as Arrow, and nothing else."""
    return int(cx.read_sql(URLS[server], Table(_source(server)).statement(DAY), return_type="arrow").num_rows)


def read_uncounted(server: str, _: Path) -> int:
    """All rows of the table as Arrow, without asking how many there are."""
    return int(cx.read_sql(URLS[server], _PLAIN[server], return_type="arrow").num_rows)


def _source(server: str) -> DatabaseSource:
    return DatabaseSource.model_validate(
        {"name": "app", "kind": "database", "url": URLS[server], "table": TABLE, "mapping": MAPPING}
    )


SIDES: dict[str, Callable[[str, Path], int]] = {
    "extract": extracted,
    "plain reader": read_plainly,
    "bare rows": read_uncounted,
}


def main() -> None:
    """Run both sides on both servers and print their figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--repeat", type=int, default=7, help="how many times both sides run")
    parser.add_argument("--side", help=argparse.SUPPRESS)
    parser.add_argument("--server", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.side:
        with tempfile.TemporaryDirectory(prefix="agentmill-benchmark-") as folder:
            print(json.dumps(_measure(chosen.side, chosen.server, Path(folder))))
        return
    print(f"{'':28}{'rows/s':>12}{'wall s':>9}{'CPU s':>9}{'peak GiB':>10}")
    for server in URLS:
        fill(server, chosen.rows)
        rounds = [{side: _run(side, server) for side in SIDES} for _ in range(chosen.repeat)]
        for side in SIDES:
            rows, wall, cpu, peak = (median(figures) for figures in zip(*(one[side] for one in rounds), strict=True))
            print(f"{server + ', ' + side:<28}{rows / wall:>12,.0f}{wall:>9.2f}{cpu:>9.2f}{peak:>10.2f}")
        for plain in list(SIDES)[1:]:
            ratios = [one["extract"][1] / one[plain][1] for one in rounds]
            print(f"{server}: wall time of extract / {plain}: {median(ratios):.2f}")


def _run(side: str, server: str) -> list[float]:
    """Rows, wall time, CPU time and peak memory of one side in a new process."""
    command = [sys.executable, "-m", "benchmarks.database_extract", "--side", side, "--server", server]
    return list(json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout))  # noqa: S603


def _measure(side: str, server: str, folder: Path) -> tuple[float, float, float, float]:
    started, used = time.perf_counter(), time.process_time()
    rows = SIDES[side](server, folder)
    wall, cpu = time.perf_counter() - started, time.process_time() - used
    return rows, wall, cpu, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


if __name__ == "__main__":
    main()

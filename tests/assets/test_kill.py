"""Killed at any moment and run again, the tables are those of a run that nobody disturbed."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from conftest import MARKET_DAYS, checksums, write_market

from pipelines.settings import load_settings
from pipelines.warehouse import open_warehouse

AGENTMILL = Path(sys.executable).with_name("agentmill")
KILLS = 5
QUIET = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


def command(folder):
    """What runs four small days in a folder, with an embedded server of its own."""
    folder.mkdir()
    words = ["-c", write_market(folder), "run", "--from", f"{MARKET_DAYS[0]}", "--to", f"{MARKET_DAYS[-1]}"]
    return [AGENTMILL, *words]


def published(folder):
    return checksums(open_warehouse(load_settings(folder / "agentmill.yaml")))


def kill_within(words, seconds):
    """Start a command and kill it at that moment; sooner, where it was quicker than that."""
    while True:
        process = subprocess.Popen(words, start_new_session=True, **QUIET)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return
        seconds *= 0.7


def test_a_run_killed_at_random_moments_converges(tmp_path):
    calm, folder = tmp_path / "calm", tmp_path / "killed"
    undisturbed, disturbed = command(calm), command(folder)
    started = time.monotonic()
    subprocess.run(undisturbed, check=True, **QUIET)
    lasted = time.monotonic() - started
    seed = random.Random(20250303)
    for _ in range(KILLS):
        kill_within(disturbed, seed.uniform(0.25, 0.95) * lasted)
    finished = subprocess.run(disturbed, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    assert published(folder) == published(calm)
    warehouse = open_warehouse(load_settings(folder / "agentmill.yaml"))
    assert warehouse.read("select tablename from pg_tables where schemaname = 'agentmill_staging'").height == 0
    assert published(calm)["executions"][0] > 400

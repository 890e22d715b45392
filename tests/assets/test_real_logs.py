"""Real agent logs with the mappings of the documentation, compared with what plain Python counts in them."""

import json
import re
import subprocess
import sys
from collections import Counter
from decimal import Decimal
from pathlib import Path

from conftest import REPOSITORY, assert_conserved, real_data, stored

from pipelines.settings import load_settings
from pipelines.warehouse import open_warehouse

AGENTMILL = Path(sys.executable).with_name("agentmill")
_HOME = re.compile(rb"(?<![A-Za-z0-9.])/(?:home|Users)/(?!<user>|Shared)\w+")


class Example:
    """A documented example, run on real logs in a folder of its own."""

    def __init__(self, example, log, folder, first, last):
        self.records = [json.loads(line) for line in real_data(log).read_text().splitlines()]
        text = (REPOSITORY / "docs" / "examples" / example).read_text()
        text = text.replace("../shared/data/", f"{real_data(log).parent}/")
        text += f"state_dir: {folder}/state\npseudonym_key_file: {folder}/agentmill.key\n"
        (folder / "agentmill.yaml").write_text(text)
        subprocess.run([AGENTMILL, "init"], cwd=folder, check=True, capture_output=True)
        command = [AGENTMILL, "run", "--from", first, "--to", last, "--json"]
        self.told = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        assert self.told.returncode == 0, self.told.stderr
        self.settings = load_settings(folder / "agentmill.yaml")
        self.warehouse = open_warehouse(self.settings)

    def counts(self):
        """Records received, clean, quarantined and duplicate, over all days."""
        days = [source for day in json.loads(self.told.stdout)["days"] for source in day["sources"]]
        quarantined = sum(sum(day["quarantined"].values()) for day in days)
        return tuple(sum(day[name] for day in days) for name in ("received", "clean", "duplicates")), quarantined

    def rows(self, query):
        return self.warehouse.read(query).rows()


def test_terminal_bench(tmp_path):
    example = Example("terminal-bench.yaml", "terminal_bench_trials.ndjson", tmp_path, "2025-07-11", "2025-09-24")
    assert example.counts() == ((5200, 3924, 0), 1276)
    told = dict(example.rows("select status, count(*) from agentmill.executions group by 1"))
    assert told == {"success": 1738, "failed": 1169, "timeout": 862, "error": 155}
    started = [record for record in example.records if record.get("trial_started_at")]
    agents = Counter(
        (record.get("_run_metadata") or {}).get("agent_name") or record["_submission"].split("_")[1]
        for record in started
    )
    assert (
        dict(example.rows("select agent_id, sum(execution_count)::int from agent_metrics_daily group by 1")) == agents
    )
    assert_conserved(example.warehouse)
    names = {(record.get("_run_metadata") or {}).get("username") for record in example.records} - {None}
    somebody = re.compile(rb"\b(?:" + b"|".join(re.escape(name.encode()) for name in names) + rb")\b")
    seen = [example.told.stdout.encode(), example.told.stderr.encode(), *stored(example.settings)]
    assert sum(map(len, seen)) > 5_000_000
    for content in seen:
        assert not somebody.findall(content)
        assert not _HOME.findall(content)


def test_tau2(tmp_path):
    first, last = "2026-03-01", "2026-04-06"
    example = Example("tau2.yaml", "tau2_simulations.ndjson", tmp_path, first, last)
    records = [record for record in example.records if first <= record["start_time"][:10] <= last]
    assert len(records) > 500
    assert example.counts() == ((len(records), len(records), 0), 0)
    told = example.rows(
        "select count(*) filter (where status = 'success') as won, "
        "sum(cost_usd) filter (where cost_source = 'provided') as cost, "
        "count(*) filter (where cost_source = 'provided') as priced from agentmill.executions"
    )
    won = sum((record["reward_info"] or {}).get("reward", 0) >= 1 for record in records)
    costs = [Decimal(str(record["agent_cost"])) for record in records if record["agent_cost"] is not None]
    assert told == [(won, sum(costs).quantize(Decimal("1e-10")), len(costs))]
    domains = Counter(record["info"]["domain_name"] for record in records)
    assert dict(example.rows("select execution_type, count(*) from agentmill.executions group by 1")) == domains
    assert_conserved(example.warehouse)

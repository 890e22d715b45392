"""What tests of regression cases share: a case, rows of the tables they are derived from, and a run of pytest."""

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta

from conftest import REPOSITORY
from psycopg.types.json import Jsonb

from pipelines.regression.case_file import Case

CLUSTER = "0123456789abcdef"
CASE_ID = f"rc_{CLUSTER}"
START = datetime(2026, 3, 1, tzinfo=UTC)
STRUCTURE = {"input_type": "json", "input_bytes": 9, "input_shape": "{}"}
HOSTILE = '"""\nimport os\n{{ 7*7 }}{% raw %}{# x #}</testcase>]]><script>alert(1)</script> ../../etc/passwd file://x'


def at(days=0.0):
    return START + timedelta(days=days)


def build_case(**overrides):
    """One case with one control; arguments override."""
    given = {
        "case_id": CASE_ID,
        "candidate_id": CASE_ID,
        "cluster_id": CLUSTER,
        "title": "the disk is full",
        "kind": "behaviour",
        "agent": {"id": "a1", "name": "planner"},
        "category": "unknown",
        "severity": "medium",
        "template": "the disk is full",
        "what_failed": "the disk is full",
        "input": {"fixture": {"prompt": "broken"}},
        "contract": {"must_not": {"signature_ids": [CLUSTER]}},
        "controls": [{"input": {"structures": [STRUCTURE]}}],
        "repetitions": 1,
        "is_blocking": True,
        "reviewed_by": "ann",
        "reviewed_at": START,
        "reason": "it came back",
        **overrides,
    }
    return Case.model_validate(given)


def insert(warehouse, table, *rows):
    """Rows that name only what matters."""
    with warehouse.connect() as connection:
        for row in rows:
            values = [Jsonb(value) if isinstance(value, dict) else value for value in row.values()]
            marks = ", ".join(["%s"] * len(row))
            connection.execute(f"insert into agentmill.{table} ({', '.join(row)}) values ({marks})", values)


def cluster_row(**overrides):
    return {
        "cluster_id": CLUSTER,
        "template": "the disk is full",
        "category": "unknown",
        "severity": "medium",
        "fault_domain": "agent",
        "signature_ids": [CLUSTER],
        "occurrence_count": 3,
        "reported_count": 3,
        "day_count": 3,
        "first_seen_at": START,
        "last_seen_at": at(2),
        "user_count": 1,
        "agent_ids": ["a1"],
        "agent_versions": ["1.0"],
        "models": [],
        "sample_message": "the disk is full",
        "sample_execution_ids": ["f1"],
        **overrides,
    }


def candidate_row(**overrides):
    return {
        "candidate_id": CASE_ID,
        "cluster_id": CLUSTER,
        "kind": "behaviour",
        "state": "approved",
        "state_reason": "approved by ann: it came back",
        "state_since": at(3),
        "reviewed_by": "ann",
        "is_blocking": True,
        "policy": "gated",
        "struck_at": at(2),
        "window_started_at": START,
        "window_occurrence_count": 3,
        "gates": {},
        "priority": 0.5,
        "priority_parts": {},
        "evidence_execution_ids": ["f1"],
        **overrides,
    }


def review_row(**overrides):
    row = {
        "reviewed_at": at(3),
        "reviewed_by": "ann",
        "candidate_id": CASE_ID,
        "signature_ids": [CLUSTER],
        "action": "approve",
        "reason": "it came back",
    }
    return {**row, **overrides}


def member_row(signature_id=CLUSTER, cluster_id=CLUSTER):
    return {"signature_id": signature_id, "cluster_id": cluster_id, "first_day": START.date(), "occurrence_count": 3}


def result_row(**overrides):
    """A pass of the contract; ids count up by what is overridden."""
    row = {
        "file_sha256": "0",
        "run_id": "run-1",
        "case_id": CASE_ID,
        "part": "contract",
        "repetition": 1,
        "executed_at": at(5),
        "outcome": "pass",
        "agent_version": "2.0",
        "environment": "ci",
        **overrides,
    }
    return {"result_id": "/".join(str(row[name]) for name in ("run_id", "case_id", "part", "repetition")), **row}


def approve(warehouse):
    """One approved candidate of one failure."""
    insert(warehouse, "failure_clusters", cluster_row())
    insert(warehouse, "failure_cluster_signatures", member_row())
    insert(warehouse, "regression_candidates", candidate_row())
    insert(warehouse, "candidate_reviews", review_row())


def run_pytest(folder, *arguments, plugins=()):
    """Pytest with our plugin in a process of its own, started on a folder that has its own configuration."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    # A root of its own for temporary folders: pytest closes the one it finds to the server that runs there.
    (folder / ".temp").mkdir(exist_ok=True)
    environment |= {"PYTEST_DEBUG_TEMPROOT": str(folder / ".temp")}
    environment |= {"PYTHONPATH": str(REPOSITORY), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    named = [word for name in ("pipelines.pytest_plugin", *plugins) for word in ("-p", name)]
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *named, *map(str, arguments)]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)

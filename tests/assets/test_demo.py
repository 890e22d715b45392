"""The demo as a new user runs it, judged by the truth it was made from."""

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from conftest import assert_conserved, checksums, stored

from pipelines.clean import CLEAN_EXECUTIONS
from pipelines.demo import CANARY, DAYS, FIRST_DAY, INCIDENTS, QUESTIONS, traffic, write_demo, write_logs
from pipelines.failures.fingerprint import identify
from pipelines.failures.text import failure_text
from pipelines.settings import load_settings
from pipelines.validate import read_verdict
from pipelines.warehouse import open_warehouse
from pipelines.warehouse.export import export
from pipelines.warehouse.query import ask, write_csv
from pipelines.warehouse.questions import ready_questions
from pipelines.warehouse.roles import PRIVACY

AGENTMILL = Path(sys.executable).with_name("agentmill")
ANSWERS = Path(__file__).parent / "answers"
"""What the ready questions answer on the demo."""
SECRET = re.compile(rb"sk-proj-[A-Za-z0-9]{20}")


class Demo:
    """A finished demo: where it lives, what it printed, what it published."""

    def __init__(self, folder):
        self.folder = folder
        self.printed = self.run()
        self.settings = load_settings(folder / "agentmill.yaml")
        self.warehouse = open_warehouse(self.settings)

    def run(self):
        told = subprocess.run(
            [AGENTMILL, "demo", "--dir", self.folder],
            env={**os.environ, "COLUMNS": "250"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert told.returncode == 0, told.stderr
        return told.stdout


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    return Demo(tmp_path_factory.mktemp("demo"))


def test_the_logs_are_the_same_everywhere(tmp_path):
    told = [write_logs(tmp_path / name, runs=40, days=3) for name in ("one", "other")]
    assert told[0] == told[1]
    for path in (tmp_path / "one").rglob("*.*"):
        assert path.read_bytes() == (tmp_path / "other" / path.relative_to(tmp_path / "one")).read_bytes()


def test_every_record_is_accounted_for(demo, tmp_path):
    truth = write_demo(tmp_path / "again")
    told = demo.warehouse.read(
        "select sum(received_count)::int as received, sum(clean_count)::int as clean, "
        "sum(duplicate_count)::int as duplicates, sum(quarantined_count)::int as quarantined "
        "from agentmill.receipts_daily"
    )
    assert told.row(0) == (truth.records, truth.executions, truth.repeated, truth.broken)
    assert demo.warehouse.read("select count(*) from agentmill.executions").item() == truth.executions


def test_every_table_tells_the_same_totals(demo):
    assert_conserved(demo.warehouse)


def test_it_prints_what_it_found_and_what_to_ask_next(demo):
    for incident in INCIDENTS:
        assert incident.category in demo.printed
    assert "failure_report.html" in demo.printed
    for question in QUESTIONS:
        assert question in demo.printed
        with ask(demo.warehouse, question) as answer:
            assert list(answer.rows)


def test_running_it_again_changes_nothing(demo):
    before = checksums(demo.warehouse)
    report = (demo.settings.reports / "failure_report.html").read_bytes()
    demo.run()
    assert checksums(demo.warehouse) == before
    assert (demo.settings.reports / "failure_report.html").read_bytes() == report


def test_each_incident_is_found_as_one_cluster_of_its_kind_since_its_first_day(demo):
    truth = pl.concat(traffic(day).filter(pl.col("incident").is_not_null()) for day in range(DAYS))
    serial = pl.col("serial").cast(pl.String).str.zfill(8)
    named = truth.select("incident", "started_at", execution_id=pl.format("app-{}", serial))
    stored = demo.warehouse.read(
        "select execution_id, status, error_type, error_message from agentmill.recent_failures"
    )
    failures = stored.with_columns(identify(stored.select(failure_text()).to_series())["signature_id"])
    clusters = demo.warehouse.read(
        "select cluster_id, category, unnest(signature_ids) as signature_id from agentmill.failure_clusters"
    )
    found = named.join(failures, on="execution_id").join(clusters, on="signature_id")
    assert found.height == named.filter(pl.col("execution_id").is_in(stored["execution_id"].implode())).height > 300
    for incident in INCIDENTS:
        of_it = found.filter(pl.col("incident") == incident.name)
        assert of_it["cluster_id"].n_unique() == 1, incident.name
        assert of_it["category"].unique().to_list() == [incident.category]
        assert of_it["started_at"].min().date() >= incident.starts.date()
    others = found.group_by("cluster_id").agg(pl.col("incident").n_unique())
    assert others["incident"].max() == 1


def test_failures_are_grouped_as_in_the_known_truth(demo):
    truth = pl.concat(traffic(day).filter(pl.col("failure").is_not_null()) for day in range(DAYS))
    serial = pl.col("serial").cast(pl.String)
    ids = (pl.format("app-{}", serial.str.zfill(8)), pl.format("batch-{}", serial))
    named = pl.concat(truth.select("failure", execution_id=one) for one in ids)
    found = demo.warehouse.read(
        "select execution_id, cluster_id from agentmill.failure_occurrences "
        "join agentmill.failure_cluster_signatures using (signature_id)"
    ).join(named, on="execution_id")
    assert found.height > 2_000
    assert adjusted_rand_index(found, "failure", "cluster_id") >= 0.98


def adjusted_rand_index(rows, one, other):
    """Hubert and Arabie (1985): 1 for the same groups, 0 for groups by chance."""

    def pairs(*names):
        sizes = rows.group_by(names).len()["len"].cast(pl.Float64)
        return (sizes * (sizes - 1) / 2).sum()

    both, of_one, of_other = pairs(one, other), pairs(one), pairs(other)
    expected = of_one * of_other / (rows.height * (rows.height - 1) / 2)
    return (both - expected) / ((of_one + of_other) / 2 - expected)


def test_its_costs_are_those_of_the_price_book_but_for_a_model_that_nobody_knows(demo):
    models = demo.warehouse.read(
        "select cost_source, array_agg(distinct model order by model) as models from agentmill.executions group by 1"
    )
    known = ["claude-sonnet-4", "gpt-4o", "gpt-4o-mini"]
    assert dict(models.rows()) == {
        "provided": ["claude-haiku-4", *known],
        "computed": known,
        "unpriced": ["claude-haiku-4"],
    }
    lake = demo.settings.open_lake()
    days = [{one.check: one for one in read_verdict(day, lake).verdicts} for day in lake.days(CLEAN_EXECUTIONS)]
    assert sum(day["costs"].figures["comparable"] for day in days) > 50_000
    assert {day["costs"].figures["deviating"] for day in days} == {0}


def test_the_planted_person_and_secrets_stay_in_the_restricted_zone(demo, tmp_path):
    logs = b"".join(path.read_bytes() for path in (demo.folder / "logs" / "batch").glob("*.csv"))
    assert CANARY.encode() in logs
    assert SECRET.search(logs)
    exported = [
        export(demo.warehouse, name, "csv", tmp_path / name, role=PRIVACY).path.read_bytes()
        for name in ("executions", "recent_failures", "user_agent_interactions", "error_breakdown")
    ]
    seen = [demo.printed.encode(), *stored(demo.settings), *exported]
    assert len(seen) > 40
    assert sum(map(len, seen)) > 50_000_000
    for content in seen:
        assert CANARY.encode() not in content
        assert not SECRET.search(content)


@pytest.mark.parametrize("question", ready_questions(), ids=lambda question: question.name)
def test_a_ready_question_has_the_known_answer(demo, question):
    assert question.title.endswith("?")
    assert question.asked_by in {"leaders", "analysts", "on-call"}
    assert question.why.endswith(".")
    assert question.how_to_read.endswith(".")
    out = io.StringIO()
    with ask(demo.warehouse, question.query) as answer:
        write_csv(answer, out)
    assert out.getvalue() == (ANSWERS / f"{question.name}.csv").read_text()


def test_ready_questions_are_listed_and_asked(demo):
    def run(*words):
        command = [AGENTMILL, "-c", demo.folder / "agentmill.yaml", "queries", *words]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    listed = json.loads(run("--json").stdout)["queries"]
    assert [row["name"] for row in listed] == [question.name for question in ready_questions()]
    assert len(listed) == 20
    assert run("cost_by_day", "--csv").stdout == (ANSWERS / "cost_by_day.csv").read_text()
    assert run("nothing").returncode == 2


def test_the_first_day_is_a_monday():
    assert FIRST_DAY.isoweekday() == 1

"""Whether a version may be released: its regression tests passed, and its executions fail in no new severe way."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import polars as pl

from pipelines.regression.case_file import CONTRACT
from pipelines.regression.case_table import read_evidence, read_table
from pipelines.regression.scores import ACTIVE, QUARANTINED, Evidence, current_ids, derive_cases
from pipelines.warehouse.connection import Warehouse

SEVERE = "high"

FACTS = pl.Schema(
    {
        "day": pl.Date(),
        "signature_id": pl.String(),
        "environment": pl.String(),
        "release": pl.String(),
        "agent_version": pl.String(),
    }
)
"""Grain: signature, environment, release and version; `day` is its first."""
DAYS = pl.Schema({"day": pl.Date(), "agent_version": pl.String(), "environment": pl.String()})
"""Grain: version and environment with an execution; `day` is its first."""
CLUSTERS = pl.Schema(
    {"cluster_id": pl.String(), "severity": pl.String(), "title": pl.String(), "template": pl.String()}
)
"""Grain: cluster."""


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a version does not pass, or what is only told of it."""

    kind: str
    """no_results, case_failed, case_error, case_not_run, new_failure; quarantined, no_baseline."""
    subject: str | None
    text: str


@dataclass(frozen=True, slots=True)
class Judgement:
    """Whether a version passes. `notes` do not count."""

    version: str
    baseline: str | None
    environment: str | None
    case_count: int
    reasons: list[Reason] = field(default_factory=list)
    notes: list[Reason] = field(default_factory=list)

    @property
    def passes(self) -> bool:
        """Whether nothing speaks against the version."""
        return not self.reasons

    @property
    def advice(self) -> str:
        """One sentence: what to do."""
        if self.passes:
            return f"Version {self.version} passes the gate."
        kinds = {reason.kind for reason in self.reasons}
        return next(text for kind, text in _ADVICE.items() if kind in kinds)

    def to_dict(self) -> dict[str, Any]:
        """All of it, for JSON."""
        return {"passes": self.passes, "advice": self.advice, **asdict(self)}


_ADVICE = {
    "no_results": "Run `pytest --agentmill-cases` on this version and hand its results over with --results.",
    "case_failed": "Mend what failed and run the tests again; a test that is wrong is retired by a review.",
    "case_error": "Mend the fixture `run_agent`, whose errors say nothing of the agent, and run the tests again.",
    "case_not_run": "Run all cases of the folder on this version, and hand the results over with --results.",
    "new_failure": "Mend the new failures, or resolve them where they are none of this version.",
}


@dataclass(frozen=True)
class Release:
    """What is known of releases: failure facts, when versions ran, and clusters, as in the schemas above."""

    facts: pl.DataFrame
    days: pl.DataFrame
    clusters: pl.DataFrame


def judge(warehouse: Warehouse, version: str, baseline: str | None, environment: str | None) -> Judgement:
    """Judge a version by the published tables, in one environment or in all of them together."""
    release = Release(
        _first_days(warehouse, "failure_signatures_daily", FACTS),
        _first_days(warehouse, "execution_rollup_daily", DAYS),
        read_table(warehouse, "failure_clusters", CLUSTERS),
    )
    return judge_version(read_evidence(warehouse), release, version, baseline, environment)


def _first_days(warehouse: Warehouse, table: str, schema: pl.Schema) -> pl.DataFrame:
    """A table by the columns of a schema that follow `day`, with the first day of each."""
    names = ", ".join(schema.names()[1:])
    rows = warehouse.read(f"select min(day) as day, {names} from agentmill.{table} group by {names}")  # noqa: S608 - our own words
    return rows.match_to_schema(schema) if rows.height else schema.to_frame()


def judge_version(
    evidence: Evidence, release: Release, version: str, baseline: str | None, environment: str | None
) -> Judgement:
    """Judge a version. Of each case its last run on the version counts, in each environment.

    A quarantined case is told and does not gate; whether it is one is judged by what was known before that run, so that
    a test which has only now begun to flake still stops the version once.
    """
    wanted = pl.col("environment") == environment if environment is not None else pl.lit(value=True)
    results = current_ids(evidence.results, "case_id", evidence.signatures)
    of_version = results.filter((pl.col("agent_version") == version) & wanted)
    last = _last_runs(of_version)
    before = results.join(last, on="result_id", how="anti")
    known = Evidence(evidence.candidates, evidence.reviews, before, evidence.signatures, evidence.states)
    cases = derive_cases(known, {}).filter("is_blocking")
    gating = cases.filter(pl.col("state") == ACTIVE)["case_id"].to_list()
    quarantined = cases.filter(pl.col("state") == QUARANTINED)
    judged_baseline = baseline or _version_before(release, version, wanted)
    reasons, notes = list(_judge_cases(gating, last)), [*_tell_quarantined(quarantined, last)]
    if of_version.is_empty():
        reasons.insert(0, Reason("no_results", None, f"There is no result of version {version}: nothing was tested."))
    if judged_baseline is None:
        text = f"No version ran before {version}: its failures cannot be compared."
        notes.append(Reason("no_baseline", None, text))
    else:
        reasons += _new_failures(evidence, release, version, judged_baseline, wanted)
    return Judgement(version, judged_baseline, environment, len(gating), reasons, notes)


def _last_runs(results: pl.DataFrame) -> pl.DataFrame:
    """The results of the last run of each case, in each environment."""
    by = ["case_id", "environment"]
    last = results.sort("executed_at", "run_id").group_by(by).agg(pl.col("run_id").last())
    return results.join(last, on=[*by, "run_id"], how="semi", nulls_equal=True)


def _judge_cases(case_ids: list[str], last: pl.DataFrame) -> Iterator[Reason]:
    of_case = {key: rows for (key,), rows in last.partition_by("case_id", as_dict=True).items()}
    for case_id in case_ids:
        if reason := _judge_case(case_id, of_case.get(case_id)):
            yield reason


def _judge_case(case_id: str, rows: pl.DataFrame | None) -> Reason | None:
    """What speaks against a case: a fail anywhere, then an error; and a contract that was not run in full."""
    if rows is None:
        return Reason("case_not_run", case_id, "It was not run on this version.")
    counts = dict(rows["outcome"].value_counts().iter_rows())
    parts = ", ".join(rows.filter(pl.col("outcome").is_in(["fail", "error"]))["part"].unique().sort())
    if failed := counts.get("fail", 0):
        return Reason("case_failed", case_id, f"{failed} of {rows.height} runs failed ({parts}).")
    if errors := counts.get("error", 0):
        return Reason("case_error", case_id, f"{errors} of {rows.height} runs ended in an error ({parts}).")
    contract = rows.filter(pl.col("part") == CONTRACT)
    ran = contract.filter(pl.col("outcome") == "pass").height
    if contract.is_empty() or ran < contract.height:
        return Reason("case_not_run", case_id, f"Its contract was run {ran} of {contract.height} times.")
    return None


def _tell_quarantined(cases: pl.DataFrame, last: pl.DataFrame) -> Iterator[Reason]:
    failed = set(last.filter(pl.col("outcome").is_in(["fail", "error"]))["case_id"])
    for case_id, why in cases.select("case_id", "state_reason").iter_rows():
        outcome = "failed" if case_id in failed else "did not fail"
        yield Reason("quarantined", case_id, f"It {outcome} and does not count: {why}.")


def _version_before(release: Release, version: str, wanted: pl.Expr) -> str | None:
    """The version whose first day is the last before that of the version; the first by name of several on that day."""
    seen = pl.concat(
        [
            release.days.filter(wanted).select("day", version="agent_version"),
            *_versions(release.facts.filter(wanted)),
        ]
    ).drop_nulls()
    first = seen.group_by("version").agg(pl.col("day").min())
    own = first.filter(pl.col("version") == version)
    earlier = first if own.is_empty() else first.filter(pl.col("day") < own["day"][0])
    newest = earlier.sort("day", "version", descending=[True, False])
    return newest["version"][0] if newest.height else None


def _versions(facts: pl.DataFrame) -> list[pl.DataFrame]:
    """Day and version of each fact, once by the agent's version and once by the release."""
    return [facts.select("day", version=name) for name in ("agent_version", "release")]


def _new_failures(
    evidence: Evidence, release: Release, version: str, baseline: str, wanted: pl.Expr
) -> Iterator[Reason]:
    """Severe clusters that occurred in the version and in none of the baseline's executions."""
    facts = release.facts.filter(wanted).join(evidence.signatures, on="signature_id")

    def clusters_of(name: str) -> pl.DataFrame:
        is_of = (pl.col("agent_version") == name) | (pl.col("release") == name)
        return facts.filter(is_of.fill_null(value=False)).select("cluster_id").unique()

    new = clusters_of(version).join(clusters_of(baseline), on="cluster_id", how="anti")
    severe = release.clusters.filter(pl.col("severity") == SEVERE).join(new, on="cluster_id", how="semi")
    for cluster_id, title, template in severe.sort("cluster_id").select("cluster_id", "title", "template").iter_rows():
        yield Reason("new_failure", cluster_id, f"New since {baseline}: {title or template}")

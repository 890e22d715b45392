"""Whether a version may be released: its regression tests passed, and its executions fail in no new severe way."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date
from typing import Any

import polars as pl

from pipelines.regression.case_file import CONTRACT
from pipelines.regression.case_table import read_evidence, read_table
from pipelines.regression.new_failures import CLUSTERS, DAYS, FACTS, Comparison, Release, compare_failures
from pipelines.regression.scores import ACTIVE, QUARANTINED, Evidence, current_results, derive_cases
from pipelines.warehouse.connection import Warehouse

NOTES = {"nothing_guarded", "quarantined", "no_baseline"}
"""Kinds of what is only told."""


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a version does not pass, or what is only told of it."""

    kind: str
    """results_broken, no_results, case_failed, case_error, case_not_run, new_failure; and NOTES."""
    subject: str | None
    text: str


@dataclass(frozen=True, slots=True)
class Judgement:
    """Whether a version passes. `notes` do not count."""

    version: str
    baseline: str | None
    """What was asked for to compare with."""
    first_day: date | None
    """The version's first day (UTC), where its failures were compared with all before it."""
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
    "results_broken": "Look at the files that --results names: they have to be results of regression tests.",
    "no_results": "Run `pytest --agentmill-cases` on this version and hand its results over with --results.",
    "case_failed": "Mend what failed and run the tests again; a test that is wrong is retired by a review.",
    "case_error": "Mend the fixture `run_agent`, whose errors say nothing of the agent, and run the tests again.",
    "case_not_run": "Run all cases of the folder on this version, and hand the results over with --results.",
    "new_failure": "Mend the new failures, or resolve or mute them where they are none of this version.",
}


def judge(
    warehouse: Warehouse,
    version: str,
    baseline: str | None,
    environment: str | None,
    broken: Sequence[tuple[str, str]] = (),
) -> Judgement:
    """Judge a version by the published tables, in one environment or in all of them together.

    `broken` names what was given as results and brought none, each with what is wrong; it stops the version.
    """
    release = Release(
        _first_days(warehouse, "failure_signatures_daily", FACTS),
        _first_days(warehouse, "execution_rollup_daily", DAYS),
        read_table(warehouse, "failure_clusters", CLUSTERS),
    )
    judgement = judge_version(read_evidence(warehouse), release, version, baseline, environment)
    judgement.reasons[:0] = [Reason("results_broken", name, f"It brought no result: {why}.") for name, why in broken]
    return judgement


def _first_days(warehouse: Warehouse, table: str, schema: pl.Schema) -> pl.DataFrame:
    """A table by the columns of a schema that follow `day`, with the first day of each."""
    names = ", ".join(schema.names()[1:])
    rows = warehouse.read(f"select min(day) as day, {names} from agentmill.{table} group by {names}")  # noqa: S608 - our own words
    return rows.match_to_schema(schema) if rows.height else schema.to_frame()


def judge_version(
    evidence: Evidence, release: Release, version: str, baseline: str | None, environment: str | None
) -> Judgement:
    """Judge a version. Of each case its last run on the version counts, in each environment.

    A quarantined case is told and gates only where all of it failed; whether it is one is judged by what was known
    before that run, so that a test which has only now begun to flake still stops the version once.
    """
    wanted = pl.col("environment") == environment if environment is not None else pl.lit(value=True)
    results = current_results(evidence)
    of_version = results.filter((pl.col("agent_version") == version) & wanted)
    last = _last_runs(of_version)
    before = results.join(last, on="result_id", how="anti")
    known = Evidence(evidence.candidates, evidence.reviews, before, evidence.signatures, evidence.states)
    cases = derive_cases(known, {}).filter("is_blocking")
    gating = cases.filter(pl.col("state") == ACTIVE)["case_id"].to_list()
    states = evidence.states.filter(wanted)
    compared = compare_failures(release.within(environment), evidence.signatures, states, version, baseline)
    told = [
        *_judge_coverage(version, gating, of_version, evidence.candidates["candidate_id"]),
        *_judge_cases(gating, last),
        *_judge_quarantined(cases.filter(pl.col("state") == QUARANTINED), last),
        *_judge_comparison(version, baseline, compared),
    ]
    return Judgement(
        version,
        baseline,
        compared.first_day if baseline is None and compared.has_before else None,
        environment,
        len(gating),
        [one for one in told if one.kind not in NOTES],
        [one for one in told if one.kind in NOTES],
    )


def _judge_coverage(version: str, gating: list[str], results: pl.DataFrame, known: pl.Series) -> Iterator[Reason]:
    """Whether anything was tested. Where no case gates, any result of a case that we know will do."""
    if gating:
        counted = results.filter(pl.col("case_id").is_in(gating))
    else:
        yield Reason("nothing_guarded", None, "There is no approved blocking case: nothing was guarded.")
        counted = results.filter(pl.col("case_id").is_in(known.to_list()) & (pl.col("outcome") != "skipped"))
    if counted.is_empty():
        yield Reason("no_results", None, f"There is no result of version {version}: nothing was tested.")


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


def _judge_quarantined(cases: pl.DataFrame, last: pl.DataFrame) -> Iterator[Reason]:
    """A flaky test says little by one fail, and enough where a part of it failed each time it ran."""
    for case_id, why in cases.select("case_id", "state_reason").iter_rows():
        rows = last.filter((pl.col("case_id") == case_id) & pl.col("outcome").is_in(["pass", "fail"]))
        parts = rows.group_by("environment", "part").agg((pl.col("outcome") == "fail").all().alias("is_broken"))
        broken = parts.filter("is_broken")["part"].unique().sort()
        if broken.len():
            yield Reason("case_failed", case_id, f"It is quarantined, and yet every run failed ({', '.join(broken)}).")
        else:
            outcome = "failed" if "fail" in rows["outcome"] else "did not fail"
            yield Reason("quarantined", case_id, f"It {outcome} and does not count: {why}.")


def _judge_comparison(version: str, baseline: str | None, compared: Comparison) -> Iterator[Reason]:
    """New failures, and what could not be compared."""
    day = compared.first_day
    if day is None:
        yield Reason("no_baseline", None, f"Version {version} has not run yet: there are no failures to compare.")
    elif not compared.has_before and baseline is None:
        yield Reason("no_baseline", None, f"Its agents did not run before {day}: its failures cannot be compared.")
    elif not compared.has_before:
        yield Reason("no_baseline", None, f"Version {baseline} did not run its agents: every failure is new.")
    since = f"New since {baseline}" if baseline else f"New in {version}, not there before its first day, {day}"
    for cluster_id, text in compared.new.iter_rows():
        yield Reason("new_failure", cluster_id, f"{since}: {text}")

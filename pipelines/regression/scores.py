"""How far each regression test can be trusted, whether it flakes or has done its work, and what its passing proves.

Pure functions of frames. A **verdict** is a pass or a fail; errors and skipped tests tell nothing of the agent.
Verdicts are compared within a part of a case, a version and an environment; results that name no version are those of
one version only where they are of one run.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

import polars as pl

from pipelines.execution import TIMESTAMP
from pipelines.failures.lifecycle import PASSES
from pipelines.failures.versions import compare_versions
from pipelines.regression.case_file import CONTRACT
from pipelines.regression.cases import APPROVED

CASES = "regression_cases"
ACTIVE, QUARANTINED, RETIRED = "active", "quarantined", "retired"
RESOLVED = "resolved"

Z = 1.645
"""Of a one-sided 95 % bound, and of a two-sided 90 % interval."""
FLAKY_BETWEEN = (0.2, 0.8)
FLAKY_VERDICTS = 20
FLAKY_CHANGES = 2
"""From failing to passing once is a fix, and from passing to failing a fault."""
GUARD = timedelta(days=90)
GUARD_RUNS = 20

CANDIDATES = pl.Schema(
    {
        "candidate_id": pl.String(),
        "cluster_id": pl.String(),
        "kind": pl.String(),
        "state": pl.String(),
        "state_reason": pl.String(),
        "state_since": TIMESTAMP,
        "reviewed_by": pl.String(),
        "is_blocking": pl.Boolean(),
    }
)
"""Grain: candidate."""
REVIEWS = pl.Schema(
    {
        "review_id": pl.Int64(),
        "reviewed_at": TIMESTAMP,
        "reviewed_by": pl.String(),
        "candidate_id": pl.String(),
        "action": pl.String(),
        "reason": pl.String(),
    }
)
"""Grain: review."""
RESULTS = pl.Schema(
    {
        "result_id": pl.String(),
        "run_id": pl.String(),
        "case_id": pl.String(),
        "part": pl.String(),
        "repetition": pl.Int64(),
        "executed_at": TIMESTAMP,
        "outcome": pl.String(),
        "agent_version": pl.String(),
        "environment": pl.String(),
    }
)
"""Grain: one part of a case, run once."""
SIGNATURES = pl.Schema({"signature_id": pl.String(), "cluster_id": pl.String()})
"""Grain: signature, with the cluster it is in now."""
STATES = pl.Schema({"cluster_id": pl.String(), "environment": pl.String(), "state": pl.String()})
"""Grain: cluster and environment."""
CASE = pl.Schema(
    {
        "case_id": pl.String(),
        "candidate_id": pl.String(),
        "cluster_id": pl.String(),
        "agent_id": pl.String(),
        "kind": pl.String(),
        "state": pl.String(),
        "state_reason": pl.String(),
        "is_blocking": pl.Boolean(),
        "approved_at": TIMESTAMP,
        "approved_by": pl.String(),
        "run_count": pl.Int64(),
        "pass_count": pl.Int64(),
        "fail_count": pl.Int64(),
        "error_count": pl.Int64(),
        "skipped_count": pl.Int64(),
        "pass_rate": pl.Float64(),
        "is_flaky": pl.Boolean(),
        "confidence_score": pl.Float64(),
        "first_run_at": TIMESTAMP,
        "last_run_at": TIMESTAMP,
        "last_outcome": pl.String(),
        "last_version": pl.String(),
        "passing_since": TIMESTAMP,
    }
)
"""Grain: a candidate that is, or was, approved. Counts are of its contract, one per repetition; controls count for
`is_flaky` and for what its last run came to."""
_OUTCOMES = ("pass", "fail", "error", "skipped")
_PROBE = ("case_id", "part", "tried", "environment")
"""What verdicts are compared within."""


@dataclass(frozen=True)
class Evidence:
    """The published tables that scores are derived from, with the columns of the schemas above."""

    candidates: pl.DataFrame
    reviews: pl.DataFrame
    results: pl.DataFrame
    signatures: pl.DataFrame
    states: pl.DataFrame


def derive_cases(evidence: Evidence, agent_of: dict[str, str | None]) -> pl.DataFrame:
    """The rows of `regression_cases`, by id. `agent_of` names the agent of a candidate.

    A candidate that was never approved is no case; one that was, and is retired by a person, stays as a retired one.
    """
    reviews = current_ids(evidence.reviews, "candidate_id", evidence.signatures)
    of_case = score(current_results(evidence))
    resolved = _resolved_clusters(evidence.states)
    scores = {row["case_id"]: row for row in of_case.iter_rows(named=True)}
    approvals = _last(reviews, "approve")
    retirements = _last(reviews, "retire")
    rows = []
    for candidate in evidence.candidates.sort("candidate_id").iter_rows(named=True):
        case_id = candidate["candidate_id"]
        approval = approvals.get(case_id)
        if candidate["state"] != APPROVED and not (candidate["state"] == RETIRED and approval):
            continue
        scored = scores.get(case_id, _NOTHING)
        approved = approval or {"reviewed_at": candidate["state_since"], "reviewed_by": candidate["reviewed_by"]}
        retirement = _newer(retirements.get(case_id), approval) if candidate["state"] == RETIRED else None
        state, reason = _state(candidate, scored, retirement, is_resolved=candidate["cluster_id"] in resolved)
        rows.append(
            {
                **{name: candidate[name] for name in ("candidate_id", "cluster_id", "kind", "is_blocking")},
                **{name: value for name, value in scored.items() if name in CASE},
                "case_id": case_id,
                "agent_id": agent_of.get(case_id),
                "state": state,
                "state_reason": reason,
                "approved_at": approved["reviewed_at"],
                "approved_by": approved["reviewed_by"] or "",
            }
        )
    return pl.DataFrame(rows, schema=CASE, orient="row")


def score(results: pl.DataFrame) -> pl.DataFrame:
    """What the results of each case come to: one row per case that has any, with the counts and times of CASE.

    `confidence_score` is the Wilson lower bound (z = 1.645) of the share of right verdicts on the contract: on a
    version the verdict of the majority is right and each of the minority is a flake; of a tie half are right. A test
    that fails on the broken version and passes on the mended one is right each time. `streak_run_count` counts the
    runs since `passing_since`.
    """
    contract = results.filter(pl.col("part") == CONTRACT)
    counted = contract.group_by("case_id").agg(
        pl.len().cast(pl.Int64).alias("run_count"),
        *((pl.col("outcome") == outcome).sum().cast(pl.Int64).alias(f"{outcome}_count") for outcome in _OUTCOMES),
    )
    counted = counted.with_columns(pass_rate=_share("pass_count", pl.col("pass_count") + pl.col("fail_count")))
    right = (
        _probes(contract)
        .group_by("case_id")
        .agg(
            pl.max_horizontal("passes", "fails").sum().alias("right"),
            (pl.col("passes") + pl.col("fails")).sum().alias("n"),
        )
    )
    right = right.with_columns(confidence_score=wilson_low(pl.col("right"), pl.col("n")))
    return (
        _streaks(results)
        .join(counted, on="case_id", how="left")
        .join(right.select("case_id", "confidence_score"), on="case_id", how="left")
        .join(_flakes(results), on="case_id", how="left")
        .with_columns(
            pl.col("run_count", *(f"{outcome}_count" for outcome in _OUTCOMES)).fill_null(0),
            pl.col("is_flaky").fill_null(value=False),
        )
        .sort("case_id")
    )


def passing(evidence: Evidence) -> pl.DataFrame:
    """Runs that prove a failure gone, as PASSES, in the order of time.

    The case is approved and does not flake; each repetition of its contract passed in that run, and no control failed
    or ended in an error; the contract failed in an earlier run on an earlier version: a test that has never failed may
    not see the failure at all; and it fails, as far as anybody knows, on no version that is as late. All versions have
    a name; of names that have no order, such as commits, another one will do. It is the version that is proven, so it
    holds in every environment, wherever the test ran.
    """
    results = current_results(evidence)
    approved = evidence.candidates.filter(pl.col("state") == APPROVED).select("cluster_id", case_id="candidate_id")
    steady = score(results).filter(~pl.col("is_flaky")).select("case_id")
    runs = _runs(results).join(approved, on="case_id").join(steady, on="case_id", how="semi")
    runs = runs.filter(pl.col("agent_version").is_not_null())
    proofs = [proof for of_case in runs.partition_by("case_id", maintain_order=True) for proof in _proofs(of_case)]
    return pl.DataFrame(proofs, schema=PASSES, orient="row").unique().sort("executed_at", "cluster_id", "agent_version")


def _proofs(runs: pl.DataFrame) -> Iterator[dict[str, object]]:
    """The runs of one case that prove its failure gone, by what failed before, and what still fails at their moment."""
    seen: set[str] = set()
    failing: set[tuple[str, str | None]] = set()
    for moment in runs.partition_by("executed_at", maintain_order=True):
        broken = moment.filter("is_contract_broken")
        passed = moment.filter(pl.col("outcome") == "pass")
        failing -= set(passed.select("agent_version", "environment").rows())
        failing |= set(broken.select("agent_version", "environment").rows())
        for run in passed.iter_rows(named=True):
            version = run["agent_version"]
            rises = any(compare_versions(one, version, {}) in {-1, None} for one in seen)
            if rises and not any(compare_versions(one, version, {}) in {0, 1} for one, _ in failing):
                yield {**run, "environment": None}
        seen |= set(broken["agent_version"])


def current_results(evidence: Evidence) -> pl.DataFrame:
    """The results under the ids that cases have now, each once.

    A file that names no version may have been imported without one first and with one later: what the same run tells
    with a version, or with an environment, is the same result as the one without.
    """
    results = current_ids(evidence.results, "case_id", evidence.signatures)
    named = pl.sum_horizontal(pl.col("agent_version", "environment").is_not_null())
    return results.filter(named == named.max().over("run_id", "case_id", "part", "repetition"))


def current_ids(frame: pl.DataFrame, column: str, signatures: pl.DataFrame) -> pl.DataFrame:
    """The frame with ids of cases (`rc_` and a cluster) as they are now: clusters merge, and take an older id."""
    now = signatures.select(
        pl.format("rc_{}", "signature_id").alias(column),
        pl.format("rc_{}", "cluster_id").alias("now"),
    )
    told = frame.join(now, on=column, how="left", maintain_order="left")
    return told.with_columns(pl.coalesce("now", column).alias(column)).drop("now")


def wilson_low(successes: pl.Expr, total: pl.Expr) -> pl.Expr:
    """Lower bound of the Wilson score interval of a share, with z = 1.645; null of nothing."""
    return _wilson(successes, total, -1)


def wilson_high(successes: pl.Expr, total: pl.Expr) -> pl.Expr:
    """Upper bound of the Wilson score interval of a share, with z = 1.645; null of nothing."""
    return _wilson(successes, total, 1)


def _wilson(successes: pl.Expr, total: pl.Expr, sign: int) -> pl.Expr:
    share = successes / total
    spread = Z * (share * (1 - share) / total + Z**2 / (4 * total**2)).sqrt()
    return pl.when(total > 0).then((share + Z**2 / (2 * total) + sign * spread) / (1 + Z**2 / total))


def _probes(results: pl.DataFrame) -> pl.DataFrame:
    """Passes and fails of each part of a case on one version in one environment."""
    return (
        _with_tried(results)
        .group_by(_PROBE)
        .agg(
            (pl.col("outcome") == "pass").sum().cast(pl.Int64).alias("passes"),
            (pl.col("outcome") == "fail").sum().cast(pl.Int64).alias("fails"),
        )
    )


def _with_tried(results: pl.DataFrame) -> pl.DataFrame:
    version, run = pl.format("version {}", "agent_version"), pl.format("run {}", "run_id")
    return results.with_columns(tried=pl.coalesce(version, run))


def _flakes(results: pl.DataFrame) -> pl.DataFrame:
    """Whether any part of a case flakes: by its last 20 verdicts, on versions where it is unsteady.

    There the interval of the pass rate must reach into what chance would make of it: one fail of twenty may be an
    accident elsewhere, one of three is not.
    """
    verdicts = results.filter(pl.col("outcome").is_in(["pass", "fail"])).sort("executed_at", "result_id")
    last = verdicts.group_by("case_id", "part", maintain_order=True).tail(FLAKY_VERDICTS)
    mixed = _probes(last).join(_unsteady(last), on=_PROBE, how="semi", nulls_equal=True)
    passes, total = pl.col("passes").sum(), (pl.col("passes") + pl.col("fails")).sum()
    low, high = FLAKY_BETWEEN
    parts = mixed.group_by("case_id", "part").agg(passes.alias("passes"), total.alias("n"))
    is_flaky = (wilson_low(pl.col("passes"), pl.col("n")) <= high) & (wilson_high(pl.col("passes"), pl.col("n")) >= low)
    flaky = parts.with_columns(is_flaky=is_flaky).filter("is_flaky").sort("case_id", "part")
    return flaky.group_by("case_id").agg(
        pl.lit(value=True).alias("is_flaky"),
        pl.col("part").first().alias("flaky_part"),
        pl.col("passes").first().alias("flaky_passes"),
        pl.col("n").first().alias("flaky_n"),
    )


def _unsteady(verdicts: pl.DataFrame) -> pl.DataFrame:
    """Where a part both passed and failed in one run, or its runs went to and fro on one version.

    A single change is no flake: under a label that does not change, such as `main`, every test that did its work fails
    first and passes after the fix.
    """
    is_fail = pl.col("outcome") == "fail"
    runs = (
        _with_tried(verdicts)
        .group_by(*_PROBE, "run_id")
        .agg(pl.col("executed_at").max(), is_fail.any().alias("has_fail"), (~is_fail).any().alias("has_pass"))
        .sort("executed_at", "run_id")
    )
    told = runs.group_by(_PROBE, maintain_order=True).agg(
        (pl.col("has_fail") & pl.col("has_pass")).any().alias("is_mixed"),
        (pl.col("has_fail") != pl.col("has_fail").shift()).sum().alias("changes"),
    )
    return told.filter(pl.col("is_mixed") | (pl.col("changes") >= FLAKY_CHANGES))


def _runs(results: pl.DataFrame) -> pl.DataFrame:
    """What each run of a case came to, over its contract and controls, in the order of time.

    A fail anywhere is a fail, then an error; a run of which any of the contract was skipped proves nothing and is
    `skipped`. A control that was skipped tells nothing either way.
    """
    is_contract = pl.col("part") == CONTRACT
    worst = (
        pl.when((pl.col("outcome") == "fail").any())
        .then(pl.lit("fail"))
        .when((pl.col("outcome") == "error").any())
        .then(pl.lit("error"))
        .when((is_contract & (pl.col("outcome") == "skipped")).any() | ~is_contract.any())
        .then(pl.lit("skipped"))
        .otherwise(pl.lit("pass"))
    )
    return (
        results.group_by("case_id", "run_id", "environment", "agent_version")
        .agg(
            pl.col("executed_at").max(),
            worst.alias("outcome"),
            (is_contract & (pl.col("outcome") == "fail")).any().alias("is_contract_broken"),
        )
        .sort("case_id", "executed_at", "run_id", "environment", "agent_version")
    )


def _streaks(results: pl.DataFrame) -> pl.DataFrame:
    """First and last run of each case, and since when it has been passing. Skipped runs neither prove nor break it."""
    runs = _runs(results)
    tried = runs.filter(pl.col("outcome") != "skipped").with_columns(
        broken=(pl.col("outcome") != "pass").cast(pl.Int64).cum_sum(reverse=True).over("case_id")
    )
    streak = (
        tried.filter(pl.col("broken") == 0)
        .group_by("case_id")
        .agg(
            pl.col("executed_at").min().alias("passing_since"),
            pl.col("executed_at").max().alias("passing_until"),
            pl.len().cast(pl.Int64).alias("streak_run_count"),
        )
    )
    ends = runs.group_by("case_id").agg(
        pl.col("executed_at").min().alias("first_run_at"),
        pl.col("executed_at").max().alias("last_run_at"),
        pl.col("outcome").last().alias("last_outcome"),
        pl.col("agent_version").last().alias("last_version"),
    )
    return ends.join(streak, on="case_id", how="left")


_NOTHING: dict[str, object] = {
    "run_count": 0,
    **{f"{outcome}_count": 0 for outcome in _OUTCOMES},
    "is_flaky": False,
}
"""The scores of a case that was never run."""


def _state(
    candidate: dict[str, object], scored: dict[str, object], retirement: dict[str, object] | None, *, is_resolved: bool
) -> tuple[str, str]:
    """The state of a case, and why. Whoever retires it has the last word, then what its failure and its runs tell."""
    if candidate["state"] == RETIRED or retirement is not None:
        told = f"{retirement['reason']} ({retirement['reviewed_by']})" if retirement else candidate["state_reason"]
        return RETIRED, str(told)
    if scored["is_flaky"]:
        part, passes, total = scored["flaky_part"], scored["flaky_passes"], scored["flaky_n"]
        return QUARANTINED, f"its {part} passed {passes} of {total} times on versions where it was unsteady"
    if is_resolved and _has_guarded(scored):
        return RETIRED, "has guarded a fixed failure long enough"
    return ACTIVE, str(candidate["state_reason"])


def _newer(retirement: dict[str, object] | None, approval: dict[str, object] | None) -> dict[str, object] | None:
    """The retirement, where nobody approved the candidate again after it."""
    if retirement is None or approval is None:
        return retirement
    return retirement if retirement["review_id"] > approval["review_id"] else None  # type: ignore[operator]


def _has_guarded(scored: dict[str, object]) -> bool:
    """Whether it passed all of at least 20 runs over at least 90 days. The last run counts, and not today."""
    since, until, runs = (scored.get(name) for name in ("passing_since", "passing_until", "streak_run_count"))
    if since is None or until is None:
        return False
    return until - since >= GUARD and runs >= GUARD_RUNS  # type: ignore[operator]


def _resolved_clusters(states: pl.DataFrame) -> set[str]:
    """Clusters that are resolved in every environment they occurred in."""
    told = states.group_by("cluster_id").agg((pl.col("state") == RESOLVED).all().alias("is_resolved"))
    return set(told.filter("is_resolved")["cluster_id"])


def _last(reviews: pl.DataFrame, action: str) -> dict[str, dict[str, object]]:
    """The last review of that kind of each candidate."""
    of_kind = reviews.filter(pl.col("action") == action).sort("review_id")
    return {row["candidate_id"]: row for row in of_kind.iter_rows(named=True)}


def _share(part: str, total: pl.Expr) -> pl.Expr:
    return pl.when(total > 0).then(pl.col(part) / total)

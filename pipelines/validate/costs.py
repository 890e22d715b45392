"""What a day cost: how much of it is provided, computed or unpriced, and whether provided and computed costs agree."""

from collections.abc import Sequence

import polars as pl

from pipelines.pricing import estimate
from pipelines.pricing.book import PriceBook
from pipelines.sources.source import Source
from pipelines.validate.verdict import Finding, Verdict

_TOLERANCE = 0.05
_FLOOR_USD = 1e-6
_MOST_DEVIATING = 0.1
_FEWEST = 20
_MOST_TOLD = 3
_MOST_EXAMPLES = 5
_NOT_COMPUTED = "not computed for the source"
_KNOWN_BY_NOW = "priced by now, run the day again"


def judge_costs(rows: pl.DataFrame, sources: Sequence[Source], prices: PriceBook) -> Verdict:
    """Provided costs are what the price book makes of the same tokens. An unpriced execution is counted, no fault."""
    priced = _priced(rows, [source.name for source in sources if source.compute_cost], prices)
    count = {origin: int((rows["cost_source"] == origin).sum()) for origin in ("provided", "computed", "unpriced")}
    compared = priced.filter((pl.col("cost_source") == "provided") & pl.col("computed_usd").is_not_null())
    deviating = compared["is_deviating"].sum()
    provided_usd, computed_usd = (float(compared[name].sum()) for name in ("cost_usd", "computed_usd"))
    passed = compared.height < _FEWEST or deviating <= _MOST_DEVIATING * compared.height
    findings = [] if passed else _findings(compared)
    told = [
        f"{count['provided']} provided, {count['computed']} computed, {count['unpriced']} unpriced{_reasons(priced)}",
        f"{deviating} of {compared.height} comparable costs deviate by more than {_TOLERANCE:.0%}",
        f"{provided_usd:.4f} USD provided where {computed_usd:.4f} are computed",
        *(f"{finding.rule}: {finding.failed} of {finding.of}" for finding in findings[:_MOST_TOLD]),
    ]
    return Verdict(
        check="costs",
        severity="warning",
        passed=passed,
        message="; ".join(told),
        figures={
            **count,
            "comparable": compared.height,
            "deviating": deviating,
            "provided_usd": provided_usd,
            "computed_usd": computed_usd,
        },
        findings=findings,
    )


def _priced(rows: pl.DataFrame, computing: list[str], prices: PriceBook) -> pl.DataFrame:
    """The rows with what the price book says of them; nothing where their source declines it."""
    is_computing = pl.col("source").is_in(computing)
    provided, computed = pl.col("cost_usd").cast(pl.Float64), pl.col("computed_usd").cast(pl.Float64)
    gap = (provided - computed).abs()
    return (
        rows.select("source", "execution_id", "model", "cost_usd", "cost_source")
        .with_columns(estimate(rows, prices))
        .with_columns(
            computed_usd=pl.when(is_computing).then("computed_usd"),
            obstacle=pl.when(is_computing).then(pl.col("obstacle").cast(pl.String)).otherwise(pl.lit(_NOT_COMPUTED)),
        )
        .with_columns(is_deviating=(gap > _FLOOR_USD) & (gap > _TOLERANCE * computed))
    )


def _reasons(priced: pl.DataFrame) -> str:
    """Why executions are unpriced, and which models the price book does not know."""
    unpriced = priced.filter(pl.col("cost_source") == "unpriced")
    if unpriced.is_empty():
        return ""
    told = [
        f"{obstacle} {count}{_names(unpriced) if obstacle == 'unknown model' else ''}"
        for obstacle, count in _frequent(unpriced["obstacle"].fill_null(_KNOWN_BY_NOW))
    ]
    return f" ({', '.join(told)})"


def _names(unpriced: pl.DataFrame) -> str:
    models = [model for model, _ in _frequent(unpriced.filter(pl.col("obstacle") == "unknown model")["model"])]
    return f": {' and '.join(models[:_MOST_TOLD])}"


def _frequent(values: pl.Series) -> list[tuple[str, int]]:
    """Each value and how often it occurs, the most frequent first."""
    counted = values.alias("value").value_counts()
    return list(counted.sort("count", "value", descending=[True, False]).iter_rows())


def _findings(compared: pl.DataFrame) -> list[Finding]:
    """The models whose provided costs deviate, the most frequent first, with the ratio and executions to look at."""
    deviating = pl.col("is_deviating")
    by_model = compared.group_by("model").agg(
        pl.col("cost_usd", "computed_usd").filter(deviating).sum().cast(pl.Float64),
        deviating.sum().alias("failed"),
        pl.len().alias("of"),
        pl.col("execution_id").filter(deviating).sort().head(_MOST_EXAMPLES).alias("examples"),
    )
    return [
        Finding(rule=f"{model} {_compare(provided, computed)}", failed=failed, of=of, examples=examples)
        for model, provided, computed, failed, of, examples in by_model.filter(pl.col("failed") > 0)
        .sort("failed", "model", descending=[True, False])
        .iter_rows()
    ]


def _compare(provided: float, computed: float) -> str:
    ratio = f"{provided / computed:.2f} times the computed cost" if computed else "what is computed to cost nothing"
    return f"is provided at {ratio}"

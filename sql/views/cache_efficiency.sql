-- One row per UTC day, provider and model: how much of the input came from a cache, and what that saved at list price.
select
    metrics.day,
    metrics.provider,
    metrics.model,
    metrics.execution_count,
    metrics.metered_count,
    metrics.input_tokens,
    metrics.cache_read_tokens,
    metrics.cache_read_count,
    metrics.cache_read_tokens::double precision / nullif(metrics.input_tokens, 0) as cache_hit_rate_tokens,
    metrics.cache_read_count::double precision / nullif(metrics.metered_count, 0) as cache_hit_rate_runs,
    metrics.cache_saving_usd,
    metrics.cost_usd,
    ledger.published_at,
    agentmill.was_over(ledger.day, ledger.published_at) as is_final
from agentmill.model_metrics_daily as metrics
left join agentmill.load_ledger as ledger on ledger.table_name = 'model_metrics_daily' and ledger.day = metrics.day

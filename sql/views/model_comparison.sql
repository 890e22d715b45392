-- One row per provider and model over the last 30 days: `model_comparison(from_day, to_day)` tells another range.
select * from agentmill.model_comparison()

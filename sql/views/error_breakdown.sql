-- One row per failure (cluster) over the last 30 days, most frequent first: `error_breakdown(from_day, to_day)` tells others.
select * from agentmill.error_breakdown()

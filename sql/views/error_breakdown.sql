-- One row per failure (cluster) over the last 30 UTC days, most frequent first, with its share of all.
select * from agentmill.error_breakdown()

-- One row per agent and execution type over the last 30 days: what outcomes cost, and earn in credits.
select * from agentmill.pricing_insight()

-- One row per agent over the last 30 days, best first: shrunken success rate, then users, then the cost of a success.
select * from agentmill.agent_ranking()

-- One row per agent, and one for all: the last seven days that are over beside the seven before those.
select * from agentmill.week_over_week()

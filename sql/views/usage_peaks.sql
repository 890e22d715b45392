-- One row per weekday (1 is Monday) and hour of the reporting time zone over the last 28 days, empty hours included.
select * from agentmill.usage_peaks()

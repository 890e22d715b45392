-- The zone whose days and hours local views tell: set agentmill.timezone = 'Europe/Berlin'. UTC where it is not set.
create function agentmill.reporting_timezone() returns text
language sql stable parallel safe
return coalesce(nullif(current_setting('agentmill.timezone', true), ''), 'UTC');

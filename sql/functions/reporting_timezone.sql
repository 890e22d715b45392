-- The zone that local hours and weekdays are told in: `set agentmill.timezone = 'Europe/Berlin'`; UTC where it is not set.
create function agentmill.reporting_timezone() returns text
language sql stable parallel safe
return coalesce(nullif(current_setting('agentmill.timezone', true), ''), 'UTC');

-- Whether a UTC day was over at an instant, in whatever zone the session is. Null where the instant is.
create function agentmill.was_over(day date, at timestamptz) returns boolean
language sql immutable parallel safe
return at >= (day + 1)::timestamp at time zone 'UTC';

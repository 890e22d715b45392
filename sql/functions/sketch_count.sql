-- How many values a sketch holds. Null for a null sketch.
create function agentmill.sketch_count(sketch bigint[]) returns bigint
language sql immutable parallel safe
return (select sum(sketch[i])::bigint from generate_series(2, cardinality(sketch), 2) as i);

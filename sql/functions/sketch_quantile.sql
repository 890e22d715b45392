-- The value at rank 1 + floor(q * (n - 1)) of a sketch's n values, within 1 %. Null for no value, or q outside 0..1.
create function agentmill.sketch_quantile(sketch bigint[], q double precision) returns double precision
language plpgsql immutable parallel safe
as $$
declare
    gamma constant double precision := 1.01::double precision / 0.99::double precision;
    zero_bucket constant bigint := -1037; -- holds what is below 1e-9
    rank constant double precision := floor(q * (agentmill.sketch_count(sketch) - 1)::double precision);
    seen bigint := 0;
begin
    if rank is null or q not between 0 and 1 then
        return null;
    end if;
    for i in 1 .. cardinality(sketch) by 2 loop
        seen := seen + sketch[i + 1];
        if seen > rank then
            return case when sketch[i] = zero_bucket then 0 else 2 * gamma ^ sketch[i] / (gamma + 1) end;
        end if;
    end loop;
    return null; -- an empty sketch
end
$$;

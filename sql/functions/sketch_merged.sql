-- One sketch of many: what `sketch_merge` ends with. An array of arrays of any length needs a domain.
create domain agentmill.sketch as bigint[];

create function agentmill.sketch_merged(sketches agentmill.sketch[]) returns bigint[]
language sql immutable parallel safe
return (
    select array_agg(number order by bucket, place)
    from (
        select pair[i] as bucket, sum(pair[i + 1])::bigint as held
        from unnest(sketches) as pair, generate_series(1, cardinality(pair), 2) as i
        group by pair[i]
    ) as merged, unnest(array[bucket, held]) with ordinality as told (number, place)
);

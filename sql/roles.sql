-- Groups without login. Whoever reads the warehouse is made a member; `agentmill sql` reads as the analyst does.
do $$
begin
    if not exists (select from pg_roles where rolname = 'agentmill_analyst') then
        create role agentmill_analyst nologin;
    end if;
end
$$;
revoke all on schema agentmill_partitions, agentmill_staging from public;
grant usage on schema agentmill to agentmill_analyst;
grant select on all tables in schema agentmill to agentmill_analyst;

-- Groups without login; people and programs are made members. What each may do follows from the data dictionary.
-- Roles belong to the whole server, so another database's upgrade may make the same ones at this moment.
do $$
declare
    name text;
begin
    foreach name in array array['owner', 'loader', 'analyst', 'oncall', 'privacy'] loop
        if to_regrole('agentmill_' || name) is null then
            begin
                execute format('create role %I nologin', 'agentmill_' || name);
            exception when duplicate_object or unique_violation then null;
            end;
        end if;
    end loop;
    -- Whoever owns the schema may do what loaders do, and owns their tables through them.
    if not exists (
        select from pg_auth_members
        where roleid = 'agentmill_loader'::regrole and member = 'agentmill_owner'::regrole
    ) then
        grant agentmill_loader to agentmill_owner;
    end if;
exception when unique_violation then null;
end
$$

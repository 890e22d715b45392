-- Whether the reader may see rows of single users: members of the schema's owner and of the role agentmill_privacy.
create function agentmill.sees_single_users() returns boolean
language sql stable parallel safe
return exists (
    select
    from pg_catalog.pg_roles as role
    where pg_catalog.pg_has_role(current_user, role.oid, 'member') and (
        role.rolname = 'agentmill_privacy'
        or role.oid = (select nspowner from pg_catalog.pg_namespace where nspname = 'agentmill')
    )
);

-- How many users a group needs to be shown to readers who may not see single users. Without a policy no group is shown.
create function agentmill.minimum_group_size() returns bigint
language sql stable parallel safe security definer set search_path = ''
return coalesce((select minimum_group_size from agentmill.privacy_policy), 9223372036854775807);

-- The category and severity that a catalogue of generation failures knows, for a category of ours, which are finer.
--
-- Five categories are the same; whatever else happens is `unknown` there.
create function agentmill.generation_failure_kind(category text)
returns table (failure_category text, severity text)
language sql immutable parallel safe
begin atomic
    select
        coalesce(known.failure_category, 'unknown'),
        coalesce(known.severity, 'medium')
    from (select) as one
    left join (
        values
        ('ai_timeout', 'high'),
        ('rate_limit', 'medium'),
        ('validation_error', 'high'),
        ('dependency_error', 'medium'),
        ('syntax_error', 'medium')
    ) as known (failure_category, severity) on known.failure_category = generation_failure_kind.category;
end;

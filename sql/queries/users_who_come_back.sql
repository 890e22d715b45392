-- Do users who came in a week come back?
-- Asked by: leaders
-- Why: Whether the product is worth coming back to.
-- Read it: Week 0 is the first week. Weeks that are not complete will still grow; hidden rows are of few users.
select
    cohort_week, weeks_since, cohort_user_count, active_user_count, round(100 * active_share::numeric, 1) as active_pct,
    is_complete, is_hidden
from agentmill.user_retention_weekly
order by cohort_week, weeks_since

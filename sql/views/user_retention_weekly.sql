-- One row per week of first use and week since: how many of the users who came then are active. Weeks are UTC, from Monday.
-- Weeks that are not over yet are not complete. Active and inactive users are two cells of one group: both are hidden, and
-- null, where either is of few users, and where the cohort must be hidden among the cohorts.
with active_week as (
    select user_key, week, min(week) over (partition by user_key) as cohort_week
    from (
        select distinct user_key, day - extract(isodow from day)::integer + 1 as week
        from agentmill.user_activity_daily
    ) as activity
),

active as (
    select cohort_week, week, count(*) as user_count
    from active_week
    group by cohort_week, week
),

cohort_size as (
    select cohort_week, user_count
    from active
    where week = cohort_week
),

cohorts as (
    select
        array_agg(cohort_week order by cohort_week) as weeks,
        array_agg(user_count order by cohort_week) as user_counts
    from cohort_size
),

cohort as (
    select cohorts.weeks[told.cell] as cohort_week, cohorts.user_counts[told.cell] as user_count, told.is_hidden
    from cohorts
    cross join lateral agentmill.suppress_cells(cohorts.user_counts, (select agentmill.minimum_group_size())) as told
),

loaded as (
    select max(day) as last_day
    from agentmill.load_ledger
    where table_name = 'user_activity_daily'
),

triangle as (
    select
        cohort.cohort_week,
        cohort.user_count as cohort_user_count,
        cohort.is_hidden as is_cohort_hidden,
        cohort.cohort_week + 7 * since.week_count as week,
        since.week_count,
        coalesce(active.user_count, 0) as active_user_count,
        cohort.cohort_week + 7 * since.week_count + 6 <= loaded.last_day as is_complete
    from cohort
    cross join loaded
    cross join lateral generate_series(0, (loaded.last_day - cohort.cohort_week) / 7) as since (week_count)
    left join active on active.cohort_week = cohort.cohort_week and active.week = cohort.cohort_week + 7 * since.week_count
)

select
    triangle.cohort_week,
    triangle.week_count as weeks_since,
    triangle.week,
    case when not triangle.is_cohort_hidden then triangle.cohort_user_count end as cohort_user_count,
    case when not told.is_hidden then triangle.active_user_count end as active_user_count,
    case when not told.is_hidden then triangle.cohort_user_count - triangle.active_user_count end as inactive_user_count,
    case when not told.is_hidden then triangle.active_user_count::double precision / triangle.cohort_user_count end
        as active_share,
    triangle.is_complete,
    told.is_hidden,
    case when told.is_hidden then 2 else 0 end as hidden_cell_count
from triangle
cross join lateral (
    select triangle.is_cohort_hidden or bool_or(cell.is_hidden) as is_hidden
    from agentmill.suppress_cells(
        array[triangle.active_user_count, triangle.cohort_user_count - triangle.active_user_count],
        (select agentmill.minimum_group_size())
    ) as cell
) as told

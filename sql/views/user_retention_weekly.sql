-- One row per week of first use and week since: how many of the users who came then are active. Weeks are UTC, from Monday.
-- Active and inactive users are two cells of one group: both are hidden, and null, where either is of few users, and where
-- the cohort must be hidden among the cohorts. The active users of a week are one, too: `user_count` tells their total. Where
-- cells of it are hidden, the next larger ones are, until the hidden ones tell of no few users and do not give each other
-- away. A cohort's first week is its size: where that must be hidden, the cohort is.
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
    cross join lateral agentmill.suppress_cells(
        cohorts.user_counts, greatest((select agentmill.minimum_group_size()), 3)  -- of two, one and one are known
    ) as told
),

loaded as (
    select
        max(day) as last_day,
        max(published_at) as published_at,
        -- the first day that may still grow: who came then, and later, is not known for certain
        coalesce(min(day) filter (where not agentmill.was_over(day, published_at)), max(day) + 1) as open_from
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
        cohort.cohort_week + 7 * since.week_count + 6 < loaded.open_from as is_complete,
        loaded.published_at
    from cohort
    cross join loaded
    cross join lateral generate_series(0, (loaded.last_day - cohort.cohort_week) / 7) as since (week_count)
    left join active on active.cohort_week = cohort.cohort_week and active.week = cohort.cohort_week + 7 * since.week_count
),

small as (
    select triangle.*, triangle.is_cohort_hidden or told.is_hidden as is_hidden
    from triangle
    cross join lateral (
        select bool_or(cell.is_hidden) as is_hidden
        from agentmill.suppress_cells(
            array[triangle.active_user_count, triangle.cohort_user_count - triangle.active_user_count],
            (select agentmill.minimum_group_size())
        ) as cell
    ) as told
),

ranked as (
    select
        *,
        row_number() over next_to_hide as nth,
        sum(active_user_count) over next_to_hide as users_up_to_it,
        count(*) filter (where is_hidden) over (partition by week) as small_count
    from small
    window next_to_hide as (
        partition by week
        order by is_hidden desc, active_user_count = 0, week_count = 0, active_user_count, cohort_week
    )
),

of_week as (
    select
        week,
        coalesce(
            min(nth) filter (
                where nth >= small_count
                and (users_up_to_it = 0 or (nth >= 2 and users_up_to_it - nth >= (select agentmill.minimum_group_size())))
            ),
            count(*)
        ) as length
    from ranked
    where small_count > 0
    group by week
),

told as (
    select
        ranked.*,
        bool_or(ranked.is_cohort_hidden or (ranked.week_count = 0 and coalesce(ranked.nth <= of_week.length, false)))
            over (partition by ranked.cohort_week) as is_size_hidden,
        coalesce(ranked.nth <= of_week.length, false) as is_week_hidden
    from ranked
    left join of_week using (week)
)

select
    cohort_week,
    week_count as weeks_since,
    week,
    case when not is_size_hidden then cohort_user_count end as cohort_user_count,
    case when not hidden.is_hidden then active_user_count end as active_user_count,
    case when not hidden.is_hidden then cohort_user_count - active_user_count end as inactive_user_count,
    case when not hidden.is_hidden then active_user_count::double precision / cohort_user_count end as active_share,
    is_complete,
    hidden.is_hidden,
    case when hidden.is_hidden then 2 else 0 end as hidden_cell_count,
    published_at
from told
cross join lateral (select told.is_size_hidden or told.is_week_hidden as is_hidden) as hidden

-- One row per cell of a group whose total is shown: whether the cell must be hidden so that no total gives it away.
--
-- Cells of 1 to minimum - 1 users are hidden, and with them the next larger ones, until the hidden cells are two at least
-- and hold `minimum` users beside one in each, so that the total less the shown cells tells of no fewer and leaves several
-- ways to share them out. Zeros are no people: they are shown and do not count. A total that is too small for that hides
-- everything, itself included. Where users may be in several cells (`overlapping`), sums
-- tell nothing of people: then one of the hidden cells holds `minimum` users by itself.
-- Complementary cell suppression, one-dimensional: Hundepool et al., Statistical Disclosure Control (2012), chapter 4.
create function agentmill.suppress_cells(user_counts bigint[], minimum bigint, overlapping boolean default false)
returns table (cell bigint, is_hidden boolean, hidden_cell_count bigint, is_total_hidden boolean)
language sql immutable parallel safe
begin atomic
    with ranked as (
        select
            told.cell,
            told.user_count,
            row_number() over smallest_first as nth,
            sum(told.user_count) over smallest_first as users_up_to_it,
            count(*) filter (where told.user_count < minimum) over () as small_count
        from unnest(user_counts) with ordinality as told (user_count, cell)
        where told.user_count > 0
        window smallest_first as (order by told.user_count, told.cell)
    ),

    prefix as (
        select
            -- null where not even all cells together are enough
            min(nth) filter (
                where nth >= small_count
                and case when overlapping then user_count else users_up_to_it - nth end >= minimum
            ) as length,
            count(*) as cell_count,
            coalesce(max(small_count), 0) > 0 as is_needed
        from ranked
    )

    select
        told.cell,
        coalesce(prefix.is_needed and (ranked.nth <= prefix.length or prefix.length is null), false),
        case when prefix.is_needed then coalesce(prefix.length, cardinality(user_counts)) else 0 end,
        prefix.is_needed and prefix.length is null
    from unnest(user_counts) with ordinality as told (user_count, cell)
    cross join prefix
    left join ranked using (cell);
end;

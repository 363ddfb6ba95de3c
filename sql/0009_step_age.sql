-- oldest-code: 8

-- claim_3 that also tells of a call in its AI step for how many seconds it has been there, as of this generation.
create function claim_4(
    me text, ids text[], creates boolean[], may_take_stale boolean, lease float8, first_wake float8
)
returns table (
    call_no bigint, call_id text, is_mine boolean, epoch bigint, state text, version bigint, generation integer,
    attempt integer, attempt_running boolean, crashes integer, wake_in float8, streams jsonb, packets bigint,
    late bigint, duplicates bigint, end_reason text, tail_streams text[], tail_sequences bigint[], is_erased boolean,
    legs jsonb, idle float8, age float8, step_age float8
) language sql as $$
    select c.*, case when c.state = 'PROCESSING_AI' then extract(epoch from clock_timestamp() - (
        select e.at from call_events e
        where e.call_no = c.call_no and e.kind = 'transition' and e.to_state = 'PROCESSING_AI'
        order by e.version desc limit 1
    ))::float8 end
    from claim_3(me, ids, creates, may_take_stale, lease, first_wake) c
$$;

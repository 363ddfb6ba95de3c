-- oldest-code: 8

-- Whether other servers reach the node over NATS, as of its heartbeat; what they send it waits in vain otherwise.
alter table nodes add is_routed boolean not null default false;

-- claim_4 that takes none of `spares` from a living server.
create function claim_5(
    me text, ids text[], creates boolean[], spares text[], may_take_stale boolean, lease float8,
    first_wake float8
)
returns table (
    call_no bigint, call_id text, is_mine boolean, epoch bigint, state text, version bigint, generation integer,
    attempt integer, attempt_running boolean, crashes integer, wake_in float8, streams jsonb, packets bigint,
    late bigint, duplicates bigint, end_reason text, tail_streams text[], tail_sequences bigint[], is_erased boolean,
    legs jsonb, idle float8, age float8, step_age float8
) language plpgsql as $$
#variable_conflict use_column
declare
    fresh bigint[];
    locked bigint[];
    taken bigint[];
    at timestamptz := clock_timestamp();
begin
    with made as (
        insert into calls (call_id, owner, wake_at)
        select u.id, me, at + make_interval(secs => first_wake) from unnest(ids, creates) u (id, is_new)
        where u.is_new and not exists (select from calls c where c.call_id = u.id)
        order by u.id collate "C"
        on conflict do nothing
        returning call_no, call_id
    ), told as (
        insert into call_events (call_no, version, call_id, kind, to_state, attempt, detail)
        select m.call_no, 1, m.call_id, 'transition', 'IN_PROGRESS', 0, '{}' from made m
    )
    select coalesce(array_agg(m.call_no), '{}') into fresh from made m;

    select coalesce(array_agg(l.call_no), '{}') into locked from (
        select c.call_no from calls c where c.call_id = any (ids) order by c.call_id for no key update
    ) l;

    with mine as (
        update calls c set epoch = c.epoch + 1, owner = me
        where c.call_no = any (array(select unnest(locked) except select unnest(fresh))) and c.erased_at is null and (
            c.owner is null or c.owner = me
            or c.state in ('IN_PROGRESS', 'COMPLETED') and c.call_id <> all (spares)
            or not exists (select from nodes n where n.node = c.owner)
            or (may_take_stale and not is_alive_1(c.owner, lease))
        )
        returning c.call_no
    )
    select fresh || coalesce(array_agg(m.call_no), '{}') into taken from mine m;

    return query
    select c.call_no, c.call_id, c.call_no = any (taken), c.epoch, c.state, c.version, c.generation,
        c.attempt, c.attempt_running, c.crashes, extract(epoch from c.wake_at - clock_timestamp())::float8, c.streams,
        c.packets, c.late, c.duplicates, c.end_reason, t.streams, t.sequences, c.erased_at is not null, c.legs,
        case when c.call_no = any (fresh) then 0 else extract(epoch from clock_timestamp() - greatest(
            c.started_at, c.last_packet_at, last_received_1(c.call_no, t.streams, t.sequences)
        )) end::float8,
        extract(epoch from clock_timestamp() - c.started_at)::float8,
        case when c.state = 'PROCESSING_AI' then (
            select extract(epoch from clock_timestamp() - e.at) from call_events e
            where e.call_no = c.call_no and e.kind = 'transition' and e.to_state = 'PROCESSING_AI'
            order by e.version desc limit 1
        ) end::float8
    from calls c cross join lateral tail_1(c.call_no, case when c.erased_at is null then c.streams end) t
    where c.call_no = any (locked);
end $$;

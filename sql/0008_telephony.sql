-- oldest-code: 8

-- What a packet holds; null is media, as nearly all do.
alter table packets add kind text;
alter table packets alter kind set statistics 0;

-- What vendors' streams and callbacks have told; streaming while the connection of one is open on the owner.
alter table calls
    add legs jsonb not null default '{}',
    add streaming boolean not null default false;
alter table calls alter legs set statistics 0;
create index calls_streaming on calls (call_no) where streaming;

-- From now on a call in progress has a wake_at too: when to look whether it is still going on.
update calls set wake_at = clock_timestamp() + interval '1 hour'
where finished_at is null and state = 'IN_PROGRESS' and wake_at is null;

-- claim_2 that gives new calls a wake_at, first_wake seconds from now, and tells what the streams have told; idle are the
-- seconds since the last packet or the start, age those since the start.
create function claim_3(
    me text, ids text[], creates boolean[], may_take_stale boolean, lease float8, first_wake float8
)
returns table (
    call_no bigint, call_id text, is_mine boolean, epoch bigint, state text, version bigint, generation integer,
    attempt integer, attempt_running boolean, crashes integer, wake_in float8, streams jsonb, packets bigint,
    late bigint, duplicates bigint, end_reason text, tail_streams text[], tail_sequences bigint[], is_erased boolean,
    legs jsonb, idle float8, age float8
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
            c.owner is null or c.owner = me or c.state in ('IN_PROGRESS', 'COMPLETED')
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
        extract(epoch from clock_timestamp() - c.started_at)::float8
    from calls c cross join lateral tail_1(c.call_no, case when c.erased_at is null then c.streams end) t
    where c.call_no = any (locked);
end $$;

-- When the last of those packets arrived.
create function last_received_1(the_call bigint, the_streams text[], the_sequences bigint[])
returns timestamptz language sql stable as $$
    select max((
        select p.received_at from packets p
        where p.call_no = the_call and p.stream = t.stream collate "C" and p.sequence = t.sequence
    )) from unnest(the_streams, the_sequences) t (stream, sequence)
$$;

-- flush_2 with the kinds of the packets (null: all are media), with what the streams have told, and with rows that wake
-- anew without an event.
create function flush_3(
    me text, nos bigint[], epochs bigint[],
    s_no bigint[], s_stream text[], s_first bigint[], s_count bigint[],
    p_timestamp float8[], p_data text[], p_kind text[],
    r_no bigint[], r_stream text[], r_sequence bigint[], r_data text[],
    rows jsonb, events jsonb,
    out fenced bigint[], out conflicts bigint[], out repeat_conflicts bigint[]
) language plpgsql as $$
declare
    held bigint[];
    is_whole boolean;
    p_no bigint[];
    p_stream text[];
    p_sequence bigint[];
begin
    select coalesce(array_agg(l.call_no), '{}') into held from (
        select c.call_no from unnest(nos, epochs) b (call_no, epoch) join calls c on c.call_no = b.call_no
        where c.epoch = b.epoch and c.owner = me
        order by c.call_id for no key update of c
    ) l;
    is_whole := cardinality(held) = cardinality(nos);
    if not is_whole then
        fenced := array(select unnest(nos) except select unnest(held));
    end if;

    if cardinality(s_no) > 0 then
        select array_agg(r.no), array_agg(r.stream), array_agg(r.sequence) into p_no, p_stream, p_sequence from (
            select s.no, s.stream, s.first + g.n as sequence
            from unnest(s_no, s_stream, s_first, s_count) with ordinality s (no, stream, first, count, place)
            cross join lateral generate_series(0, s.count - 1) g (n)
            order by s.place, g.n
        ) r;
        begin
            insert into packets (call_no, stream, sequence, timestamp, data, kind)
            select p.* from unnest(p_no, p_stream, p_sequence, p_timestamp, p_data, p_kind)
                p (call_no, stream, sequence, timestamp, data, kind)
            where is_whole or p.call_no = any (held);
        exception when unique_violation then
            insert into packets (call_no, stream, sequence, timestamp, data, kind)
            select p.* from unnest(p_no, p_stream, p_sequence, p_timestamp, p_data, p_kind)
                p (call_no, stream, sequence, timestamp, data, kind)
            where is_whole or p.call_no = any (held)
            on conflict do nothing;
            conflicts := stored_otherwise_1(p_no, p_stream, p_sequence, p_data);
        end;
    end if;
    if cardinality(r_no) > 0 then
        repeat_conflicts := stored_otherwise_1(r_no, r_stream, r_sequence, r_data);
    end if;

    if rows is not null then
        update calls c set
            state = r.state, version = r.version, generation = r.generation, attempt = r.attempt,
            attempt_running = r.attempt_running, crashes = r.crashes, streams = r.streams, packets = r.packets,
            late = r.late, duplicates = r.duplicates, end_reason = r.end_reason, legs = r.legs,
            streaming = r.streaming,
            wake_at = case when r.version > c.version or r.wakes_anew
                then clock_timestamp() + make_interval(secs => r.wake_in) else c.wake_at end,
            last_packet_at = case when r.packets > c.packets
                then last_packet_at_1(c.call_no, r.streams) else c.last_packet_at end,
            completed_at = case when r.state <> 'IN_PROGRESS' then coalesce(c.completed_at, clock_timestamp()) end,
            finished_at = case when r.state in ('ARCHIVED', 'FAILED')
                then coalesce(c.finished_at, clock_timestamp()) end,
            metadata = c.metadata || coalesce(r.metadata, '{}'),
            result = coalesce(r.result, c.result),
            last_error = coalesce(r.last_error, c.last_error),
            owner = case when r.released then null else c.owner end
        from jsonb_to_recordset(rows) as r (
            call_no bigint, state text, version bigint, generation integer, attempt integer, attempt_running boolean,
            crashes integer, wake_in float8, wakes_anew boolean, streams jsonb, packets bigint, late bigint,
            duplicates bigint, end_reason text, legs jsonb, streaming boolean, metadata jsonb, result jsonb,
            last_error jsonb, released boolean
        )
        where c.call_no = r.call_no and c.call_no = any (held) and r.version >= c.version and r.packets >= c.packets;
    end if;

    if events is not null then
        insert into call_events (call_no, version, call_id, kind, from_state, to_state, attempt, detail)
        select e.* from jsonb_to_recordset(events) as e (
            call_no bigint, version bigint, call_id text, kind text, from_state text, to_state text,
            attempt integer, detail jsonb
        )
        where e.call_no = any (held)
        on conflict do nothing;
    end if;
end $$;

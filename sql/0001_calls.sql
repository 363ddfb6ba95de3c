-- oldest-code: 1

create table calls (
    call_no bigint generated always as identity primary key,
    call_id text collate "C" not null unique,
    state text not null default 'IN_PROGRESS',
    version bigint not null default 1,
    owner text,
    epoch bigint not null default 1,
    generation integer not null default 1,
    attempt integer not null default 0,
    attempt_running boolean not null default false,
    crashes integer not null default 0,
    wake_at timestamptz,
    -- {"<stream>": {"last": highest sequence, "missing": [[first, last], ...]}}: committed packets, never more
    streams jsonb not null default '{}',
    packets bigint not null default 0,
    late bigint not null default 0,
    duplicates bigint not null default 0,
    started_at timestamptz not null default now(),
    last_packet_at timestamptz,
    completed_at timestamptz,
    finished_at timestamptz,
    end_reason text,
    metadata jsonb not null default '{}',
    result jsonb,
    last_error jsonb
) with (fillfactor = 60, autovacuum_vacuum_scale_factor = 0.02);

create index calls_wake_at on calls (wake_at, call_no) where wake_at is not null;
create index calls_attempt_running on calls (call_no) where attempt_running;

-- No foreign key: the lock on the call's row guards it, and the check would take a weaker lock for each packet.
create table packets (
    call_no bigint not null,
    sequence bigint not null,
    timestamp double precision not null,
    received_at timestamptz not null default now(),
    stream text collate "C" not null,
    data text not null,
    primary key (call_no, stream, sequence)
);

create table call_events (
    event_id bigint generated always as identity primary key,
    xid xid8 not null default pg_current_xact_id(),
    call_no bigint not null,
    version bigint not null,
    call_id text collate "C" not null,
    kind text not null,
    from_state text,
    to_state text not null,
    attempt integer not null,
    at timestamptz not null default clock_timestamp(),
    detail jsonb not null,
    unique (call_no, version)
);

create index call_events_log on call_events (xid, event_id);

create table nodes (
    node text collate "C" primary key,
    heartbeat_at timestamptz not null
);

-- One row: which log the cursors that clients hold belong to.
create table event_log (
    log_id uuid not null,
    system_identifier bigint not null,
    timeline integer not null
);

create function is_alive_1(the_node text, lease float8) returns boolean language sql stable as $$
    select exists (
        select from nodes n where n.node = the_node and n.heartbeat_at > clock_timestamp() - make_interval(secs => lease)
    )
$$;

-- Take ownership of calls, making those that do not exist where creates says so, and return them as stored.
-- The row lock makes this wait for a flush in flight, and each statement here sees what the one before waited for.
-- A call whose AI step belongs to a living node is returned, but not taken. One that is made by another node while
-- this runs is not returned: what is answered is what was locked.
create function claim_1(me text, ids text[], creates boolean[], may_take_stale boolean, lease float8)
returns table (
    call_no bigint, call_id text, is_mine boolean, epoch bigint, state text, version bigint, generation integer,
    attempt integer, attempt_running boolean, crashes integer, wake_in float8, streams jsonb, packets bigint,
    late bigint, duplicates bigint, end_reason text, tail_streams text[], tail_sequences bigint[]
) language plpgsql as $$
#variable_conflict use_column
declare
    fresh bigint[];
    locked bigint[];
    taken bigint[];
begin
    with made as (
        insert into calls (call_id, owner)
        select u.id, me from unnest(ids, creates) u (id, is_new)
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
        where c.call_no = any (array(select unnest(locked) except select unnest(fresh))) and (
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
        c.packets, c.late, c.duplicates, c.end_reason, t.streams, t.sequences
    from calls c cross join lateral tail_1(c.call_no, c.streams) t
    where c.call_no = any (locked);
end $$;

-- The packets of a call that were committed after its streams were last written, in order of sequence.
create function tail_1(the_call bigint, checkpoint jsonb, out streams text[], out sequences bigint[])
language sql stable as $$
    select array_agg(found.stream order by found.sequence), array_agg(found.sequence order by found.sequence)
    from jsonb_each(checkpoint) s (stream, state) cross join lateral (
        select p.stream, p.sequence from packets p
        where p.call_no = the_call and p.stream = s.stream and p.sequence > (s.state->>'last')::bigint
        union all
        select p.stream, p.sequence
        from jsonb_array_elements(s.state->'missing') gap
        cross join lateral (
            select p.stream, p.sequence from packets p
            where p.call_no = the_call and p.stream = s.stream
                and p.sequence between (gap->>0)::bigint and (gap->>1)::bigint
            offset 0  -- a range of the key for each gap, never a join with the whole stream
        ) p
    ) found
$$;

-- Group commit. Everything belongs to calls whose lock and epoch hold; the rest is told as fenced and left out.
-- Absolute values and on-conflict-do-nothing make a second run of the same batch harmless, and an older run that
-- ends late cannot turn a call back. conflicts and repeat_conflicts are positions (from 1) of packets that are
-- stored with other data.
create function flush_1(
    me text, nos bigint[], epochs bigint[],
    p_no bigint[], p_stream text[], p_sequence bigint[], p_timestamp float8[], p_data text[],
    r_no bigint[], r_stream text[], r_sequence bigint[], r_data text[],
    rows jsonb, events jsonb,
    out fenced bigint[], out conflicts bigint[], out repeat_conflicts bigint[]
) language plpgsql as $$
declare
    held bigint[];
    is_whole boolean;
    inserted bigint;
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

    if cardinality(p_no) > 0 then
        insert into packets (call_no, stream, sequence, timestamp, data)
        select p.* from unnest(p_no, p_stream, p_sequence, p_timestamp, p_data) p (call_no, stream, sequence, timestamp, data)
        where is_whole or p.call_no = any (held)
        on conflict do nothing;
        get diagnostics inserted = row_count;
        if inserted < cardinality(p_no) then
            conflicts := stored_otherwise_1(p_no, p_stream, p_sequence, p_data);
        end if;
    end if;
    if cardinality(r_no) > 0 then
        repeat_conflicts := stored_otherwise_1(r_no, r_stream, r_sequence, r_data);
    end if;

    if rows is not null then
        update calls c set
            state = r.state, version = r.version, generation = r.generation, attempt = r.attempt,
            attempt_running = r.attempt_running, crashes = r.crashes, streams = r.streams, packets = r.packets,
            late = r.late, duplicates = r.duplicates, end_reason = r.end_reason,
            wake_at = case when r.version > c.version
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
            crashes integer, wake_in float8, streams jsonb, packets bigint, late bigint, duplicates bigint,
            end_reason text, metadata jsonb, result jsonb, last_error jsonb, released boolean
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

-- When the highest packet of a stream arrived, the latest of all streams. Here and below a subquery looks up each
-- packet by its key; a planner that is free to join reads all of a call's packets.
create function last_packet_at_1(the_call bigint, checkpoint jsonb) returns timestamptz language sql stable as $$
    select max((
        select p.received_at from packets p
        where p.call_no = the_call and p.stream = s.stream and p.sequence = (s.state->>'last')::bigint
    )) from jsonb_each(checkpoint) s (stream, state)
$$;

create function stored_otherwise_1(nos bigint[], streams text[], sequences bigint[], datas text[])
returns bigint[] language sql stable as $$
    select array_agg(o.position) from unnest(nos, streams, sequences, datas)
        with ordinality o (call_no, stream, sequence, data, position)
    where (
        select p.data from packets p
        where p.call_no = o.call_no and p.stream = o.stream collate "C" and p.sequence = o.sequence
    ) is distinct from o.data
$$;

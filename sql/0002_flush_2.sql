-- oldest-code: 1

-- flush_1 with packets as runs and a plain insert. A run is s_count packets of a stream whose sequences follow each other
-- from s_first on: only what differs from packet to packet is sent for each, its timestamp and its data, in the order of
-- the runs. The plain insert costs two thirds: what is there already, after a commit of unknown outcome, takes the slow
-- way. The rest is the same: everything belongs to calls whose lock and epoch hold, the rest is told as fenced and left
-- out; absolute values make a second run of the same batch harmless, and an older run that ends late cannot turn a call
-- back. conflicts and repeat_conflicts are positions (from 1) of packets that are stored with other data.
create function flush_2(
    me text, nos bigint[], epochs bigint[],
    s_no bigint[], s_stream text[], s_first bigint[], s_count bigint[], p_timestamp float8[], p_data text[],
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
            insert into packets (call_no, stream, sequence, timestamp, data)
            select p.* from unnest(p_no, p_stream, p_sequence, p_timestamp, p_data)
                p (call_no, stream, sequence, timestamp, data)
            where is_whole or p.call_no = any (held);
        exception when unique_violation then
            insert into packets (call_no, stream, sequence, timestamp, data)
            select p.* from unnest(p_no, p_stream, p_sequence, p_timestamp, p_data)
                p (call_no, stream, sequence, timestamp, data)
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

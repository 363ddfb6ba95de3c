-- oldest-code: 1

-- Nobody owns a call that is erased, ever again. From its wake_at on what is stored of it waits to be deleted; when that
-- is done, it is null.
alter table calls add erased_at timestamptz;

-- The last event, in the order of the log, that was deleted: who has not come that far has missed some.
alter table event_log
    add purged_xid xid8 not null default '0',
    add purged_event_id bigint not null default 0;

-- What was sent is not to live on in the planner's statistics: those that there are go with the type, which stays.
alter table packets
    alter data type text, alter data set statistics 0,
    alter stream set statistics 0;
alter table call_events alter detail type jsonb, alter detail set statistics 0;
alter table calls
    alter metadata type jsonb, alter metadata set statistics 0,
    alter result type jsonb, alter result set statistics 0,
    alter last_error type jsonb, alter last_error set statistics 0,
    alter streams type jsonb, alter streams set statistics 0;

-- claim_1, but for calls that are erased: they are told, and never taken.
create function claim_2(me text, ids text[], creates boolean[], may_take_stale boolean, lease float8)
returns table (
    call_no bigint, call_id text, is_mine boolean, epoch bigint, state text, version bigint, generation integer,
    attempt integer, attempt_running boolean, crashes integer, wake_in float8, streams jsonb, packets bigint,
    late bigint, duplicates bigint, end_reason text, tail_streams text[], tail_sequences bigint[], is_erased boolean
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
        c.packets, c.late, c.duplicates, c.end_reason, t.streams, t.sequences, c.erased_at is not null
    from calls c cross join lateral tail_1(c.call_no, case when c.erased_at is null then c.streams end) t
    where c.call_no = any (locked);
end $$;

-- For code that knows of no erasure: to it such a call has ended, is without packets, and is another's.
create or replace function claim_1(me text, ids text[], creates boolean[], may_take_stale boolean, lease float8)
returns table (
    call_no bigint, call_id text, is_mine boolean, epoch bigint, state text, version bigint, generation integer,
    attempt integer, attempt_running boolean, crashes integer, wake_in float8, streams jsonb, packets bigint,
    late bigint, duplicates bigint, end_reason text, tail_streams text[], tail_sequences bigint[]
) language sql as $$
    select c.call_no, c.call_id, c.is_mine, c.epoch, c.state, c.version, c.generation, c.attempt, c.attempt_running,
        c.crashes, c.wake_in, c.streams, c.packets, c.late, c.duplicates, c.end_reason, c.tail_streams, c.tail_sequences
    from claim_2(me, ids, creates, may_take_stale, lease) c
$$;

-- Delete calls that ended before a time, and all that is stored of them: the oldest behind a place, the end and the number
-- of a call; place_at and place_no are where to go on, if has_found. Those that others hold are left to them, those that
-- the feeds cannot have read yet and those that are being scrubbed to a later run. One that has more packets than a batch
-- takes loses some, and is marked as if it had been erased long ago: scrub it, and it goes with the next batch. A full disk
-- may have no room for the mark; then it loses some in each batch.
create function purge_1(
    ended_before timestamptz, after_at timestamptz, after_no bigint, most_calls integer, most_packets integer,
    out purged integer, out to_scrub bigint[], out has_found boolean, out place_at timestamptz, out place_no bigint
) language plpgsql as $$
declare
    horizon xid8 := pg_snapshot_xmin(pg_current_snapshot());
    found bigint[];
    rest bigint[];
    deleted bigint;
begin
    select coalesce(array_agg(o.call_no order by o.place), '{}'), max(o.finished_at) into found, place_at from (
        select c.call_no, c.finished_at, row_number() over old as place, sum(c.packets) over old as packets from (
            select c.call_no, c.finished_at, c.packets from calls c
            where c.finished_at is not null and c.finished_at < ended_before
                and (c.finished_at, c.call_no) > (coalesce(after_at, '-infinity'), after_no)
                and (c.erased_at is null or (c.erased_at < ended_before and c.wake_at is null))
                and (select bool_and(e.xid < horizon) from call_events e where e.call_no = c.call_no) is not false
            order by c.finished_at, c.call_no limit most_calls
        ) c window old as (order by c.finished_at, c.call_no)
    ) o where o.place = 1 or o.packets <= most_packets;
    place_no := found[cardinality(found)];
    has_found := place_no is not null;

    found := array(
        select c.call_no from calls c
        where c.call_no = any (found) and c.finished_at < ended_before
            and (c.erased_at is null or (c.erased_at < ended_before and c.wake_at is null))
        for update skip locked
    );
    delete from packets p where p.ctid = any (array(
        select q.ctid from unnest(found) f (call_no) cross join lateral (
            select p.ctid from packets p where p.call_no = f.call_no order by p.stream, p.sequence limit most_packets
        ) q limit most_packets
    ));
    get diagnostics deleted = row_count;
    rest := array(
        select f.call_no from unnest(found) f (call_no)
        where deleted >= most_packets
            and (select true from packets p where p.call_no = f.call_no order by p.stream, p.sequence limit 1)
    );
    to_scrub := '{}';
    if cardinality(rest) > 0 then
        place_at := after_at;
        place_no := after_no;
        begin
            update calls c set erased_at = c.finished_at, wake_at = clock_timestamp(), epoch = c.epoch + 1, owner = null,
                streams = '{}', packets = 0, metadata = '{}', result = null, last_error = null
            where c.call_no = any (rest);
            to_scrub := rest;
        exception when disk_full then
            null;
        end;
    end if;

    found := array(select unnest(found) except select unnest(rest));
    purged := cardinality(found);
    -- Before the events are locked: whoever gives the log a new identity locks in this order too.
    update event_log l set purged_xid = n.xid, purged_event_id = n.event_id from (
        select e.xid, e.event_id from (
            select e.xid, e.event_id from call_events e where e.call_no = any (found) offset 0
        ) e order by e.xid desc, e.event_id desc limit 1
    ) n where (l.purged_xid, l.purged_event_id) < (n.xid, n.event_id);
    delete from call_events e where e.call_no = any (found);
    delete from calls c where c.call_no = any (found);
end $$;

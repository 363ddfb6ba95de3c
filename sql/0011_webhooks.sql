-- oldest-code: 8

-- Before anything else: who is at a call and its events has ended then, and waits for neither of them in turn.
lock table calls in exclusive mode;

create table webhook_endpoints (
    endpoint_id text collate "C" primary key,
    url text not null,
    events text[] not null,
    -- Readable, since it signs. The one before it signs too until its time is over.
    secret text not null,
    old_secret text,
    old_secret_ends_at timestamptz,
    note text not null default '',
    created_at timestamptz not null default clock_timestamp(),
    paused_until timestamptz, -- it asked to be left alone so long
    disabled_at timestamptz,
    disabled_reason text
);
alter table webhook_endpoints alter secret set statistics 0, alter old_secret set statistics 0;

-- One transition of a call that one endpoint is to be told. What it is told stands in the transition's event. There is
-- no foreign key to the endpoint: each commit would lock its row, and one that is deleted would make commits fail.
create table deliveries (
    call_no bigint not null references calls on delete cascade,
    version bigint not null,
    endpoint_id text collate "C" not null,
    message_id text collate "C" not null, -- the webhook-id, the same for all endpoints and attempts
    made_at timestamptz not null default clock_timestamp(),
    due_at timestamptz default clock_timestamp(), -- while an attempt runs, when it counts as lost; null: there is none
    attempts integer not null default 0,
    attempted_at timestamptz,
    delivered_at timestamptz,
    answer text, -- to the last attempt
    primary key (call_no, version, endpoint_id)
) with (autovacuum_vacuum_scale_factor = 0.02);

create index deliveries_due on deliveries (endpoint_id, due_at);
create index deliveries_message on deliveries (message_id);
create index deliveries_undelivered on deliveries (made_at) where delivered_at is null;

-- Whoever writes the events, code that knows of no webhooks too, and once: an event that is there already is not among
-- those told. Once a statement, since most of what it costs is to be called.
create function add_deliveries_1() returns trigger language plpgsql as $$
begin
    if exists (select from webhook_endpoints) then
        with ended as materialized (  -- so that a message has one id
            select t.call_no, t.version, 'call.' || lower(t.to_state) as event,
                'msg_' || replace(gen_random_uuid()::text, '-', '') as message_id
            from told t where t.kind = 'transition' and t.to_state in ('ARCHIVED', 'FAILED')
        )
        insert into deliveries (call_no, version, endpoint_id, message_id)
        select n.call_no, n.version, e.endpoint_id, n.message_id from ended n cross join webhook_endpoints e
        where e.disabled_at is null and n.event = any (e.events);
    end if;
    return null;
end
$$;

create trigger deliveries_added after insert on call_events referencing new table as told for each statement
execute function add_deliveries_1();

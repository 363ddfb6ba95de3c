-- oldest-code: 1

-- For the read side. None is on a column that changes while a call is live.
create index calls_started_at on calls (started_at, call_no);
create index calls_live on calls (started_at, call_no) where finished_at is null;
create index calls_finished_at on calls (finished_at, call_no) where finished_at is not null;

-- Packets per second that the node stored lately, as of its heartbeat.
alter table nodes add packet_rate double precision not null default 0;

-- oldest-code: 1

-- Where the log lies: a dump that is restored, or a database that is copied, comes to lie elsewhere. Old code leaves
-- it empty, which is nowhere.
alter table event_log add place text not null default '';
update event_log set place = (select oid from pg_database where datname = current_database()) || '/'
    || 'call_events'::regclass::oid;

-- oldest-code: 1

create table api_keys (
    key_id text collate "C" primary key,
    digest bytea not null, -- SHA-256 of the secret, which nobody keeps
    scopes text[] not null,
    prefix text collate "C" not null default '', -- of the ids of the calls that it opens
    note text not null default '',
    created_at timestamptz not null default clock_timestamp(),
    expires_at timestamptz,
    revoked_at timestamptz
);

create table audit (
    audit_id bigint generated always as identity primary key,
    at timestamptz not null default clock_timestamp(),
    actor text not null, -- a key's id, or who worked at the command line
    action text not null,
    call_id text,
    detail jsonb not null default '{}'
);

create function refuse_1() returns trigger language plpgsql as $$
begin
    raise exception 'the audit is only added to' using errcode = 'insufficient_privilege';
end
$$;

create trigger audit_stays before update or delete or truncate on audit execute function refuse_1();

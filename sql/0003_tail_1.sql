-- oldest-code: 1

-- The packets of a call that were committed after its streams were last written, in order of sequence. The stream ""
-- is looked up even if it was never written: nearly every call has no other, and its first packet writes no row.
create or replace function tail_1(the_call bigint, checkpoint jsonb, out streams text[], out sequences bigint[])
language sql stable as $$
    select array_agg(found.stream order by found.sequence), array_agg(found.sequence order by found.sequence)
    from jsonb_each('{"": {"last": -1, "missing": []}}' || checkpoint) s (stream, state) cross join lateral (
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

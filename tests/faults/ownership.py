"""Who has the calls of a cluster: read from its rows, and every row that there was kept by a trigger."""

from collections.abc import Sequence
from typing import Final

from tests.acceptance.history import Sql
from tests.faults.evidence import Claim

_OWNED: Final = "select call_id, owner from calls where owner is not null and state = 'IN_PROGRESS'"
_JOINED: Final = (
    "select count(*) from nodes where is_routed and heartbeat_at > clock_timestamp() - interval '2 seconds'"
)
_KEEP: Final = """
create table seen (
    number bigint generated always as identity, call_id text, epoch bigint, version bigint, owner text
);
create function see() returns trigger language plpgsql as $$ begin
    insert into seen (call_id, epoch, version, owner) values (new.call_id, new.epoch, new.version, new.owner);
    return null;
end $$;
create trigger see after insert or update of epoch, version, owner on calls
for each row execute function see();
"""
_KEPT: Final = "select call_id, epoch, version, owner from seen order by number"


async def keep_claims(sql: Sql) -> None:
    """Keep each row of a call from now on, in the order of the commits."""
    await sql.execute(_KEEP)


async def read_claims(sql: Sql) -> list[Claim]:
    """Return what was kept."""
    return [Claim(*row) for row in await sql.fetch(_KEPT)]


async def read_owners(sql: Sql, nodes: Sequence[str]) -> dict[str, int]:
    """Return the calls in progress that *nodes* have, each with its node's place among them."""
    owners = {row["call_id"]: row["owner"].partition("/")[0] for row in await sql.fetch(_OWNED)}
    return {call_id: nodes.index(owner) for call_id, owner in owners.items() if owner in nodes}


async def count_joined(sql: Sql) -> int:
    """Return how many servers live and are reached by the others."""
    joined: int = await sql.fetchval(_JOINED)
    return joined

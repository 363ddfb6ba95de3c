"""NATS servers as docs/nats.conf sets them up, with certificates, and with credentials of a user."""

import base64
import json
import os
from asyncio import gather
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import nkeys  # type: ignore[import-untyped]
from trustme import CA

from callactors.cluster import NatsOptions
from tests.cluster_scenes import Nats
from tests.pages import ROOT

PASSWORD: Final = "s3cret:with/signs@in it"


@asynccontextmanager
async def secured(directory: Path, size: int = 1) -> AsyncIterator[Sequence[Nats]]:
    """As many NATS servers as *size*, one cluster; *directory* has their certificate and CA."""
    write_certificates(directory)
    variables = {"NATS_PASSWORD": json.dumps(PASSWORD)}
    servers = [Nats(directory, variables) for _ in range(size)]
    routes = [f"nats://127.0.0.1:{Nats().port}" for _ in range(size)]
    try:
        await gather(*(start(one, own, routes) for one, own in zip(servers, routes, strict=True)))
        yield servers
    finally:
        for one in servers:
            await one.kill()


async def start(server: Nats, own: str, routes: Sequence[str]) -> None:
    """Start *server* with the configuration of the documentation, but for ports and machines."""
    file = str(ROOT / "docs" / "nats.conf")
    await server.start("-c", file, "-n", own, "--cluster", own, "--routes", ",".join(routes))


def write_certificates(directory: Path) -> None:
    """Write ca.pem, server.pem and server.key."""
    ca = CA()
    issued = ca.issue_cert("127.0.0.1")
    ca.cert_pem.write_to_path(directory / "ca.pem")
    issued.private_key_pem.write_to_path(directory / "server.key")
    for blob in issued.cert_chain_pems:
        blob.write_to_path(directory / "server.pem", append=True)


def options(servers: Sequence[Nats], directory: Path, password: str = PASSWORD) -> NatsOptions:
    """What a server of ours is told to reach *servers*."""
    user = f"callactors:{quote(password, safe='')}"
    urls = [f"tls://{user}@127.0.0.1:{one.port}" for one in servers]
    return NatsOptions(servers=urls, ca=directory / "ca.pem")


def write_credentials(directory: Path) -> None:
    """Write user.creds, and nats.conf for a server that trusts the operator behind them."""
    operator, account, user = (
        nkeys.from_seed(nkeys.encode_seed(os.urandom(32), prefix))
        for prefix in (nkeys.PREFIX_BYTE_OPERATOR, nkeys.PREFIX_BYTE_ACCOUNT, nkeys.PREFIX_BYTE_USER)
    )
    trusted = _sign(operator, operator, {"type": "operator"})
    everything = dict.fromkeys(("subs", "data", "payload", "imports", "exports", "conn", "leaf"), -1)
    vouched = _sign(operator, account, {"type": "account", "limits": everything | {"wildcards": True}})
    allowed = _sign(account, user, {"type": "user", "subs": -1, "data": -1, "payload": -1})
    name = account.public_key.decode()
    (directory / "nats.conf").write_text(
        f'operator: "{trusted}"\nresolver: MEMORY\nresolver_preload: {{ {name}: "{vouched}" }}\n'
    )
    (directory / "user.creds").write_text(
        f"-----BEGIN NATS USER JWT-----\n{allowed}\n------END NATS USER JWT------\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{user.seed.decode()}\n------END USER NKEY SEED------\n"
    )


def _sign(issuer: Any, subject: Any, claims: dict[str, Any]) -> str:
    """Return a JWT as NATS has it: signed with Ed25519, under an algorithm's name of its own."""
    head = {"typ": "JWT", "alg": "ed25519-nkey"}
    body = {
        "jti": subject.public_key.decode(),
        "iat": 1,
        "iss": issuer.public_key.decode(),
        "sub": subject.public_key.decode(),
        "name": claims["type"],
        "nats": claims | {"version": 2},
    }
    told = b".".join(_encode(json.dumps(part).encode()) for part in (head, body))
    return b".".join((told, _encode(issuer.sign(told)))).decode()


def _encode(raw: bytes) -> bytes:
    return base64.urlsafe_b64encode(raw).rstrip(b"=")

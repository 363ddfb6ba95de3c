"""Webhooks at the command line: endpoints are made and changed, and what they were not told is sent again."""

import argparse
from datetime import timedelta
from typing import Final
from urllib.parse import urlsplit

from callactors.admin import CODES, add_action, duration, make_table, name_actor, open_database, tell_minute
from callactors.errors import UnknownDelivery, WrongEndpoint
from callactors.processors.addresses import is_private
from callactors.settings import Settings
from callactors.store.audit import try_to_write_audit
from callactors.store.connection import Connection
from callactors.store.endpoints import (
    StoredEndpoint,
    check_endpoint,
    create_endpoint,
    delete_endpoint,
    disable_endpoint,
    enable_endpoint,
    list_endpoints,
    rotate_secret,
)
from callactors.store.replays import Selection, StoredDelivery, list_deliveries, replay
from callactors.webhooks import WebhookEvent, find_fault, is_loopback

_HEAD: Final = ("id", "url", "events", "made", "state", "note")
_DELIVERY_HEAD: Final = (
    "made",
    "webhook-id",
    "endpoint",
    "call",
    "event",
    "attempts",
    "state",
    "due",
    "answer",
)
_SHOWN: Final = 100
_LATELY: Final = timedelta(days=7)
_CHANGES: Final = {"disable": disable_endpoint, "enable": enable_endpoint, "delete": delete_endpoint}


def add_webhooks_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `webhooks` and what follows it to *commands*."""
    webhooks = commands.add_parser(
        "webhooks",
        help="tell other servers how calls ended",
        description="Endpoints that are told of calls that end in ARCHIVED or FAILED, by Standard Webhooks."
        " Every server on the database knows of a change within seconds.",
        epilog=CODES,
    )
    actions = webhooks.add_subparsers(dest="action", required=True, metavar="ACTION")
    create = add_action(actions, "create", "make an endpoint, and print its id and the secret that signs")
    create.add_argument("url", metavar="URL", help="where it is, as https://calls.example/hook")
    create.add_argument(
        "--event",
        action="append",
        choices=[*WebhookEvent],
        help="what it is told; may be given several times (default: all)",
    )
    create.add_argument("--note", default="", help="what it is for, for the list")
    add_action(actions, "list", "show all endpoints, without their secrets")
    rotate = add_action(
        actions, "rotate", "give an endpoint another secret; the old one signs too for a while"
    )
    rotate.add_argument(
        "--overlap",
        type=duration,
        default=timedelta(days=1),
        metavar="DURATION",
        help="how long that is (default 1d, 0s: it signs no more)",
    )
    disable = add_action(actions, "disable", "send an endpoint nothing; it keeps what it is still to be told")
    enable = add_action(actions, "enable", "tell an endpoint again, first what it had when it was disabled")
    delete = add_action(actions, "delete", "delete an endpoint, and what it is still to be told")
    for action in (rotate, disable, enable, delete):
        action.add_argument("endpoint", metavar="ID", help="of the endpoint, as the list has it")
    _add_deliveries(actions)
    _add_replay(actions)


def _add_deliveries(actions: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    shown = add_action(actions, "deliveries", f"show what is not delivered, up to the newest {_SHOWN}")
    which = shown.add_mutually_exclusive_group()
    which.add_argument(
        "--since",
        type=duration,
        default=_LATELY,
        metavar="DURATION",
        help="of calls that ended no longer ago than this (default 7d)",
    )
    which.add_argument("--call", metavar="CALL_ID", help="all of this call, delivered or not")
    shown.add_argument("--endpoint", metavar="ID", help="only those to this endpoint")


def _add_replay(actions: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    again = add_action(actions, "replay", "send messages again, now and by the schedule from its beginning")
    which = again.add_mutually_exclusive_group(required=True)
    which.add_argument("message", metavar="WEBHOOK_ID", nargs="?", help="the message with this webhook-id")
    which.add_argument("--call", metavar="CALL_ID", help="all of this call, delivered or not")
    which.add_argument(
        "--failed",
        type=duration,
        metavar="DURATION",
        help="all that were given up, of calls that ended no longer ago than this, as 12h",
    )
    again.add_argument("--endpoint", metavar="ID", help="only to this endpoint")
    again.add_argument("--dry-run", action="store_true", help="only show which these are")


async def run_webhooks(settings: Settings, options: argparse.Namespace) -> str:
    """Do what `webhooks` was asked for, and return what to print.

    Raises:
        UnknownEndpoint, UnknownDelivery, WrongEndpoint: it cannot be done.
        StartupError: the database cannot be used.
    """
    if options.action == "create":
        _check_url(options.url, is_private_allowed=settings.webhook_allow_private)
    async with open_database(settings) as connection:
        actor = name_actor()
        match options.action:
            case "create":
                events = map(WebhookEvent, options.event or WebhookEvent)
                made = await create_endpoint(connection, actor, options.url, {*events}, note=options.note)
                return " ".join(made)
            case "list":
                return make_table(_HEAD, *map(_row, await list_endpoints(connection)))
            case "rotate":
                made = await rotate_secret(connection, actor, options.endpoint, overlap=options.overlap)
                return " ".join(made)
            case "deliveries":
                return await _show(connection, options)
            case "replay":
                return await _replay(connection, actor, options)
            case change:
                await _CHANGES[change](connection, actor, options.endpoint)
                return f"{options.endpoint} is {change}d"


def _check_url(url: str, *, is_private_allowed: bool) -> None:
    fault = find_fault(url, is_private_allowed=is_private_allowed)
    if (
        fault is None
        and not (is_private_allowed or is_loopback(url))
        and is_private(urlsplit(url).hostname or "")
    ):
        fault = "it is a private address: set CALLACTORS_WEBHOOK_ALLOW_PRIVATE, here and for the servers"
    if fault is not None:
        raise WrongEndpoint(fault)


async def _show(connection: Connection, options: argparse.Namespace) -> str:
    since = None if options.call else options.since
    which = Selection(call=options.call, undelivered=since, endpoint=options.endpoint)
    return await _list(connection, which)


async def _replay(connection: Connection, actor: str, options: argparse.Namespace) -> str:
    which = Selection(
        message=options.message, call=options.call, failed=options.failed, endpoint=options.endpoint
    )
    if options.endpoint is not None:
        await check_endpoint(connection, options.endpoint)
    if options.failed is None and not await list_deliveries(connection, which, limit=1):
        raise UnknownDelivery(options.message or f"call {options.call}")
    if options.dry_run:
        return await _list(connection, which)
    replayed = await replay(connection, which)
    asked = {name: str(value) for name, value in which._asdict().items() if value is not None}
    detail = {**asked, "deliveries": replayed}
    call_id = asked.pop("call", None)
    await try_to_write_audit(connection, actor, "webhooks replayed", call_id=call_id, detail=detail)
    return f"deliveries that are sent again: {replayed}"


async def _list(connection: Connection, which: Selection) -> str:
    found = await list_deliveries(connection, which, limit=_SHOWN + 1)
    table = make_table(_DELIVERY_HEAD, *map(_delivery_row, found[:_SHOWN]))
    return table if len(found) <= _SHOWN else f"{table}\n… and more"


def _row(endpoint: StoredEndpoint) -> tuple[str, ...]:
    state = "good" if endpoint.disabled_at is None else f"disabled: {endpoint.disabled_reason}"
    events = ",".join(endpoint.events)
    return (
        endpoint.endpoint_id,
        endpoint.url,
        events,
        tell_minute(endpoint.created_at),
        state,
        endpoint.note,
    )


def _delivery_row(delivery: StoredDelivery) -> tuple[str, ...]:
    return (
        tell_minute(delivery.made_at),
        delivery.message_id,
        delivery.endpoint_id,
        delivery.call_id,
        delivery.event,
        str(delivery.attempts),
        delivery.state,
        tell_minute(delivery.due_at),
        delivery.answer or "-",
    )

"""The description: whole, valid, and of the routes that there are."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from aiohttp import hdrs, web
from openapi_spec_validator import validate
from pydantic import BaseModel

from callactors.packets import read_complete, read_packet
from callactors.web.descriptions import DESCRIPTIONS, Description
from callactors.web.openapi import describe, find_problems
from callactors.web.problems import PROBLEMS
from callactors.web.routes import ROUTES, Route
from callactors.web.setup import routes

DESCRIPTION = describe(ROUTES)
TEXT = json.dumps(DESCRIPTION)
OPERATIONS = {
    (method.upper(), path): operation
    for path, operations in DESCRIPTION["paths"].items()
    for method, operation in operations.items()
}


def responses() -> Iterator[tuple[str, Mapping[str, Any]]]:
    for operation in OPERATIONS.values():
        yield from operation["responses"].items()


def name_of(route: Route) -> str:
    return f"{route.method} {route.path}"


def test_it_is_valid_and_names_nothing_that_is_not_there() -> None:
    validate(DESCRIPTION)
    schemas = DESCRIPTION["components"]["schemas"]
    assert set(re.findall(r'"#/components/schemas/(\w+)"', TEXT)) <= schemas.keys()


def test_it_has_every_route_that_the_app_has_and_no_other() -> None:
    app = web.Application()
    app.add_routes(routes())
    served = {
        (route.method, route.resource.canonical)
        for route in app.router.routes()
        if route.resource is not None and route.method != hdrs.METH_HEAD
    }
    assert OPERATIONS.keys() == served


@pytest.mark.parametrize("route", ROUTES, ids=name_of)
def test_a_route_says_what_it_answers_and_what_opens_it(route: Route) -> None:
    operation = OPERATIONS[route.method, route.path]
    assert any(status < "300" for status in operation["responses"])
    assert operation["summary"]
    assert operation["security"] == [{"key": [scope]} for scope in sorted(route.opens or ())]
    assert {p["name"] for p in operation["parameters"] if p["in"] == "path"} == set(
        re.findall(r"{(\w+)}", route.path)
    )


def test_every_problem_is_told_somewhere_and_none_is_made_up() -> None:
    known = {problem.slug for problem in PROBLEMS.values()}
    assert set(re.findall(r'"/problems/([\w-]+)"', TEXT)) == known | {"not-found"}


def test_problems_have_their_media_type_and_the_headers_that_come_with_them() -> None:
    named = {"401": "WWW-Authenticate", "429": "Retry-After", "503": "Retry-After", "426": "Upgrade"}
    for status, response in responses():
        if "application/problem+json" in response.get("content", ()):
            header = named.get(status)
            assert header is None or response["headers"][header]["required"]
        else:
            assert status < "400" or (status, response["description"]) in {
                ("400", "The URL has more than 8 KiB"),
                ("503", "Something is wrong"),
            }


def test_bodies_are_told_by_their_media_types() -> None:
    stream = OPERATIONS["POST", "/v1/call/stream/{call_id}"]["requestBody"]
    assert stream["required"]
    assert stream["content"].keys() == {"application/json", "application/x-ndjson"}
    complete = OPERATIONS["POST", "/v1/call/complete/{call_id}"]["requestBody"]
    assert not complete["required"]
    read_packet(json.dumps(stream["content"]["application/json"]["example"]))
    read_packet(stream["content"]["application/x-ndjson"]["example"])
    read_complete(json.dumps(complete["content"]["application/json"]["example"]))


def test_websockets_tell_their_frames_in_text_and_as_schemas() -> None:
    for route in ROUTES:
        frames = DESCRIPTIONS[route.handler].frames
        if frames is not None:
            operation = OPERATIONS[route.method, route.path]
            assert "101" in operation["responses"]
            for model in (*frames.client, *frames.server):
                assert f"- `{model.__name__}`: " in operation["description"]
                assert model.__name__ in DESCRIPTION["components"]["schemas"]


def test_a_new_route_needs_only_its_own_facts() -> None:
    async def erase(request: web.Request) -> web.Response:
        """Erase it.

        It is gone then.
        """
        raise NotImplementedError

    class Erased(BaseModel):
        packets: int

    opens = next(route.opens for route in ROUTES if route.opens)
    route, about = Route("DELETE", "/v1/call/{call_id}", erase, opens), Description({200: (Erased,)})
    operation = describe([route], {erase: about})["paths"]["/v1/call/{call_id}"]["delete"]
    assert (operation["summary"], operation["description"]) == ("Erase it", "It is gone then.")
    assert {problem.slug for problem in find_problems(route, about)} >= {"unauthorized", "invalid-call-id"}
    assert operation["responses"]["200"]["content"] == {
        "application/json": {"schema": {"$ref": "#/components/schemas/Erased"}}
    }

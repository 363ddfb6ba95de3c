"""The OpenAPI 3.1 description, made from the table of routes and what is told of their handlers."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from http import HTTPStatus
from inspect import getdoc
from itertools import chain, groupby
from operator import attrgetter
from re import findall
from typing import Any, Final

from pydantic.json_schema import models_json_schema

from callactors import errors
from callactors.access import Scope
from callactors.packets import CALL_ID, CompleteRequest, Packet
from callactors.web.answers import ProblemDetails
from callactors.web.descriptions import DESCRIPTIONS, Description, Failure, Frames, Model
from callactors.web.problems import Handler, Problem, find_problem
from callactors.web.routes import Route

_JSON: Final = "application/json"
_PROBLEM: Final = "application/problem+json"
_REF: Final = "#/components/schemas/{model}"
_ABOUT: Final = """\
One actor per phone call: packets come in, supervisors watch. A 202 means stored.

Every error is a problem (RFC 9457); 429 and 503 mean: send it again after `Retry-After` seconds. Requests
without a key are let in only while there are no keys, and only from the server's own machine.
Bodies are JSON in UTF-8. Members may be added to answers and frames: ignore those that you do not know.
"""
_KEY: Final = {
    "type": "http",
    "scheme": "bearer",
    "bearerFormat": "ca_<id>_<secret>",
    "description": "A key, made by `callactors keys create`. The scopes named at a route are those that open"
    " it. A page sends it as the WebSocket subprotocol `bearer.<key>` beside `callactors.v1`.",
}
_PUBLIC: Final = "public"
_TAGS: Final[dict[str, str]] = {
    Scope.INGEST: "For who sends calls",
    Scope.SUPERVISE: "For who watches calls",
    Scope.ADMIN: "For who runs the server",
    _PUBLIC: "For everybody",
}
_PARAMETERS: Final = {
    "call_id": {
        "type": "string",
        "minLength": 1,
        "maxLength": 128,
        "pattern": f"^{CALL_ID.pattern}$",
        "description": "`stream` and `complete` are refused",
    }
}
_EXAMPLES: Final[dict[Model, dict[str, Any]]] = {
    Packet: {"sequence": 1, "data": "hello", "timestamp": 1.0},
    CompleteRequest: {"last_sequence": {"": 1}, "reason": "api"},
}
_NAME: Final = {"type": "string", "minLength": 1}
_TEXT: Final = {"type": "string"}
_WORDS: Final = {200: "Here it is", 202: "Stored", 304: "You have it", 503: "Something is wrong"}
_TOO_LONG: Final = {"description": "The URL has more than 8 KiB", "content": {"text/plain": {}}}
_RETRY: Final = {
    "Retry-After": {
        "required": True,
        "description": "seconds to wait",
        "schema": {"type": "integer", "minimum": 1},
    }
}
_HEADERS: Final[dict[int, dict[str, Any]]] = {
    401: {"WWW-Authenticate": {"required": True, "schema": _TEXT}},
    403: {"WWW-Authenticate": {"description": "of insufficient-scope", "schema": _TEXT}},
    426: {"Upgrade": {"required": True, "schema": {"const": "websocket"}}},
    429: _RETRY,
    503: _RETRY,
}
_OF_GUARD: Final = (
    errors.Unauthorized,
    errors.InsufficientScope,
    errors.CallNotAllowed,
    errors.Misdirected,
    errors.KeyBusy,
)
_OF_BODY: Final = (
    errors.BrokenBody,
    errors.SlowBody,
    errors.LineTooLong,
    errors.UnsupportedMediaType,
    errors.UnsupportedCharset,
    errors.InvalidJson,
    errors.InvalidUtf8,
    errors.JsonTooDeep,
    errors.DuplicateKey,
    errors.InvalidText,
    errors.InvalidFields,
)


def describe(
    routes: Sequence[Route], descriptions: Mapping[Handler, Description] = DESCRIPTIONS
) -> dict[str, Any]:
    """Return the OpenAPI document of *routes*; its server is relative to where the document is served."""
    told = [descriptions[route.handler] for route in routes]
    schemas = _make_schemas(told)
    paths: dict[str, dict[str, Any]] = {}
    for route, about in zip(routes, told, strict=True):
        paths.setdefault(route.path, {})[route.method.lower()] = _make_operation(route, about, schemas)
    for query in {about.query for about in told if about.query is not None}:
        del schemas[query.__name__]  # the parameters have it
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "callactors",
            "version": "1",
            "description": _ABOUT,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "."}],
        "tags": _make_tags(routes),
        "paths": paths,
        "components": {"schemas": schemas, "securitySchemes": {"key": _KEY}},
    }


def find_problems(route: Route, about: Description) -> list[Problem]:
    """Return the kinds of problems that *route* may answer, by status."""
    kinds = {find_problem(failure) for failure in _find_failures(route, about)}
    return sorted(kinds, key=attrgetter("status", "slug"))


def _find_failures(route: Route, about: Description) -> Iterator[Failure]:
    yield from about.problems
    if route.opens is not None:
        yield from _OF_GUARD
        if route.method != "GET" or about.frames:
            yield errors.ForeignOrigin
    if "{call_id}" in route.path:
        yield errors.InvalidCallId
    if about.query is not None:
        yield errors.InvalidFields
    if about.bodies:
        yield from _OF_BODY
    if about.frames:
        yield from (errors.UpgradeRequired, errors.Draining)


def _make_schemas(told: Iterable[Description]) -> dict[str, Any]:
    models: set[Model] = {ProblemDetails}
    for about in told:
        answers = chain.from_iterable(about.answers.values())
        models.update(answer for answer in answers if not isinstance(answer, str))
        models.update(about.bodies.values())
        models.update(() if about.frames is None else (*about.frames.client, *about.frames.server))
        models.update(() if about.query is None else (about.query,))
    named = sorted(models, key=attrgetter("__name__"))
    _, made = models_json_schema([(model, "validation") for model in named], ref_template=_REF)
    schemas: dict[str, Any] = made["$defs"]
    return schemas


def _make_operation(route: Route, about: Description, schemas: Mapping[str, Any]) -> dict[str, Any]:
    summary, _, more = (getdoc(route.handler) or "").partition("\n\n")
    operation: dict[str, Any] = {
        "operationId": route.handler.__name__ + ("_with_key" if "{token}" in route.path else ""),
        "summary": summary.rstrip("."),
        "tags": _tags_of(route),
        "security": [{"key": [scope]} for scope in sorted(route.opens or ())],
        "parameters": [*_make_path_parameters(route.path), *_make_query_parameters(about.query, schemas)],
        "responses": _make_responses(route, about),
    }
    if about.bodies:
        operation["requestBody"] = _make_body(about.bodies)
    if about.frames:
        more = "\n\n".join(filter(None, (more, _tell_frames(about.frames))))
        operation["x-frames"] = {
            side: [_ref(model) for model in models] for side, models in about.frames._asdict().items()
        }
    return {**operation, "description": more} if more else operation


def _tags_of(route: Route) -> list[str]:
    """Return one tag: below each of two the page would show the route once more."""
    return sorted(route.opens or {_PUBLIC})[-1:]


def _make_tags(routes: Iterable[Route]) -> list[dict[str, str]]:
    used = set(chain.from_iterable(map(_tags_of, routes)))
    return [{"name": tag, "description": text} for tag, text in _TAGS.items() if tag in used]


def _make_path_parameters(path: str) -> Iterator[dict[str, Any]]:
    for name in findall(r"{(\w+)}", path):
        yield {"name": name, "in": "path", "required": True, "schema": _PARAMETERS.get(name, _NAME)}


def _make_query_parameters(query: Model | None, schemas: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    properties = {} if query is None else schemas[query.__name__].get("properties", {})
    for name, schema in properties.items():
        yield {"name": name, "in": "query", "schema": _without_null(schema)}


def _without_null(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A parameter is left out, never null."""
    kept = {key: value for key, value in schema.items() if key not in ("anyOf", "title")}
    for choice in schema.get("anyOf", ()):
        if choice != {"type": "null"}:
            kept.update(choice)
    if kept.get("default", "") is None:
        del kept["default"]
    return kept


def _make_body(bodies: Mapping[str, Model]) -> dict[str, Any]:
    fields = chain.from_iterable(model.model_fields.values() for model in bodies.values())
    return {
        "required": any(field.is_required() for field in fields),
        "content": {
            media_type: _make_json(model) if media_type == _JSON else _make_lines(model)
            for media_type, model in bodies.items()
        },
    }


def _make_json(model: Model) -> dict[str, Any]:
    content: dict[str, Any] = {"schema": _ref(model)}
    return {**content, "example": _EXAMPLES[model]} if model in _EXAMPLES else content


def _make_lines(model: Model) -> dict[str, Any]:
    about = f"A {model.__name__} a line, as many as you like; blank lines are skipped."
    schema = {"type": "string", "description": about, "x-line": _ref(model)}
    return {"schema": schema, "example": f"{json.dumps(_EXAMPLES[model])}\n"}


def _make_responses(route: Route, about: Description) -> dict[str, Any]:
    responses: dict[str, Any] = {}
    if about.frames:
        responses["101"] = {"description": "A WebSocket: see the frames"}
    if about.query is not None and about.query.model_fields:
        responses["400"] = _TOO_LONG
    for status, answers in about.answers.items():
        responses[str(status)] = {"description": _WORDS.get(status, HTTPStatus(status).phrase)}
        if answers:
            responses[str(status)]["content"] = _make_content(answers)
    for status, problems in groupby(find_problems(route, about), key=attrgetter("status")):
        responses[str(status)] = _make_problem_response(status, [*problems])
    return responses


def _make_content(answers: Sequence[Model | str]) -> dict[str, Any]:
    content: dict[str, Any] = {answer: {} for answer in answers if isinstance(answer, str)}
    models = [_ref(answer) for answer in answers if not isinstance(answer, str)]
    if models:
        content[_JSON] = {"schema": models[0] if len(models) == 1 else {"anyOf": models}}
    return content


def _make_problem_response(status: int, problems: Sequence[Problem]) -> dict[str, Any]:
    types = [f"/problems/{problem.slug}" for problem in problems]
    told = {"status": {"const": status}, "type": {"enum": types}}
    examples = {problem.slug: {"value": _make_example(problem)} for problem in problems}
    schema = {"allOf": [_ref(ProblemDetails), {"properties": told}]}
    response = {
        "description": "; ".join(f"`{problem.slug}`: {problem.title}" for problem in problems),
        "content": {_PROBLEM: {"schema": schema, "examples": examples}},
    }
    return {**response, "headers": _HEADERS[status]} if status in _HEADERS else response


def _make_example(problem: Problem) -> dict[str, Any]:
    told = {"type": f"/problems/{problem.slug}", "title": problem.title, "status": problem.status}
    return {**told, "detail": "what is wrong in this case, and the mend", "instance": "/v1/..."}


def _tell_frames(frames: Frames) -> str:
    parts = []
    for side, models in (("You", frames.client), ("The server", frames.server)):
        lines = [f"- `{model.__name__}`: {(getdoc(model) or '').splitlines()[0]}" for model in models]
        parts.append("\n".join([f"{side} may send these as text frames:", "", *lines]))
    return "\n\n".join(parts)


def _ref(model: Model) -> dict[str, str]:
    return {"$ref": _REF.format(model=model.__name__)}

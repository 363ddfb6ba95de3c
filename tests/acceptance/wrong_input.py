"""What is wrong in so many ways, and the answer to each: status, slug of the problem, pointers to fields."""

import json
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

PACKET: Final = {"sequence": 1, "data": "x", "timestamp": 1.0}
STREAM: Final = "/v1/call/stream/"
COMPLETE: Final = "/v1/call/complete/"


class Row(NamedTuple):
    """A body, and the problem that it is."""

    body: bytes
    status: int
    slug: str
    pointers: tuple[str, ...] = ()


class Case(NamedTuple):
    """A request, and the problem that it is."""

    status: int
    slug: str
    method: str
    path: str
    headers: Mapping[str, str] = {}
    body: bytes | None = None
    pointers: tuple[str, ...] = ()


def text(sequence: str = "1", data: str = '"x"', timestamp: str = "1.0", more: str = "") -> bytes:
    return f'{{"sequence":{sequence},"data":{data},"timestamp":{timestamp}{more}}}'.encode()


def not_json(body: bytes) -> Row:
    return Row(body, 400, "invalid-json")


def wrong(pointer: str, **parts: str) -> Row:
    return Row(text(**parts), 422, "validation", (pointer,))


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


PACKETS: Final[dict[str, Row]] = {
    "cut off": not_json(text()[:-1]),
    "one brace": not_json(b"{"),
    "nonsense": not_json(b"nonsense"),
    "trailing bytes": not_json(text() + b"x"),
    "two packets": not_json(text() + b" {}"),
    "trailing comma": not_json(text(more=",")),
    "raw control character": not_json(text(data='"\t"')),
    "raw NUL": not_json(text(data='"\x00"')),
    "leading zero": not_json(text("01")),
    "sequence NaN": not_json(text("NaN")),
    "timestamp NaN": not_json(text(timestamp="NaN")),
    "timestamp Infinity": not_json(text(timestamp="Infinity")),
    "timestamp -Infinity": not_json(text(timestamp="-Infinity")),
    "5,000 digits": not_json(text("9" * 5_000)),
    "5,000 digits of a timestamp": not_json(text(timestamp="9" * 5_000)),
    "byte order mark": not_json(b"\xef\xbb\xbf" + text()),
    "UTF-16": not_json(text().decode().encode("utf-16")),
    "UTF-16 without a mark": not_json(text().decode().encode("utf-16-be")),
    "byte ff": Row(text(data='"?"').replace(b"?", b"\xff"), 400, "invalid-utf8"),
    "surrogate in UTF-8": Row(text(data='"?"').replace(b"?", b"\xed\xa0\x80"), 400, "invalid-utf8"),
    "NUL in two bytes": Row(text(data='"?"').replace(b"?", b"\xc0\x80"), 400, "invalid-utf8"),
    "33 levels": Row(text(data=nested(32)), 400, "json-too-deep"),
    "1,000 levels": Row(text(data=nested(1_000)), 400, "json-too-deep"),
    "100,000 levels": Row(b"[" * 100_000, 400, "json-too-deep"),
    "32 levels": wrong("/data", data=nested(31)),
    "key twice": Row(text(more=',"sequence":2'), 400, "duplicate-key", ("/sequence",)),
    "key twice, same value": Row(text(more=',"data":"x"'), 400, "duplicate-key", ("/data",)),
    "key twice, once escaped": Row(text(more=r',"sequ\u0065nce":2'), 400, "duplicate-key", ("/sequence",)),
    "key twice in a field": Row(text(data='[{"a":1,"a":1}]'), 400, "duplicate-key", ("/data/0/a",)),
    "NUL in data": Row(text(data=r'"a\u0000b"'), 422, "invalid-text", ("/data",)),
    "NUL in stream": Row(text(more=r',"stream":"\u0000"'), 422, "invalid-text", ("/stream",)),
    "half a pair in data": Row(text(data=r'"\ud800"'), 422, "invalid-text", ("/data",)),
    "half a pair in stream": Row(text(more=r',"stream":"\udfff"'), 422, "invalid-text", ("/stream",)),
    "half a pair in a key": Row(text(more=r',"\ud800":1'), 422, "invalid-text", ("/?",)),
    "array": Row(b"[]", 422, "validation", ("",)),
    "array of packets": Row(b"[" + text() + b"]", 422, "validation", ("",)),
    "number": Row(b"1", 422, "validation", ("",)),
    "string": Row(b'"x"', 422, "validation", ("",)),
    "true": Row(b"true", 422, "validation", ("",)),
    "null": Row(b"null", 422, "validation", ("",)),
    "nothing in it": Row(b"{}", 422, "validation", ("/sequence", "/data", "/timestamp")),
    "no timestamp": Row(b'{"sequence":1,"data":"x"}', 422, "validation", ("/timestamp",)),
    "unknown field": wrong("/steam", more=',"steam":"mistyped"'),
    "sequence true": wrong("/sequence", sequence="true"),
    "sequence null": wrong("/sequence", sequence="null"),
    "sequence 1.0": wrong("/sequence", sequence="1.0"),
    "sequence 1e2": wrong("/sequence", sequence="1e2"),
    "sequence in quotes": wrong("/sequence", sequence='"1"'),
    "sequence -1": wrong("/sequence", sequence="-1"),
    "sequence 2^63": wrong("/sequence", sequence=str(2**63)),
    "sequence 2^64": wrong("/sequence", sequence=str(2**64)),
    "sequence 10^400": wrong("/sequence", sequence=str(10**400)),
    "timestamp 1e400": wrong("/timestamp", timestamp="1e400"),
    "timestamp 10^400": wrong("/timestamp", timestamp=str(10**400)),
    "timestamp 1e18": wrong("/timestamp", timestamp="1e18"),
    "timestamp in milliseconds": wrong("/timestamp", timestamp="1e12"),
    "timestamp -1e12": wrong("/timestamp", timestamp="-1e12"),
    "timestamp -1": wrong("/timestamp", timestamp="-1"),
    "timestamp true": wrong("/timestamp", timestamp="true"),
    "timestamp in quotes": wrong("/timestamp", timestamp='"1.0"'),
    "data a number": wrong("/data", data="1"),
    "data null": wrong("/data", data="null"),
    "data too long": Row(text(data='"' + "x" * 262_145 + '"'), 413, "body-too-large", ("/data",)),
    "stream null": wrong("/stream", more=',"stream":null'),
    "stream too long": wrong("/stream", more=f',"stream":"{"x" * 129}"'),
}
COMPLETES: Final[dict[str, Row]] = {
    "one brace": not_json(b"{"),
    "NaN in metadata": not_json(b'{"metadata":{"a":NaN}}'),
    "5,000 digits in metadata": not_json(b'{"metadata":{"a":' + b"9" * 5_000 + b"}}"),
    "UTF-16": not_json('{"reason":"api"}'.encode("utf-16")),
    "byte ff": Row(b'{"reason":"\xff"}', 400, "invalid-utf8"),
    "33 levels": Row(f'{{"metadata":{{"a":{nested(31)}}}}}'.encode(), 400, "json-too-deep"),
    "50,000 levels": Row(b'{"metadata":' * 50_000, 400, "json-too-deep"),
    "key twice": Row(b'{"reason":"api","reason":"busy"}', 400, "duplicate-key", ("/reason",)),
    "key twice in metadata": Row(
        b'{"metadata":{"a":{"b":1,"b":1}}}', 400, "duplicate-key", ("/metadata/a/b",)
    ),
    "stream twice": Row(
        rb'{"last_sequence":{"a":1,"\u0061":2}}', 400, "duplicate-key", ("/last_sequence/a",)
    ),
    "NUL in metadata": Row(rb'{"metadata":{"a":["\u0000"]}}', 422, "invalid-text", ("/metadata/a/0",)),
    "half a pair in metadata": Row(rb'{"metadata":{"a":"\ud800"}}', 422, "invalid-text", ("/metadata/a",)),
    "half a pair in a key": Row(rb'{"metadata":{"\ud800":1}}', 422, "invalid-text", ("/metadata/?",)),
    "NUL in a stream": Row(rb'{"last_sequence":{"\u0000":1}}', 422, "invalid-text", ("/last_sequence/\x00",)),
    "1e400 in metadata": Row(b'{"metadata":{"a":1e400}}', 422, "validation", ("/metadata",)),
    "array": Row(b"[]", 422, "validation", ("",)),
    "null": Row(b"null", 422, "validation", ("",)),
    "unknown field": Row(b'{"reasons":"api"}', 422, "validation", ("/reasons",)),
    "unknown reason": Row(b'{"reason":"boredom"}', 422, "validation", ("/reason",)),
    "reason of the server's": Row(b'{"reason":"poison"}', 422, "validation", ("/reason",)),
    "metadata an array": Row(b'{"metadata":[]}', 422, "validation", ("/metadata",)),
    "last_sequence a number": Row(b'{"last_sequence":3}', 422, "validation", ("/last_sequence",)),
    "last_sequence -1": Row(b'{"last_sequence":{"a":-1}}', 422, "validation", ("/last_sequence/a",)),
    "last_sequence 2^63": Row(
        b'{"last_sequence":{"a":%d}}' % 2**63, 422, "validation", ("/last_sequence/a",)
    ),
    "last_sequence in quotes": Row(b'{"last_sequence":{"a":"3"}}', 422, "validation", ("/last_sequence/a",)),
    "1,001 streams": Row(
        json.dumps({"last_sequence": {str(n): 1 for n in range(1_001)}}).encode(),
        422,
        "validation",
        ("/last_sequence",),
    ),
}
CALL_IDS: Final = (
    *(
        "stream",
        "complete",
        "%00",
        "a%00b",
        "a%2Fb",
        "%2F",
        "a%20b",
        "%20",
        "a" * 129,
        "a" * 5_000,
        "-a",
        ".",
    ),
    *("%2E%2E", "%2e%2e", "..%2f", "_a", "a%0A", "%0Aa", "%0d%0a", "a%0d%0aSet-Cookie:x", "caf%C3%A9"),
    *("%FF", "%ff", "%zz", "%", "a%", "%ED%A0%80", "a+b", "a@b", "a%25b", "%D9%A1", "a;b", "a%5Cb"),
)
MEDIA: Final = {
    "unsupported-media-type": (
        *(
            "text/plain",
            "application/xml",
            "text/plain; charset=utf-8",
            "json",
            "/",
            "",
            ";",
            "application/jsonx",
        ),
        *("multipart/form-data; boundary=x", "application/x-www-form-urlencoded", "application/octet-stream"),
    ),
    "unsupported-charset": (
        *(f"application/json; charset={name}" for name in ("bogus", "utf-16", "latin-1", "utf-8x", "\xff")),
        *(f"application/x-ndjson; charset={name}" for name in ("bogus", "utf-16")),
    ),
}
QUERIES: Final[dict[str, dict[str, tuple[str, ...]]]] = {
    "/v1/calls": {
        "/limit": (
            "limit=0",
            "limit=201",
            "limit=",
            "limit=%zz",
            "limit=%00",
            "limit=1.5",
            "limit=" + "9" * 5_000,
        ),
        "/state/0": ("state=x", "state=%00", "state=IN_PROGRESS%00", "state=%ff", "state="),
        "/end_reason/0": ("end_reason=%E9", "end_reason=API"),
        "/has_gaps": ("has_gaps=1", "has_gaps=%00"),
        "/since": (
            *(
                "since=x",
                "since=%00",
                "since=0000-00-00",
                "since=2026-11-24T03:52:23",
                "since=" + "9" * 5_000,
            ),
            *(
                "since=0001-01-01T00:00:00%2B23:59",
                "since=9999-12-31T23:59:59-23:59",
                "since=%ff",
                "since=1e9",
            ),
        ),
        "/until": ("until=%zz", "until=2026-13-01T00:00:00Z", "until=2026-11-24T03:52:23+00:00"),
        "/q": (
            "q=",
            "q=%00",
            "q=a%00",
            "q=%25",
            "q=a%0a",
            "q=%ff",
            "q=" + "a" * 129,
            "q=%ED%A0%80",
            "q=a%2525",
        ),
        "/call_id/0": ("call_id=%00&call_id=b", "call_id=", "call_id=stream"),
        "/call_id": ("&".join(["call_id=a"] * 101),),
        "/cursor": (
            "cursor=x",
            "cursor=%00",
            "cursor=%ff",
            "cursor=" + "A" * 5_000,
            "cursor=c3RhcnQvOTk5OTk5OTk5OTk5OTk5OTk5OTk5LzE",
        ),
        "/sort": ("sort=x", "sort=START", "sort=%00"),
        "/a": ("a=1", "a"),
        "/%zz": ("%zz=1",),
        "/\x00": ("%00=1",),
        "/a~1b~0": ("a/b~=1",),
    },
    "/v1/call/known/events": {
        "/after": ("after=-1", "after=x", "after=%00", "after=9223372036854775808", "after=" + "9" * 5_000),
        "/limit": ("limit=0", "limit=1001", "limit=NaN", "limit=1e2", "limit=1&limit=1"),
        "/stream": ("stream=a",),
    },
    "/v1/call/known/packets": {
        "/after": ("after=-1", "after=1.5", "after=%00", "after=9223372036854775808", "after=Infinity"),
        "/limit": ("limit=1001", "limit=-9223372036854775809"),
        "/stream": ("stream=%00", "stream=a%00b", "stream=" + "a" * 129, "stream=a&stream=a"),
    },
    "/v1/stats": {"/at": ("at=now",), "/\ufffd": ("%ff", "%ff=1")},
    "/ws/supervisor": {
        "/since": ("since=garbage", "since=%00", "since=%ff", "since=", "since=" + "A" * 5_000),
        "/snapshot": ("snapshot=2", "snapshot=%00", "snapshot="),
        "/kinds/0": ("kinds=x", "kinds=%00", "kinds=%ff"),
        "/kinds/1": ("kinds=attempt,%ff",),
        "/state/0": ("state=x%00",),
        "/call_id/0": ("call_id=%00", "call_id=stream", "call_id=%ff", "call_id="),
        "/call_id": ("call_id=" + ",".join(f"c{n}" for n in range(101)),),
        "/a": ("a=%00",),
    },
}
HEADERS: Final = {"Content-Type": "application/json"}


def _cases() -> list[Case]:
    good = text()
    cases = [
        *(Case(422, "invalid-call-id", "POST", STREAM + call_id, HEADERS, good) for call_id in CALL_IDS),
        *(Case(422, "invalid-call-id", "POST", COMPLETE + call_id) for call_id in CALL_IDS),
        *(Case(422, "invalid-call-id", "GET", "/v1/call/" + call_id) for call_id in CALL_IDS),
        *(Case(422, "invalid-call-id", "GET", f"/v1/call/{call_id}/events") for call_id in CALL_IDS[2:]),
        *(Case(422, "invalid-call-id", "GET", f"/v1/call/{call_id}/packets") for call_id in CALL_IDS[2:]),
        *(Case(404, "unknown-call", "GET", "/v1/call/nobody" + part) for part in ("", "/events", "/packets")),
        Case(404, "unknown-call", "POST", COMPLETE + "nobody"),
        *(Case(404, "not-found", "POST", path + "%7Ba%7D") for path in (STREAM, COMPLETE)),
        *(
            Case(404, "not-found", "POST", path, HEADERS, good)
            for path in (STREAM, "/nowhere", "/v1/call/c/d/e")
        ),
        *(Case(404, "not-found", "POST", path) for path in (COMPLETE, COMPLETE + "c/d", STREAM + "c/")),
        *(
            Case(404, "not-found", "GET", path)
            for path in ("/v1", "/v1/call/", "/%00", "/%ff", "/dashboard/%00")
        ),
        *(
            Case(404, "not-found", "GET", path)
            for path in ("/dashboard/..%2fguard.py", "/v1/calls%00", "/%zz")
        ),
        *(Case(405, "method-not-allowed", method, STREAM + "c") for method in ("PUT", "DELETE", "PATCH")),
        Case(405, "method-not-allowed", "POST", "/v1/call/c", HEADERS, good),
        Case(405, "method-not-allowed", "GET", COMPLETE + "c"),
        Case(405, "method-not-allowed", "POST", "/health", HEADERS, good),
        Case(413, "body-too-large", "POST", STREAM + "c", HEADERS, b" " * 2_000_000),
        Case(413, "body-too-large", "POST", COMPLETE + "c", HEADERS, b" " * 2_000_000),
        Case(426, "upgrade-required", "GET", "/ws/supervisor"),
        Case(426, "upgrade-required", "GET", STREAM + "c"),
        *(Case(400, "invalid-json", "POST", STREAM + "c", HEADERS, body) for body in (b"", b" ", b"\n")),
    ]
    for slug, types in MEDIA.items():
        cases += [Case(415, slug, "POST", STREAM + "c", {"Content-Type": name}, good) for name in types]
        cases += [
            Case(415, slug, "POST", COMPLETE + "c", {"Content-Type": name}, b"{}")
            for name in types
            if "ndjson" not in name
        ]
    for path, queries in QUERIES.items():
        for pointer, found in queries.items():
            cases += [
                Case(422, "validation", "GET", f"{path}?{query}", pointers=(pointer,)) for query in found
            ]
    return cases


CASES: Final = _cases()
SUBSCRIBES: Final[dict[str, str]] = {
    **{
        name: row.body.decode()
        for name, row in PACKETS.items()
        if row.slug in ("invalid-json", "json-too-deep") and "UTF-16" not in name and len(row.body) < 60_000
    },
    "array": "[]",
    "null": "null",
    "key twice": '{"type":"subscribe","type":"subscribe"}',
    "key twice in a field": '{"type":"subscribe","state":[{"a":1,"a":1}]}',
    "NaN": '{"type":"subscribe","snapshot":NaN}',
    "half a pair": r'{"type":"subscribe","call_id":["\ud800"]}',
    "NUL": r'{"type":"subscribe","call_id":["\u0000"]}',
    "call id that is none": '{"type":"subscribe","call_id":["a/b"]}',
    "unknown state": '{"type":"subscribe","state":["x"]}',
    "unknown field": '{"type":"subscribe","a":1}',
    "cursor that is none": '{"type":"subscribe","since":"x"}',
    "cursor that is a number": '{"type":"subscribe","since":1}',
    "state a number": '{"type":"subscribe","state":1}',
    "state an object": '{"type":"subscribe","state":{}}',
    "101 calls": json.dumps({"type": "subscribe", "call_id": [f"c{n}" for n in range(101)]}),
}


def describe_case(case: Case) -> str:
    more = [*case.headers.values(), (case.body or b"")[:20].decode(errors="replace")]
    return ascii(" ".join([case.method, case.path[:70], *more]))[1:-1]


def packet(**fields: Any) -> bytes:
    return json.dumps({**PACKET, **fields}).encode()

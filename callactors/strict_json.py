"""JSON as RFC 8259 and RFC 7493 have it, and parsers do not: in UTF-8, each key once, without NaN."""

import json
import re
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE
from collections import Counter
from typing import Any, Final, Never

from callactors.errors import DuplicateKey, InvalidJson, InvalidText, InvalidUtf8, JsonTooDeep

MAX_DEPTH: Final = 32  # of objects and arrays within each other

_MARKS: Final = (BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE)
_NOT_TEXT: Final = re.compile("[\x00\ud800-\udfff]")  # PostgreSQL stores neither
_ESCAPE: Final = re.compile(r"\\u(?:0000|[dD][89a-fA-F])")  # nothing else can bring them in
_CONTAINERS: Final = (list, dict)


class _Doubled(dict[str, Any]):
    """An object in which *key* is there twice."""

    key = ""


def read_json(body: bytes | str) -> Any:
    """Return what stands in *body*; its numbers may still be infinite, as 1e400 is.

    Raises:
        InvalidUtf8: the bytes are no UTF-8.
        InvalidJson: the text is not JSON.
        JsonTooDeep, DuplicateKey, InvalidText: it is, but not what we take.
    """
    text = _decode(body if isinstance(body, bytes) else body.encode(errors="surrogatepass"))
    try:
        value = json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_make_object)
    except RecursionError:
        raise JsonTooDeep(MAX_DEPTH) from None
    except json.JSONDecodeError as error:
        raise InvalidJson(f"{error.msg.rstrip(': ')} at line {error.lineno} column {error.colno}") from None
    except ValueError:  # int() takes no more digits
        raise InvalidJson("a number has too many digits") from None
    _check([value], is_text_sure=_ESCAPE.search(text) is None)
    return value


def pointer(*location: int | str) -> str:
    """Return the JSON pointer (RFC 6901) to *location*."""
    parts = [str(part)[:64].replace("~", "~0").replace("/", "~1") for part in location]
    return "".join("/" + part.encode(errors="replace").decode() for part in parts)


def _decode(body: bytes) -> str:
    if body.startswith(_MARKS):
        raise InvalidJson("send UTF-8 without a byte order mark, which is at line 1 column 1")
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        raise InvalidUtf8(error.start) from None


def _refuse_constant(name: str) -> Never:
    raise InvalidJson(f"{name} is no number")


def _make_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        made = _Doubled(made)
        made.key = Counter(key for key, _ in pairs).most_common(1)[0][0]
    return made


def _check(value: list[Any] | dict[str, Any], *path: int | str, is_text_sure: bool) -> None:
    """Look for what is wrong in *value*, which lies at *path* behind the first of it."""
    if isinstance(value, _Doubled):
        raise DuplicateKey(pointer(*path[1:], value.key))
    if len(path) > MAX_DEPTH:
        raise JsonTooDeep(MAX_DEPTH)
    for name, item in value.items() if isinstance(value, dict) else enumerate(value):
        if not (is_text_sure or (_is_text(name) and _is_text(item))):
            raise InvalidText(pointer(*path[1:], name))
        if isinstance(item, _CONTAINERS):
            _check(item, *path, name, is_text_sure=is_text_sure)


def _is_text(value: object) -> bool:
    return not isinstance(value, str) or _NOT_TEXT.search(value) is None

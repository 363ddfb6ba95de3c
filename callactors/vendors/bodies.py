"""The bodies of callbacks, forms and JSON, as strictly read as what clients send."""

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qsl

from callactors.errors import InputError
from callactors.strict_json import read_json
from callactors.vendors.steps import WrongCallback

FORM: Final = "application/x-www-form-urlencoded"
MAX_FIELDS: Final = 200  # of a form; Twilio sends some 40

_JSON: Final = "application/json"


def media_type_of(content_type: str) -> str:
    """Return the media type without its parameters, in lower case."""
    return content_type.partition(";")[0].strip().lower()


def read_pairs(body: bytes) -> list[tuple[str, str]]:
    """Return the names and values in a form (URL Standard, section 5.1), in the order they came.

    Raises:
        WrongCallback: *body* is no form in UTF-8, or has too many fields.
    """
    if not body:
        return []
    try:
        return parse_qsl(
            body.decode("ascii"),
            keep_blank_values=True,
            strict_parsing=True,
            errors="strict",
            max_num_fields=MAX_FIELDS,
        )
    except ValueError:
        raise WrongCallback("the body is no form in UTF-8, or has too many fields") from None


def read_fields(content_type: str, body: bytes) -> Mapping[str, Any]:
    """Return the fields of a form, or of a JSON object.

    Raises:
        WrongCallback: *body* is neither, has a name twice, or text that cannot be stored.
    """
    media_type = media_type_of(content_type)
    if media_type == FORM:
        return _read_form(body)
    if media_type == _JSON:
        return _read_object(body)
    raise WrongCallback(f"the content type is neither {FORM} nor {_JSON}")


def _read_form(body: bytes) -> Mapping[str, Any]:
    pairs = read_pairs(body)
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise WrongCallback("the form has a field twice")
    if any("\x00" in name or "\x00" in value for name, value in pairs):
        raise WrongCallback("the form has U+0000")
    return fields


def _read_object(body: bytes) -> Mapping[str, Any]:
    try:
        fields = read_json(body)
    except InputError as error:
        raise WrongCallback(f"the body is no JSON as it is taken here: {type(error).__name__}") from None
    if not isinstance(fields, dict):
        raise WrongCallback("the body is no JSON object")
    return fields

"""Keys and grants: their form, what opens what, and what is never told."""

import pytest

from callactors.access import EVERYTHING, Grant, hash_secret, make_key, mask_keys, parse_key
from callactors.errors import CallNotAllowed


def test_a_key_is_read_back_as_it_was_made() -> None:
    key = make_key()
    key_id, secret = parse_key(key.text) or ("", "")
    assert (key_id, hash_secret(secret)) == (key.key_id, key.digest)
    assert make_key().text != key.text


@pytest.mark.parametrize(
    "text", ["", "ca_", "ca_0123456789ab_short", "xx" + make_key().text, make_key().text + "x"]
)
def test_what_has_not_the_form_of_a_key_is_none(text: str) -> None:
    assert parse_key(text) is None


def test_secrets_are_masked_wherever_they_stand() -> None:
    key, other = make_key(), make_key()
    told = mask_keys(f"GET /x?key={key.text} Bearer {other.text}, ca_nothing")
    assert told == f"GET /x?key=ca_{key.key_id}_*** Bearer ca_{other.key_id}_***, ca_nothing"


def test_a_grant_with_a_prefix_is_for_its_calls_only() -> None:
    grant = Grant("k", EVERYTHING, "acme-")
    grant.check(["acme-1", "acme-2"])
    with pytest.raises(CallNotAllowed, match="acme-"):
        grant.check(["acme-1", "other"])
    Grant("k", EVERYTHING).check(["whatever", ""])

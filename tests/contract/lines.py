"""What schemathesis sends as NDJSON: packets, and now and then a line that is none."""

import json

import schemathesis
from hypothesis import strategies as st

_PACKETS = st.fixed_dictionaries(
    {
        "sequence": st.integers(0, 100),
        "data": st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=10),
        "timestamp": st.integers(0, 10),
    }
).map(json.dumps)
_LINES = st.one_of(_PACKETS, _PACKETS, _PACKETS, st.sampled_from(["", "{}", "[", "\x00"]))

schemathesis.openapi.media_type(
    "application/x-ndjson", st.lists(_LINES, max_size=5).map(lambda lines: "\n".join(lines).encode())
)

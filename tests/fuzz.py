"""What fuzz tests share: how long they run, and the pieces that their inputs are made of.

The ordinary form plays the same examples each time; `CALLACTORS_FUZZ=20` plays 20 times as many, new ones.
"""

import os
from typing import Final

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

_TIMES: Final = int(os.environ.get("CALLACTORS_FUZZ", "1"))

WORDS: Final = ("null", "true", "false", "NaN", "Infinity", "-Infinity", "nul", "")
NUMBERS: Final = (
    *("0", "1", "-0", "-1", "01", "+1", "1.", ".5", "1.0", "0.0", "-0.0", "1e2", "1E+2", "1e400", "-1e400"),
    *("4102444800", "4102444800.5", "1700000000.25", "1e-400", "0x1", "1_0", "\uff11", "--1", "1e"),
    *(str(2**63 - 1), str(2**63), str(2**64), "9" * 400, "9" * 4_300, "9" * 4_301, "1" * 5_000 + ".0"),
)
STRINGS: Final = (
    *(
        r'""',
        r'"x"',
        r'"\""',
        r'"\\"',
        r'"\\\""',
        r'"\",\"sequence\":1"',
        r'"\u0041"',
        r'"\u0000"',
        r'"\ud800"',
    ),
    *(
        r'"\ud83d\ude00"',
        r'"\udc00\ud800"',
        r'"\uDBFF\uDFFF"',
        r'"\ud800\u0041"',
        r'"\u00"',
        r'"\x"',
        r'"\/\b"',
    ),
    *('"\t"', '"\x7f"', '"\x00"', '"é"', '"\U0001f600"', '"\ufeff"', '"', '"x', "'x'", '"' + "s" * 129 + '"'),
)
NESTED: Final = (
    *(
        "[]",
        "{}",
        "[1,[2]]",
        '{"a":{"a":1}}',
        '{"a":1,"a":1}',
        '{"a":1,"\\u0061":1}',
        "[1,]",
        "{,}",
        "[",
        "}",
    ),
    *("[" * n + "]" * n for n in (30, 31, 32, 33, 250)),
)
KEYS: Final = (
    *(
        '"sequence"',
        '"data"',
        '"timestamp"',
        '"stream"',
        r'"sequ\u0065nce"',
        r'"d\u0061ta"',
        r'"\u0073tream"',
    ),
    *(
        '"metadata"',
        '"reason"',
        '"last_sequence"',
        '"type"',
        '"a"',
        r'"\ud800"',
        '"Data"',
        '"data "',
        "data",
        "1",
    ),
)
SPACES: Final = ("", " ", "\n", "\r\n", "\t", "\x0c", "\xa0", "\ufeff", "/**/")
VALUES: Final = (*WORDS, *NUMBERS, *STRINGS, *NESTED)

_BREAKS: Final = (
    b"\xff",
    b"\xed\xa0\x80",
    b"\xc0\x80",
    b"\x00",
    b'"',
    b"\\",
    b",",
    b":",
    b"{",
    b"}",
    b" ",
    b"\n",
)
_FIELDS: Final = (*KEYS[:7], '"sequence"', '"timestamp"')
_GOOD: Final = {'"sequence"': "1", '"data"': '"x"', '"timestamp"': "1.5"}


def fuzz(examples: int, *, is_quick_to_fail: bool = True) -> settings:
    """Return settings for so many examples, in the long form for more; only quick ones are made smaller."""
    phases = [Phase.explicit, Phase.generate, *([Phase.shrink] if is_quick_to_fail else [])]
    return settings(
        max_examples=examples * _TIMES,
        derandomize=_TIMES == 1,
        database=None,
        deadline=None,
        phases=phases,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    )


@st.composite
def objects(draw: st.DrawFn) -> bytes:
    """Texts of objects, most of them nearly packets."""
    members = list(_GOOD.items())
    keys = st.sampled_from(draw(st.sampled_from((_FIELDS, _FIELDS, KEYS))))
    values = st.sampled_from(draw(st.sampled_from((STRINGS[:14], NUMBERS, VALUES))))
    for _ in range(draw(st.integers(0, 3))):
        key = draw(keys)
        places = [place for place, (known, _) in enumerate(members) if known == key]
        if draw(st.integers(0, 3)) and places:
            members[places[0]] = (key, draw(values))
        else:
            members.insert(draw(st.integers(0, len(members))), (key, draw(values)))
    space = st.sampled_from(draw(st.sampled_from((SPACES[:1], SPACES[:5], SPACES))))
    told = ",".join(f"{draw(space)}{key}{draw(space)}:{draw(space)}{value}" for key, value in members)
    return f"{draw(space)}{{{told}}}{draw(space)}".encode()


@st.composite
def broken(draw: st.DrawFn) -> bytes:
    """The same with some bytes put in, left out or put in place of others."""
    raw = draw(objects())
    for _ in range(draw(st.integers(1, 2))):
        place = draw(st.integers(0, len(raw)))
        cut = draw(st.integers(0, 2))
        raw = raw[:place] + draw(st.sampled_from((b"", *_BREAKS))) + raw[place + cut :]
    return raw


BODIES: Final = st.one_of(objects(), objects(), objects(), broken(), st.binary(max_size=64))

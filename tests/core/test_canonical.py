"""Canonical JSON: RFC 8785's rules, and that everything accepted survives a file."""

from __future__ import annotations

import hashlib
import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from madflow.core.canonical import DEPTH_MAX, INTEGER_MAX, canonical, digest
from madflow.errors import ConfigError, MadflowError

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-INTEGER_MAX, INTEGER_MAX)
    | st.floats(allow_nan=False, allow_infinity=False).filter(
        lambda x: not (x.is_integer() and INTEGER_MAX < abs(x) < 1e21)
    )
    | st.text()
)
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4)
)


def shuffled(value: Any, rng: random.Random) -> Any:
    if isinstance(value, list):
        return [shuffled(item, rng) for item in value]
    if isinstance(value, dict):
        items = [(key, shuffled(item, rng)) for key, item in value.items()]
        rng.shuffle(items)
        return dict(items)
    return value


@given(JSON)
def test_what_is_accepted_survives_a_file(data: Any) -> None:
    """Catches a number that is digested but cannot be checked after it was written and read back."""
    assert canonical(json.loads(canonical(data))) == canonical(data)
    assert json.loads(canonical(data)) == data


@given(JSON, st.randoms(use_true_random=False))
def test_key_order_does_not_matter(data: Any, rng: random.Random) -> None:
    """Catches a digest over insertion order."""
    assert digest(shuffled(data, rng)) == digest(data)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.0, "0"),
        (-0.0, "0"),
        (1.0, "1"),
        (-1.5, "-1.5"),
        (5e-324, "5e-324"),  # smallest subnormal
        (1.7976931348623157e308, "1.7976931348623157e+308"),  # largest double
        (1e21, "1e+21"),  # from here on ECMAScript writes exponents
        (1e30, "1e+30"),
        (4.5, "4.5"),
        (2e-3, "0.002"),
        (1e-6, "0.000001"),  # the last that is written out
        (1e-7, "1e-7"),
        (1.5e-10, "1.5e-10"),
        (0.1 + 0.2, "0.30000000000000004"),
        (9007199254740991, "9007199254740991"),
        (-9007199254740991, "-9007199254740991"),
        (9007199254740991.0, "9007199254740991"),
    ],
)
def test_numbers_print_as_ecmascript_doubles(value: float, expected: str) -> None:
    assert canonical(value) == expected.encode()


def test_keys_sort_by_utf16_code_units() -> None:
    """U+1F600 is D83D DE00 in UTF-16, so it comes before U+FB33; sorting by code point would swap them."""
    data = {"\u20ac": 1, "\r": 2, "\ufb33": 3, "1": 4, "\U0001f600": 5, "\x80": 6, "\xf6": 7}
    keys = list(json.loads(canonical(data)))
    assert keys == ["\r", "1", "\x80", "\xf6", "\u20ac", "\U0001f600", "\ufb33"]


def test_strings_are_escaped_minimally() -> None:
    text = '\u20ac$\x0f\nA\'B"\\\\"/\x7f\u2028'
    assert canonical(text) == '"\u20ac$\\u000f\\nA\'B\\"\\\\\\\\\\"/\x7f\u2028"'.encode()


def test_literals_and_white_space() -> None:
    assert canonical({"b": [True, False, None, {}, []], "a": (1, "x")}) == b'{"a":[1,"x"],"b":[true,false,null,{},[]]}'


def test_a_digest_is_bare_lowercase_hex() -> None:
    assert digest({}) == hashlib.sha256(b"{}").hexdigest()


def nest(levels: int) -> Any:
    data: Any = []
    for _ in range(levels - 1):
        data = [data]
    return data


@pytest.mark.parametrize(
    ("data", "where"),
    [
        ({"a": [1, {"b": float("nan")}]}, "$.a[1].b"),
        ([float("inf")], "$[0]"),
        ([-float("inf")], "$[0]"),
        ({"n": 2**53}, "$.n"),
        ({"n": -(2**53)}, "$.n"),
        ({"n": 1e20}, "$.n"),
        ({"n": float(2**53)}, "$.n"),
        ({"t": "a\ud800"}, "$.t"),
        ({"o": {"\udfff": 1}}, "$.o"),
        ({"o": {1: 1}}, "$.o"),
        ({"o": {None: 1}}, "$.o"),
        ({"s": {1, 2}}, "$.s"),
        ({"s": b"x"}, "$.s"),
        ({"s": object()}, "$.s"),
    ],
)
def test_what_has_no_canonical_form_is_named_by_its_path(data: Any, where: str) -> None:
    """Catches an error of the library below (or a silent coercion of keys) that reaches the user as is."""
    with pytest.raises(ConfigError) as caught:
        canonical(data)
    assert isinstance(caught.value, MadflowError)
    assert str(caught.value).startswith(f"{where}: ")
    str(caught.value).encode()  # the message itself can be printed


def test_depth_is_bounded() -> None:
    """Catches a RecursionError on hostile input."""
    assert canonical(nest(DEPTH_MAX)) == b"[" * DEPTH_MAX + b"]" * DEPTH_MAX
    with pytest.raises(ConfigError, match=f"deeper than {DEPTH_MAX} levels"):
        canonical(nest(DEPTH_MAX + 1))
    with pytest.raises(ConfigError, match="deeper than"):
        canonical(nest(100_000))

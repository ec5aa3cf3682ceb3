"""Canonical JSON (RFC 8785, JCS) and the digests over it.

Two parties that hold the same data must compute the same digest, whatever the order of their keys and however their
JSON library prints numbers. RFC 8785 fixes both: keys are sorted by their UTF-16 code units, numbers are printed as
ECMAScript prints doubles, strings are escaped minimally, and there is no white space.

What is accepted here always survives a file: `canonical(json.loads(canonical(x))) == canonical(x)`. So one thing is
refused beyond the RFC's own limits: a float with an integral value at or above 2**53 (RFC 8785 prints 1e20 as
`100000000000000000000`, which a reader takes for an integer that a double cannot promise to hold). Everything refused
is named by its JSON path.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from typing import Any

import rfc8785

from ..errors import ConfigError

__all__ = ["DEPTH_MAX", "INTEGER_MAX", "canonical", "digest"]

DEPTH_MAX = 100
"""Deepest nesting of arrays and objects that is accepted."""

INTEGER_MAX = 2**53 - 1
"""Largest integer that every reader of JSON holds exactly (RFC 8785 section 3.2.2.3, RFC 7493 section 2.2)."""

_EXPONENT_FROM = 1e21  # ECMAScript prints integral doubles below this as digits, from here on with an exponent


def canonical(data: Any) -> bytes:
    """The RFC 8785 form of `data`, as UTF-8 bytes.

    Args:
        data: None, bool, int, float, str, and lists, tuples and dicts (string keys) of these. A tuple is an array.

    Raises:
        ConfigError: something in `data` has no canonical form; the message names its JSON path, e.g. `$.plan[2].cmd`.
    """
    if not _plain(data, 0):
        _check(data, "$", 0)
    return rfc8785.dumps(data)


def digest(data: Any) -> str:
    """SHA-256 of `canonical(data)`: 64 lowercase hexadecimal digits, no prefix."""
    return hashlib.sha256(canonical(data)).hexdigest()


def _plain(value: Any, depth: int) -> bool:
    """Whether `value` is surely accepted; what it doubts, `_check` decides and names. No paths: it runs every time."""
    kind = type(value)
    if kind is str:
        return bool(value.isascii())
    if kind is dict:
        return depth < DEPTH_MAX and all(
            type(key) is str and key.isascii() and _plain(item, depth + 1) for key, item in value.items()
        )
    if kind is list or kind is tuple:
        return depth < DEPTH_MAX and all(_plain(item, depth + 1) for item in value)
    if kind is int:
        return bool(-INTEGER_MAX <= value <= INTEGER_MAX)
    return value is None or kind is bool


def _check(value: Any, path: str, depth: int) -> None:
    if isinstance(value, str):
        _check_text(value, path)
    elif value is None or isinstance(value, bool):
        return
    elif isinstance(value, int):
        if not -INTEGER_MAX <= value <= INTEGER_MAX:
            raise ConfigError(
                f"{path}: an integer of {value.bit_length()} bits is beyond ±(2**53 - 1), the limit of canonical JSON; "
                "write it as a string"
            )
    elif isinstance(value, float):
        _check_float(value, path)
    elif isinstance(value, Mapping | list | tuple):
        _check_container(value, path, depth + 1)
    else:
        raise ConfigError(f"{path}: {type(value).__name__} is not a JSON value; convert it to plain data first")


def _check_container(value: Mapping[Any, Any] | list[Any] | tuple[Any, ...], path: str, depth: int) -> None:
    if depth > DEPTH_MAX:
        raise ConfigError(f"{path}: nested deeper than {DEPTH_MAX} levels, the limit of canonical JSON; flatten it")
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise ConfigError(f"{path}: the key {key!r} is {type(key).__name__}; keys of JSON objects are strings")
            _check_text(key, path)
            _check(item, f"{path}.{key}", depth)
    elif isinstance(value, Mapping):
        raise ConfigError(f"{path}: {type(value).__name__} is not a dict; convert it with dict() first")
    else:
        for index, item in enumerate(value):
            _check(item, f"{path}[{index}]", depth)


def _check_text(text: str, path: str) -> None:
    if text.isascii():
        return
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ConfigError(
            f"{path}: a lone surrogate (U+{ord(text[error.start]):04X}, character {error.start}) is not Unicode text; "
            "decode the input with errors='replace'"
        ) from error


def _check_float(value: float, path: str) -> None:
    if not math.isfinite(value):
        raise ConfigError(f"{path}: {value} is not a JSON number; leave it out or write null")
    if value.is_integer() and INTEGER_MAX < abs(value) < _EXPONENT_FROM:
        raise ConfigError(
            f"{path}: {value!r} would be read back as an integer beyond ±(2**53 - 1), the limit of canonical JSON; "
            "write it as a string"
        )

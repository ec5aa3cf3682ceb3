"""JSON as hostile text: one value is decoded exactly, or refused with a named cause.

The standard decoder is lenient where a reply must not be: of a key given twice it keeps the last, it reads NaN and
Infinity, turns 1e999 into infinity, and lets an escape smuggle in a lone surrogate that no UTF-8 file can hold. Here
each of these is refused, and so is an integer beyond ±(2⁵³−1), which canonical JSON (RFC 8785) cannot carry, and
nesting deeper than `DEPTH_MAX`. Text that ends too early is told apart from text that is wrong (`truncated_json`,
`bad_json`): the first is what a reply cut off at its token limit looks like.
"""

from __future__ import annotations

import json
import math
from typing import Any

from ..errors import ReplyError

__all__ = ["DEPTH_MAX", "decode_json"]

DEPTH_MAX = 24
_SAFE_INT = 2**53 - 1
_EXPONENT_FROM = 1e21  # RFC 8785 writes whole doubles below this without an exponent: as integers
_CUT_CHARS = 6  # the longest token that can be cut in its middle outside of a string: `false`, `\u12ab`


class _RefusedError(ValueError):
    """Raised inside the JSON decoder, which passes it through."""

    def __init__(self, cause: str, detail: str) -> None:
        self.cause, self.detail = cause, detail
        super().__init__(detail)


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise _RefusedError("duplicate_key", repr(twice[:80]))
    return result


def _no_constant(name: str) -> Any:
    raise _RefusedError("bad_number", name)


def _safe_int(digits: str) -> int:
    if len(digits) > 17 or abs(int(digits)) > _SAFE_INT:
        raise _RefusedError("bad_number", f"{digits[:24]} is beyond ±(2**53-1)")
    return int(digits)


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise _RefusedError("bad_number", f"{digits[:24]} is not a finite double")
    if value.is_integer() and _SAFE_INT < abs(value) < _EXPONENT_FROM:
        raise _RefusedError("bad_number", f"{digits[:24]} would be read back as an integer beyond ±(2**53-1)")
    return value


_DECODER = json.JSONDecoder(
    object_pairs_hook=_no_duplicates, parse_constant=_no_constant, parse_int=_safe_int, parse_float=_finite
)


def decode_json(body: str) -> tuple[Any, int]:
    """The JSON value at the very start of `body`, and the offset at which it ends.

    Raises ReplyError: truncated_json, bad_json, duplicate_key, bad_number, too_deep, not_utf8.
    """
    try:
        value, end = _DECODER.raw_decode(body)
    except _RefusedError as error:
        raise ReplyError(error.cause, error.detail) from None
    except RecursionError:
        raise ReplyError("too_deep", f"nested deeper than {DEPTH_MAX}") from None
    except json.JSONDecodeError as error:
        rest = body[error.pos :]
        cut = error.msg.startswith("Unterminated string") or (len(rest) <= _CUT_CHARS and "}" not in rest)
        cause = "truncated_json" if cut else "bad_json"
        raise ReplyError(cause, f"{error.msg} at character {error.pos} of {len(body)}") from None
    if body.count("{", 0, end) + body.count("[", 0, end) > DEPTH_MAX:
        _check_depth(value)
    if "\\ud" in body or "\\uD" in body:  # an escape may hide a lone surrogate
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise ReplyError("not_utf8", "a lone surrogate, escaped") from None
    return value, end


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(DEPTH_MAX):
        below: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                below.extend(item.values())
            elif isinstance(item, list):
                below.extend(item)
        level = [item for item in below if isinstance(item, (dict, list))]
        if not level:
            return
    raise ReplyError("too_deep", f"nested deeper than {DEPTH_MAX}")

"""What is wrong with a suite's file, in that file's words: which table and key, what may stand there, what does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from ..prompts import nearest

__all__ = ["first_wrong"]

_SHOWN: Final = 60
_MEANT: Final = {
    "bool_parsing": "true or false is meant",
    "bool_type": "true or false is meant",
    "dict_type": "a table of keys is meant",
    "int_from_float": "a whole number is meant",
    "int_parsing": "a whole number is meant",
    "int_type": "a whole number is meant",
    "model_type": "a table of keys is meant",
    "string_type": "text in quotes is meant",
    "greater_than_equal": "{ge} or more is meant",
    "less_than_equal": "{le} or less is meant",
    "string_too_long": "text of length {max_length} or less is meant",
    "string_too_short": "text of length {min_length} or more is meant",
    "too_short": "{min_length} entries or more are meant",
    "tuple_type": "a list is meant",
}


def first_wrong(
    error: ValidationError,
    raw: Mapping[str, Any],
    tables: Mapping[str, type[BaseModel]],
    words: Mapping[str, str],
) -> str:
    """The first problem as "[[data]] 1 (label 'x'), key colour: what is meant (given: what stands there)".

    Args:
        raw: the file's own content.
        tables: the model of each kind of table, "" of the file as a whole.
        words: every pattern of these models to what it asks for.
    """
    found = error.errors(include_url=False)  # a key that is missing may be the one that is misspelt
    first = next((one for one in found if one["type"] == "extra_forbidden"), found[0])
    table, place, key = "", [], ""
    at: Any = raw
    for part, following in zip(first["loc"], (*first["loc"][1:], None), strict=True):
        at = _entry(at, part)
        if part in tables and isinstance(following, int):
            table = str(part)
            named = _entry(at, following)
            label = next((named[one] for one in ("name", "label") if isinstance(_entry(named, one), str)), "")
            place.append(f"[[{table}]] {following + 1}" + (f" ({label[:_SHOWN]!r})" if label else ""))
            key = ""
        elif isinstance(part, str) and not key:
            key = f"key {part}"
        elif isinstance(part, int) and key:
            key += f", entry {part + 1}"
    where = ", ".join([*place, *([key] if key else [])])
    if first["loc"][-1] in tables and isinstance(first["input"], Mapping):
        said = f"this is a list of tables; write [[{first['loc'][-1]}]]"
    else:
        said = _said(first, list(tables[table].model_fields), words)
    return f"{where}: {said}" if where else said


def _entry(value: Any, part: Any) -> Any:
    """What stands at a key or place; None where nothing does."""
    if isinstance(value, Mapping):
        return value.get(part)
    if isinstance(value, Sequence) and not isinstance(value, str) and isinstance(part, int) and part < len(value):
        return value[part]
    return None


def _said(first: ErrorDetails, keys: Sequence[str], words: Mapping[str, str]) -> str:
    kind, context = first["type"], first.get("ctx") or {}
    given = f"(given: {repr(first['input'])[:_SHOWN]})"
    if kind == "extra_forbidden":
        return f"there is no such key{nearest(str(first['loc'][-1]), keys)}; there are {', '.join(keys)}"
    if kind == "missing":
        return "is needed and is not there"
    if kind == "literal_error":
        allowed = [one.strip("' ") for one in str(context["expected"]).replace(" or ", ", ").split(",")]
        return f"one of {', '.join(allowed)} is meant{nearest(str(first['input']), allowed)} {given}"
    if kind == "string_pattern_mismatch":
        return f"write {words[str(context['pattern'])]} {given}"
    return f"{_MEANT[kind].format_map(context) if kind in _MEANT else first['msg']} {given}"

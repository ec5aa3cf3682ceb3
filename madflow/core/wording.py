"""What is wrong with a document that a person wrote, in the words of that document rather than of its reader."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Final

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

__all__ = ["first_problem"]

_MEANT: Final = {
    "tuple_type": 'a list is meant here, e.g. ["{value}"]',
    "list_type": 'a list is meant here, e.g. ["{value}"]',
    "dict_type": "a table of keys is meant here",
    "model_type": "a table of keys is meant here",
    "model_attributes_type": "a table of keys is meant here",
    "missing": "is needed and is not there",
}


def first_problem(error: ValidationError, model: type[BaseModel] | None = None, known: Iterable[str] = ()) -> str:
    """The first problem as "where: what, and what is meant".

    Args:
        model: whose fields the top level has; known: keys that may stand where an unknown one was found.
    """
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    said = _said(first, known or (model.model_fields if model is not None and len(first["loc"]) == 1 else ()))
    return f"{where}: {said}" if where else said


def _said(first: ErrorDetails, known: Iterable[str]) -> str:
    value = str(first["input"])[:60]
    if first["type"] == "extra_forbidden":
        name, names = str(first["loc"][-1]), sorted(known)
        near = get_close_matches(name, names, n=1)
        hint = f"; did you mean {near[0]}?" if near else f"; there are {', '.join(names)}" if names else ""
        return f"there is no such key{hint}"
    if first["type"] in _MEANT:
        return _MEANT[first["type"]].format(value=value)
    if first["type"] == "value_error":
        return first["msg"].removeprefix("Value error, ")
    return f"{first['msg']} (value: {value!r})"

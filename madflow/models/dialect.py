"""What one server takes of the optional parameters, as far as it has said; learnt from refusals, never guessed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from ..ports import ReplySchema

__all__ = ["REFUSABLE", "Dialect", "is_closed", "response_format"]


REFUSABLE: Final = frozenset(
    {
        "response_format:json_schema",
        "response_format:json_object",
        "max_tokens",
        "max_completion_tokens",
        "temperature",
        "seed",
        "stream_options",
    }
)
"""The words for what a server can refuse and be asked without."""

_LIMITS: Final = ("max_tokens", "max_completion_tokens")


@dataclass(frozen=True, slots=True)
class Dialect:
    """What one server takes: everything but what it has refused.

    A set of words, so that calls in flight together, which are refused for the same reason, teach it once.

    Attributes:
        first_limit: what the limit of a reply is called until the server refuses it.
        refused: words of `REFUSABLE`.
    """

    first_limit: str = "max_tokens"
    refused: frozenset[str] = frozenset()

    @property
    def schema(self) -> str:
        """How a schema is sent: json_schema, json_object or none."""
        forms = ("json_schema", "json_object")
        return next((form for form in forms if f"response_format:{form}" not in self.refused), "none")

    @property
    def limit(self) -> str:
        """What the limit of a reply is called: max_tokens or max_completion_tokens."""
        return self.first_limit if self.first_limit not in self.refused else _other(self.first_limit)

    def takes(self, parameter: str) -> bool:
        """Whether to send temperature, seed or stream_options."""
        return parameter not in self.refused

    def without(self, words: Iterable[str]) -> Dialect:
        """The dialect of a server that has refused these, too."""
        return replace(self, refused=self.refused.union(words))

    def word(self, parameter: str) -> str:
        """The word for what this dialect sends of a parameter; empty where there is nothing left to give up."""
        if parameter == "response_format":
            return f"response_format:{self.schema}" if self.schema != "none" else ""
        if parameter in _LIMITS:
            return parameter if parameter == self.limit and _other(parameter) not in self.refused else ""
        return parameter if self.takes(parameter) and parameter in REFUSABLE else ""


def _other(limit: str) -> str:
    return _LIMITS[1 - _LIMITS.index(limit)]


def response_format(schema: ReplySchema, mode: str) -> dict[str, Any]:
    """The response_format parameter for a schema. `mode`: json_schema or json_object."""
    if mode == "json_object":
        return {"type": "json_object"}
    return {
        "type": "json_schema",
        "json_schema": {"name": schema.name, "strict": is_closed(schema.schema), "schema": schema.schema},
    }


def is_closed(schema: Any) -> bool:
    """Whether every object in a schema names all its fields as required and admits no others: strict mode's terms."""
    if isinstance(schema, Mapping):
        if schema.get("type") == "object":
            properties = schema.get("properties", {})
            if schema.get("additionalProperties") is not False or set(schema.get("required", ())) != set(properties):
                return False
        return all(is_closed(value) for value in schema.values())
    if isinstance(schema, (list, tuple)):
        return all(is_closed(value) for value in schema)
    return True

"""What one server takes of the optional parameters, as far as it has said; learnt from refusals, never guessed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..ports import ReplySchema

__all__ = ["Dialect", "is_closed", "response_format"]


@dataclass(frozen=True, slots=True)
class Dialect:
    """What this server takes, as far as is known."""

    schema: str = "json_schema"  # json_schema | json_object | none
    limit: str = "max_tokens"  # or max_completion_tokens
    limits_tried: frozenset[str] = frozenset()
    temperature: bool = True
    seed: bool = True
    stream_options: bool = True

    def without(self, parameter: str) -> Dialect:
        """The dialect after a server refused `parameter`; the same one where there is nothing left to give up."""
        if parameter == "response_format":
            return replace(self, schema={"json_schema": "json_object"}.get(self.schema, "none"))
        if parameter in ("max_tokens", "max_completion_tokens"):
            tried = self.limits_tried | {parameter}
            other = "max_tokens" if parameter == "max_completion_tokens" else "max_completion_tokens"
            return self if other in tried else replace(self, limit=other, limits_tried=tried)
        return replace(
            self,
            temperature=self.temperature and parameter != "temperature",
            seed=self.seed and parameter != "seed",
            stream_options=self.stream_options and parameter != "stream_options",
        )

    def learnt(self, sent: Dialect, parameter: str) -> Dialect:
        """This dialect after a request in the dialect `sent` was refused for `parameter`.

        Calls in flight together are refused for the same reason: only the first of them teaches anything.
        """
        return self.without(parameter) if self._about(parameter) == sent._about(parameter) else self

    def _about(self, parameter: str) -> object:
        field = {"response_format": "schema", "max_tokens": "limit", "max_completion_tokens": "limit"}
        return getattr(self, field.get(parameter, parameter))


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

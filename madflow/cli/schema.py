"""`madflow schema`: the JSON schemas of what madflow writes, and of the two files that its users write."""

from __future__ import annotations

from typing import Any, Final

import click

from .output import print_text
from .text import json_text

__all__ = ["command", "plan_schema", "policy_schema"]

_DRAFT: Final = "https://json-schema.org/draft/2020-12/schema"
_DOCUMENTS: Final = ("plan", "policy", "proposal", "commit_record", "receipt")


@click.command("schema")
@click.argument("document", type=click.Choice(_DOCUMENTS))
@click.option("--json", "as_json", is_flag=True, help="The schema is JSON with or without this.")
def command(document: str, as_json: bool) -> None:
    """Print the JSON schema (draft 2020-12) of a DOCUMENT: a plan or policy that you write, the others madflow writes.

    A policy is TOML; its schema is that of the same data as JSON.
    """
    from ..commit.receipt import receipt_schema
    from ..core.journal import commit_record_schema
    from ..core.proposal import proposal_schema

    made = {
        "plan": plan_schema,
        "policy": policy_schema,
        "proposal": proposal_schema,
        "commit_record": commit_record_schema,
        "receipt": receipt_schema,
    }
    print_text(json_text(made[document]()))


def plan_schema() -> dict[str, Any]:
    """The JSON schema of a plan.json, as `madflow propose` reads it; that checks more (paths, hosts, sizes)."""
    from pydantic import TypeAdapter

    from ..core.panel_request import PlanFile
    from ..core.plan import Step

    schema = PlanFile.model_json_schema()
    step = TypeAdapter[Any](Step).json_schema()
    definitions = {**schema.get("$defs", {}), **step.pop("$defs")}
    properties = {**schema["properties"], "plan": {"type": "array", "minItems": 1, "items": step}}
    return {"$schema": _DRAFT, "$id": "madflow/plan/1", **schema, "properties": properties, "$defs": definitions}


def policy_schema() -> dict[str, Any]:
    """The JSON schema of a policy.toml, as its data."""
    from ..core.policy import Policy

    return {"$schema": _DRAFT, "$id": "madflow/policy/1", **Policy.model_json_schema()}

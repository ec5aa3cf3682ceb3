"""A root, its ledger, and plans that are approved at once: what the tests of committers share."""

import asyncio
import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from madflow.commit.api import Committer
from madflow.commit.steps import Step
from madflow.core.invariants import violations
from madflow.core.policy import Policy, parse_policy
from madflow.ledger.sqlite import SqliteLedger, open_ledger
from madflow.panel.api import propose, vote

POLICY = """\
[[allow]]
step = ["read", "write", "patch"]
paths = ["out/**"]
[[allow]]
step = ["command", "test"]
commands = ["true", "false", "sh", "python3"]
[[allow]]
step = ["http"]
hosts = ["127.0.0.1"]
[[allow]]
step = ["sql"]
databases = ["ledger"]
[[allow]]
step = ["call"]
names = ["*"]
"""


def write(name: str, content: str = "new\n") -> dict[str, Any]:
    return {"step": "write", "target": f"file:out/{name}", "content": content}


def call(name: str, /, **args: Any) -> dict[str, Any]:
    return {"step": "call", "name": name, "args": args}


def policy(**tables: Any) -> Policy:
    """A policy that allows every own step, and says more."""
    return parse_policy({"allow": [{"step": ["call"], "names": ["*"]}], **tables})


class Bench:
    """One root. `ledger` is open as long as the bench; committers share it unless told otherwise."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "out").mkdir(parents=True)
        (root / "policy.toml").write_text(POLICY)
        self.path = root / ".madflow" / "ledger.db"
        self.ledger: SqliteLedger = open_ledger(self.path)

    def committer(self, *steps: Step, **fields: Any) -> Committer:
        return Committer(self.root, **{"ledger": self.ledger, "steps": steps, **fields})

    async def approved(self, plan: Sequence[Mapping[str, Any]], **file: Any) -> str:
        """The id of a plan that its panel of one has approved."""
        name = await propose(self.ledger, {"plan": list(plan), **file}, panel="ann", proposer="eve", root=self.root)
        await vote(self.ledger, name, agent="ann", decision="approve")
        return name

    def rules(self) -> Policy:
        """What policy.toml says."""
        return parse_policy(tomllib.loads(POLICY))

    def read(self, name: str) -> str | None:
        path = self.root / "out" / name
        return path.read_text() if path.exists() else None

    def kinds(self, name: str = "") -> list[str]:
        """The kinds of the scope's records, in order; of one proposal."""
        records = self.ledger.read("commit/root")
        return [record.kind for record in records if not name or record.payload.get("proposal_id") == name]

    def close(self) -> None:
        """Whatever a test does, the records keep every promise that can be read from them."""
        found = violations(self.ledger.read("commit/root"))
        self.ledger.close()
        assert not found, json.dumps([str(one) for one in found], indent=1)


async def until(said: Any, seconds: float = 10.0) -> None:
    """Wait until `said()` is true; fails loudly, never silently late."""
    async with asyncio.timeout(seconds):
        while not said():  # noqa: ASYNC110 - what is waited for is in another process, or a file
            await asyncio.sleep(0.01)

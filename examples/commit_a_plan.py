"""A plan is approved by two of three, carried out once, and taken back where a step of it fails."""

import asyncio
import tempfile
from pathlib import Path

from madflow import Committer, Receipt
from madflow.ledger.sqlite import open_ledger
from madflow.panel.api import propose, vote

POLICY = """\
[[allow]]
step = ["write"]
paths = ["config/**"]
[[allow]]
step = ["test"]
commands = ["grep"]
"""


async def commit(root: Path, name: str, content: str) -> Receipt:
    """Write a file, and see that it says what it should."""
    write = {"step": "write", "target": "file:config/queue.toml", "content": content}
    test = {"step": "test", "cmd": ["grep", "-q", "attempts", "config/queue.toml"]}
    with open_ledger(root / ".madflow" / "ledger.db") as ledger:
        await propose(ledger, [write, test], panel="ann,bob,ci", proposer="eve", root=root, proposal_id=name)
        for agent in ("ann", "ci"):
            await vote(ledger, name, agent=agent, decision="approve")
        return await Committer(root, ledger=ledger).commit(name)


def main(root: Path) -> list[Receipt]:
    (root / "policy.toml").write_text(POLICY)
    return [asyncio.run(commit(root, "good", "attempts = 3\n")), asyncio.run(commit(root, "bad", "tries = 4\n"))]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        print([receipt.status for receipt in main(Path(folder))], (Path(folder) / "config/queue.toml").read_text())

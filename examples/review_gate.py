"""A review as a CI gate: fails the build when the panel asks for changes. The analysers review: no key, no network."""

import sys
from pathlib import Path

from madflow import Proposal, review_debate, run_sync

PULL_REQUEST = Path(__file__).parent / "pull_request"


def main(diff: Path = PULL_REQUEST / "change.diff", tree: Path = PULL_REQUEST / "tree") -> Proposal:
    proposal = run_sync(review_debate(diff.read_bytes(), root=tree))
    assert isinstance(proposal, Proposal)
    return proposal


def gate(proposal: Proposal) -> int:
    """0 to merge; 1 where changes are asked for, or where nobody could read the change."""
    for finding in proposal.content["findings"]:
        print(f"{finding['file']}:{finding['line']}: {finding['severity']}: {finding['text']}")
    return 0 if proposal.approved and proposal.content["verdict"] == "approve" else 1


if __name__ == "__main__":
    sys.exit(gate(main()))

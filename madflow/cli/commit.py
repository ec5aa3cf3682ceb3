"""`madflow commit`, also called `execute`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .committing import (
    commit_options,
    committer_of,
    open_committer_ledger,
    read_request,
    receipt_exit,
    receipt_text,
    run_async,
    where_given,
)
from .exits import DONE, UNDECIDED
from .options import check_out
from .output import print_text, write_atomically
from .text import clean, json_text

if TYPE_CHECKING:
    from ..commit.receipt import Receipt

__all__ = ["command"]


@click.command("commit")
@click.argument("proposal", metavar="FILE|ID|-")
@commit_options
@click.option("--dry-run", is_flag=True, help="Say what the gate says and what would happen; record nothing.")
@click.option("--wait", "wait_s", type=click.FloatRange(0), default=300.0, show_default=True, help="Seconds to wait.")
@click.option("--confirm", "by", metavar="NAME", default="", help="You confirm a proposal that stops for a human.")
@click.option("--out", metavar="FILE", default="", help="Write the commit's records here, as one document.")
@click.option("--json", "as_json", is_flag=True, help="Print the receipt as JSON on stdout, and nothing else there.")
def command(proposal: str, dry_run: bool, wait_s: float, by: str, out: str, as_json: bool, **options: Any) -> int:  # noqa: PLR0917 - click passes by name
    """Carry out an approved proposal, once: a second commit returns the same receipt and does nothing.

    What is committed is what the ledger knows under the proposal's id; a file that says something else is refused.
    """
    from ..commit.gating import proposal_of
    from ..commit.receipt import commit_document

    if out:
        check_out(Path(out))
    wanted = read_request(proposal)
    ledger = open_committer_ledger(options["root"], options["ledger"])
    try:
        committer = committer_of(ledger, options)
        if dry_run:
            asked = proposal_of(ledger, wanted, committer.clock)
            before = committer.receipt(asked.proposal_id)
            if before.steps and not asked.refusals:
                return _already(before, as_json=as_json)
            return _dry_run(committer.check(wanted, confirmed_by=by), as_json=as_json)
        receipt = run_async(committer.commit(wanted, wait_s=wait_s, confirmed_by=by))
        if out:
            write_atomically(Path(out), json_text(commit_document(ledger, committer.scope, receipt.proposal_id)))
    finally:
        ledger.close()
    print_text(json_text(receipt.to_json()) if as_json else receipt_text(receipt, where_given(options)))
    return receipt_exit(receipt)


def _already(receipt: Receipt, *, as_json: bool) -> int:
    """Of a commit that was let in before: the gate would hold against it what it has changed itself."""
    data = {
        "admitted": True,
        "proposal_id": receipt.proposal_id,
        "already": receipt.status,
        "receipt": receipt.to_json(),
    }
    text = f"was admitted before; a commit would go on with it, or return its receipt:\n{receipt_text(receipt)}"
    print_text(json_text(data) if as_json else text)
    return receipt_exit(receipt)


def _dry_run(verdict: Any, *, as_json: bool) -> int:
    from ..core.gate import Rejected
    from ..core.plan import targets

    if isinstance(verdict, Rejected):
        reasons = [reason.to_json() for reason in verdict.reasons]
        lines = ["refused:"]
        for reason in reasons:
            first, *rest = clean(str(reason["message"])).splitlines()
            lines += [f"  {reason['code']}: {first}", *(f"    {line}" for line in rest)]
        data: dict[str, Any] = {"admitted": False, "proposal_id": verdict.proposal_id, "reasons": reasons}
    else:
        steps = [
            {"step_index": index, "step": step.step, "targets": list(targets(step)), "effect_class": kind}
            for index, (step, kind) in enumerate(zip(verdict.steps, verdict.classes, strict=True))
        ]
        lines = ["would be admitted; nothing is done:"]
        lines += [
            f"  step {row['step_index']}: {row['step']} {clean(', '.join(row['targets']))} ({row['effect_class']})"
            for row in steps
        ]
        data = {"admitted": True, "proposal_id": verdict.proposal_id, "steps": steps}
    print_text(json_text(data) if as_json else "\n".join(lines) + "\n")
    return DONE if data["admitted"] else UNDECIDED

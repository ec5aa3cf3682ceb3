"""`madflow replay`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..errors import ConfigError
from .exits import UNDECIDED, exit_code
from .options import check_id, check_out, check_root, ledger_option, ledger_path, open_for_reading
from .output import note, write_atomically
from .running import report
from .text import json_text

if TYPE_CHECKING:
    from ..ports import Ledger

__all__ = ["command"]


@click.command("replay")
@click.argument("debate_id", metavar="ID")
@ledger_option
@click.option("--out", metavar="FILE", default="", help="Write the proposal here.")
@click.option("--json", "as_json", is_flag=True, help="Print the proposal as JSON on stdout, and nothing else there.")
def command(debate_id: str, root: str, ledger: str, out: str, as_json: bool) -> int:
    """Decide the debate ID again from its recorded answers: the same proposal, byte for byte, without any model.

    ID may also be that of its proposal. The exit code is that of the debate.
    """
    from ..clock import SystemClock
    from ..debate.run import replay
    from ..debate.stream import DebateStream, stream_name

    check_id(debate_id)
    if out:
        check_out(Path(out))
    path = ledger_path(ledger, check_root(root))
    opened = open_for_reading(path)
    try:
        debate_id = _debate_of(opened, debate_id)
        if not opened.read(stream_name(debate_id)):
            known = [name.removeprefix("debate/") for name in opened.streams() if name.startswith("debate/")]
            listed = ", ".join(known[-5:]) or "none"
            raise ConfigError(f"{path} has no debate {debate_id!r}; the latest it has: {listed}")
        if DebateStream.load(opened, debate_id, SystemClock()).landed is None:
            note(f"debate {debate_id!r} has not landed yet; run the command that started it again to finish it")
            return UNDECIDED
        proposal = replay(opened, debate_id)
        if out:
            write_atomically(Path(out), json_text(proposal.to_json()))
        report(proposal, opened, as_json=as_json, out=out)
    finally:
        opened.close()
    return exit_code(proposal)


def _debate_of(ledger: Ledger, name: str) -> str:
    """The debate's id, where a proposal's (the debate's with -p and a number) was given; `name` itself otherwise."""
    from ..debate.stream import stream_name

    debate_id, _, number = name.rpartition("-p")
    is_proposal = debate_id and number.isdecimal() and not ledger.read(stream_name(name))
    return debate_id if is_proposal and ledger.read(stream_name(debate_id)) else name

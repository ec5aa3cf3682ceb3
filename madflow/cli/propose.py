"""`madflow propose`."""

from __future__ import annotations

import asyncio
import getpass
import re
from collections.abc import Mapping
from typing import Final

import click

from ..errors import ConfigError
from .options import check_root, ledger_option, ledger_path, open_for_writing
from .output import note, print_text
from .summary import command_line, count, where_words
from .text import json_text

__all__ = ["command", "parse_duration", "proposer_name"]

_UNITS: Final[Mapping[str, int]] = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_DAYS_MAX: Final = 36_525
_DURATION: Final = re.compile(r"([0-9]{1,40})([smhd])", re.ASCII)


def parse_duration(option: str, text: str, days_max: int = _DAYS_MAX) -> int:
    """Seconds of a duration like 90s, 30m, 24h or 7d, up to `days_max`. Raises ConfigError naming the option."""
    found = _DURATION.fullmatch(text.strip())
    if found is None or int(found[1]) == 0:
        raise ConfigError(f"{option} {text[:60]!r} is no duration; write a whole number and s, m, h or d, e.g. 24h")
    seconds = int(found[1]) * _UNITS[found[2]]
    if seconds > days_max * _UNITS["d"]:
        raise ConfigError(f"{option} {text[:60]!r} exceeds the limit of {days_max}d; give a shorter time")
    return seconds


def proposer_name(given: str | None) -> str:
    """Who proposes: what was given, else (None) the name of the user who runs this. Raises ConfigError for no name."""
    from ..core.panel_request import check_agent

    if given is not None:
        try:
            return check_agent(given)
        except ConfigError as error:
            raise ConfigError(f"--proposer {error}; leave it out for your own name") from error
    try:
        return check_agent(getpass.getuser())
    except (OSError, KeyError, ConfigError) as error:
        raise ConfigError("the user who runs this has no name that could stand here; give --proposer NAME") from error


@click.command("propose")
@click.argument("file", metavar="PLAN")
@click.option("--panel", required=True, metavar="SEATS", help="Who votes: NAME[:WEIGHT][@FAMILY], separated by commas.")
@click.option("--rule", metavar="RULE", default="majority", show_default=True, help="Decision rule.")
@click.option("--expires", metavar="TIME", default="24h", show_default=True, help="Voting ends then: 30m, 24h, 7d.")
@click.option("--proposer", metavar="NAME", default=None, help="Who proposes (default: the user who runs this).")
@click.option("--id", "proposal_id", metavar="ID", default="", help="Name the proposal; it is not made twice.")
@ledger_option
@click.option("--json", "as_json", is_flag=True, help="Print the proposal as JSON on stdout, and nothing else there.")
def command(
    file: str,
    *,
    panel: str,
    rule: str,
    expires: str,
    proposer: str | None,
    proposal_id: str,
    root: str,
    ledger: str,
    as_json: bool,
) -> int:
    """Put the plan in the file PLAN (- reads stdin) to a panel, and print the proposal's id.

    The file needs only {"plan": [...]}. The files that the plan changes are pinned as they are beneath --root now.
    """
    from ..core.panel_request import EXPIRES_S_MAX
    from ..debate.evidence import check_evidence
    from ..panel.api import check, propose
    from ..panel.plan_file import read_plan_file

    tree = check_root(root)
    plan, who = read_plan_file(file), proposer_name(proposer)
    seconds = parse_duration("--expires", expires, EXPIRES_S_MAX // _UNITS["d"])
    path, places = ledger_path(ledger, tree), where_words(root, ledger)
    opened = open_for_writing(path)

    async def run() -> int:
        name = await propose(
            opened,
            plan,
            panel=panel,
            proposer=who,
            rule=rule,
            expires_s=seconds,
            root=tree,
            proposal_id=proposal_id,
            verify=lambda claims: check_evidence(claims, root=tree),
        )
        proposal = await check(opened, name)
        if as_json:
            print_text(json_text(proposal.to_json()))
            return 0
        print_text(f"{name}\n")
        vote = command_line("vote", name, "--agent", "NAME", "--decision", "approve|reject|abstain", where=places)
        note(f"{count(len(proposal.panel), 'seat')} may vote until {proposal.expires_at}: {vote}")
        return 0

    try:
        return asyncio.run(run())
    finally:
        opened.close()

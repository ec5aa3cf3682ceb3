"""`madflow ledger`."""

from __future__ import annotations

import asyncio
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..errors import ConfigError, LedgerCorrupt
from .audit_text import stats_text, story_text
from .exits import DONE, ERROR
from .options import check_out, check_root, ledger_option, ledger_path, open_existing, open_for_reading
from .output import note, print_text, write_lines
from .propose import parse_duration
from .text import clean, json_text, one_line

if TYPE_CHECKING:
    from ..commit.audit import Verified
    from ..ports import Ledger, Record

__all__ = ["command"]

_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout, and nothing else there.")


@click.group("ledger")
def command() -> None:
    """What was recorded: read it, check it, keep a copy, count, and remove what is no longer needed."""


_PROPOSAL = click.option(
    "--proposal", "proposal_id", metavar="ID", default="", help="Only what is about this proposal or debate."
)


def _named(ledger: Ledger, asked: str) -> str:
    """The proposal or debate that is meant. Raises UnknownProposal, which is a usage error."""
    from ..commit.named import subject_named

    return subject_named(ledger, asked) if asked else ""


@command.command("log")
@_PROPOSAL
@click.option("--scope", metavar="NAME", default="", help="Only this scope's commits, requests and elections.")
@click.option("--limit", type=click.IntRange(1, 1_000_000), default=200, show_default=True, help="The last so many.")
@click.option("--accounts", is_flag=True, help="Also what each call of a debate was charged, and snapshots.")
@ledger_option
@_JSON
def _log(*, proposal_id: str, scope: str, limit: int, accounts: bool, root: str, ledger: str, as_json: bool) -> None:
    """Tell what was recorded, oldest first: debates, votes, requests, elections, commits."""
    from ..commit.story import plain_record, records_of, tell

    opened = open_for_reading(ledger_path(ledger, check_root(root)))
    try:
        proposal_id = _named(opened, proposal_id)
        last: deque[Record] = deque(maxlen=limit)
        count = 0
        for record in records_of(opened, proposal_id=proposal_id, scope=scope, accounts=accounts):
            last.append(record)
            count += 1
    finally:
        opened.close()
    if as_json:
        print_text(json_text({"left_out": count - len(last), "records": [plain_record(record) for record in last]}))
    else:
        print_text(story_text([tell(record) for record in last], count - len(last)))


@command.command("verify")
@click.argument("file", metavar="[FILE]", default="")
@_PROPOSAL
@ledger_option
@_JSON
def _verify(file: str, proposal_id: str, root: str, ledger: str, as_json: bool) -> int:
    """Check the ledger, or the export FILE: the chain, slots, terms, every promise of the commit layer, and that all
    debates and votes fold again. Exit code 1 where something is wrong.

    With --proposal: the whole chain, and of the rest what belongs to that proposal.
    """
    from ..commit.audit import Verified, verify_all, verify_proposal
    from ..commit.exported import read_export

    def checked(opened: Ledger) -> Verified:
        return verify_proposal(opened, proposal_id) if proposal_id else verify_all(opened)

    if file:
        try:
            found = checked(read_export(Path(file)))
        except LedgerCorrupt as error:
            found = Verified(0, 0, 0, (str(error),))
        except OSError as error:
            raise ConfigError(f"{file}: {error.strerror or error}; give what `madflow ledger export` wrote") from error
    else:
        try:
            opened = open_for_reading(ledger_path(ledger, check_root(root)))
        except LedgerCorrupt as error:
            found = Verified(0, 0, 0, (str(error),))
        else:
            try:
                found = checked(opened)
            finally:
                opened.close()
    print_text(json_text(found.to_json()) if as_json else _verified(found))
    return ERROR if found.problems else DONE


def _verified(found: Verified) -> str:
    looked = f"{found.records} records, {found.scopes} scopes, {found.proposals} debates and votes"
    if not found.problems:
        return f"verified: {looked}\n"
    lines = [f"{len(found.problems)} problems in {looked}", *(one_line(problem, 600) for problem in found.problems)]
    return clean("\n".join(lines)) + "\n"


@command.command("export")
@click.option("--out", metavar="FILE", default="", help="Write it here (default: stdout).")
@_PROPOSAL
@ledger_option
def _export(out: str, proposal_id: str, root: str, ledger: str) -> None:
    """Print all records as JSON lines, and a trailer with their count and the last hash. Keep the trailer elsewhere: it
    is what shows a cut at the end.

    With --proposal it is an excerpt: that proposal's lines, for reading. It has no chain, so `verify` refuses it.
    """
    from ..commit.exported import excerpt_lines

    if out:
        check_out(Path(out))
    opened = open_for_reading(ledger_path(ledger, check_root(root)))
    try:
        about = _named(opened, proposal_id)
        lines = excerpt_lines(opened, about) if about else opened.export_lines()
        count = write_lines(Path(out) if out else None, lines)
    finally:
        opened.close()
    note(f"{count - 1} records and the trailer" + (f" in {one_line(out, 300)}" if out else ""))


@command.command("stats")
@click.option("--scope", metavar="NAME", default="", help="Only this scope.")
@_PROPOSAL
@ledger_option
@_JSON
def _stats(scope: str, proposal_id: str, root: str, ledger: str, as_json: bool) -> None:
    """Count: why steps fail, how often commits are taken back, conflicts, doubts, latencies, elections."""
    from ..commit.stats import stats as count

    opened = open_for_reading(ledger_path(ledger, check_root(root)))
    try:
        found = count(opened, scope, _named(opened, proposal_id))
    finally:
        opened.close()
    print_text(json_text(found) if as_json else stats_text(found))


@command.command("prune")
@click.option("--before", metavar="TIME", required=True, help="Only what ended so long ago or earlier: 30d, 24h.")
@click.option("--dry-run", is_flag=True, help="Say what would go; remove nothing.")
@ledger_option
@_JSON
def _prune(before: str, dry_run: bool, root: str, ledger: str, as_json: bool) -> None:
    """Remove the texts of old debates and votes that nothing needs any more; the chain still verifies.

    What is open, in doubt, or approved and not committed stays, and so does what says who committed what. Beside the
    ledger go the locks and the kept file contents of commits that ended, once they are a day old.
    """
    from ..clock import SystemClock
    from ..commit.prune import prunable
    from ..commit.prune import prune as remove
    from ..commit.run_files import remove_run_files, run_files

    path, now_ms = ledger_path(ledger, check_root(root)), SystemClock().now_ms()
    before_ms = now_ms - parse_duration("--before", before) * 1000
    opened = open_for_reading(path) if dry_run else open_existing(path)
    try:
        if dry_run:
            chosen, erased = prunable(opened, before_ms=before_ms, now_ms=now_ms), None
            files = run_files(opened, before_ms=before_ms, now_ms=now_ms)
        else:
            chosen, done = asyncio.run(remove(opened, before_ms=before_ms, now_ms=now_ms))
            erased = done.erased
            files = remove_run_files(opened, before_ms=before_ms, now_ms=now_ms)
    finally:
        opened.close()
    if as_json:
        print_text(json_text({**chosen.to_json(), "dry_run": dry_run, "erased": erased, "run_files": files.to_json()}))
        return
    kept = ", ".join(f"{count} {why}" for why, count in sorted(chosen.kept.items())) or "none"
    verb = "would be removed" if dry_run else "removed"
    print_text(f"{chosen.records} payloads of {len(chosen.streams)} debates and votes {verb}; kept: {kept}\n")
    left = ", ".join(f"{count} {why}" for why, count in sorted(files.left.items())) or "none"
    size = f"{len(files.contents)} kept contents ({files.size} bytes)"
    print_text(f"{len(files.keys)} locks and {size} {verb}; kept: {one_line(left, 300)}\n")
    if erased is False:
        note("another process is reading the ledger: the bytes are gone from its -wal file once that has ended")

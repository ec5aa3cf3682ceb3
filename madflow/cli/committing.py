"""What the verbs of the commit layer share: their options, the committer they come to, and how receipts are shown."""

from __future__ import annotations

import asyncio
import importlib
import json
import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from ..errors import ConfigError
from .exits import DONE, UNDECIDED, UNSETTLED
from .options import check_root, ledger_path, open_for_writing
from .text import clean, one_line

if TYPE_CHECKING:
    from ..commit.api import Committer
    from ..commit.receipt import Receipt
    from ..commit.steps import Step
    from ..ledger.sqlite import SqliteLedger

__all__ = [
    "commit_options",
    "committer_of",
    "open_committer_ledger",
    "read_request",
    "receipt_exit",
    "receipt_text",
    "run_async",
]

FILE_BYTES_MAX: Final = 64 * 1024 * 1024
_F = TypeVar("_F", bound=Callable[..., Any])
_T = TypeVar("_T")
_OPTIONS: Final = (
    click.option("--root", metavar="DIR", default=".", help="The tree that steps touch (default: here)."),
    click.option("--ledger", metavar="FILE", default="", help="The ledger (default: ROOT/.madflow/ledger.db)."),
    click.option("--policy", metavar="FILE", default="", help="What may be done (default: ROOT/policy.toml)."),
    click.option("--scope", metavar="NAME", default="", help="What one submitter serves (default: the root)."),
    click.option("--node", metavar="NAME", default="", help="This submitter's name in records."),
    click.option(
        "--lease",
        "lease_s",
        type=click.FloatRange(0.05, 3600),
        default=5.0,
        show_default=True,
        help="Seconds after which a submitter that does not move is replaced.",
    ),
    click.option(
        "--steps",
        "own_steps",
        metavar="MODULE:NAME",
        default="",
        help="Your own steps: a list of madflow.Step in a module that can be imported.",
    ),
)


def commit_options(function: _F) -> _F:
    """Decorate a command with the options that make a committer."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def open_committer_ledger(root: str, ledger: str) -> SqliteLedger:
    """The ledger, created if missing. Raises ConfigError where the path cannot be one."""
    return open_for_writing(ledger_path(ledger, check_root(root)))


def committer_of(ledger: SqliteLedger, options: Mapping[str, Any]) -> Committer:
    """The committer of the shared options; this process is madflow's own."""
    from ..commit.api import Committer

    policy = options["policy"]
    if policy and not Path(policy).is_file():
        raise ConfigError(f"--policy {policy}: no such file; leave it out for ROOT/policy.toml")
    return Committer(
        options["root"],
        ledger=ledger,
        policy=policy or None,
        steps=_own_steps(options["own_steps"]),
        scope=options["scope"],
        node=options["node"],
        lease_s=options["lease_s"],
        own_process=True,
    )


def _own_steps(name: str) -> Sequence[Step]:
    """The list of steps at MODULE:NAME. Raises ConfigError where it is none."""
    if not name:
        return ()
    from ..commit.steps import Step

    module, _, attribute = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"--steps {name}: {error}; give MODULE:NAME, where NAME is a list of Step") from error
    if not isinstance(found, list | tuple) or not all(isinstance(step, Step) for step in found):
        raise ConfigError(f"--steps {name}: is no list of madflow.Step")
    return found


def read_request(given: str) -> Any:
    """What is to be committed: the JSON of a file or of stdin (`-`), else an id.

    Raises:
        ConfigError: the file cannot be read, is too large, or is not JSON.
    """
    if given != "-" and not Path(given).exists():
        if "/" in given or given.endswith(".json"):
            raise ConfigError(f"{given}: no such file; give a proposal.json, - for stdin, or a proposal's id")
        return given
    try:
        with sys.stdin.buffer if given == "-" else Path(given).open("rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise ConfigError(f"{given}: {error.strerror or error}; give a proposal.json, or a proposal's id") from error
    if len(data) > FILE_BYTES_MAX:
        raise ConfigError(f"{given}: larger than the limit of {FILE_BYTES_MAX} bytes")
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{given}: not JSON ({error}); give a proposal.json, or a proposal's id") from error


def run_async(work: Coroutine[Any, Any, _T]) -> _T:
    """Run to the end; an interrupt cancels it, and it resigns on its way out."""
    return asyncio.run(work)


def receipt_exit(receipt: Receipt) -> int:
    """The exit code of a commit."""
    if receipt.status == "committed":
        return DONE
    return UNSETTLED if receipt.status in ("compensated", "in_doubt") else UNDECIDED


_ENDINGS: Final = {
    "committed": "every step is done",
    "compensated": "a step failed, and what was done before it is taken back",
    "in_doubt": "nobody can tell whether a step happened: a human has to look",
    "rejected": "the gate refuses it",
    "pending": "it waits",
}


def receipt_text(receipt: Receipt) -> str:
    """A receipt in a few lines for a human; ends in a newline."""
    lines = [f"{receipt.status}: {_ENDINGS[receipt.status]}"]
    if receipt.rollback == "partial":
        lines[0] += ", but for what a human said of it"
    for step in receipt.steps:
        result, what = step.result or {}, "undo" if step.direction == "undo" else "step"
        said = one_line(str(result.get("message") or ""), 300)
        tries = f", attempt {step.attempts}" if step.attempts > 1 else ""
        code = f" ({step.error_code}{f': {said}' if said else ''})" if step.error_code else ""
        by = f", said by {one_line(step.resolved_by, 80)}" if step.resolved_by else ""
        about = one_line(f"{step.step} {', '.join(step.targets)}", 160)
        lines.append(f"  {what} {step.step_index}: {step.status}{tries}{by}  {about}{code}")
        if step.status == "in_doubt":
            lines.append(
                f"    look, then: madflow resolve {step.idempotency_key[:16]} --as done|failed|retry --by NAME"
            )
    for reason in receipt.reasons:
        lines += [f"  {reason['code']}: {line}" for line in clean(str(reason["message"])).splitlines()[:1]]
        lines += [f"    {line}" for line in clean(str(reason["message"])).splitlines()[1:]]
    if receipt.waits_for:
        lines.append(f"  waits for: {one_line(receipt.waits_for, 300)}")
    lines.append(f"Commit: {receipt.commit_id}  proposal {one_line(receipt.proposal_id, 120)}")
    return "\n".join(lines) + "\n"

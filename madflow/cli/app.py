"""The entry point: finds the verb, runs it, and turns whatever went wrong into one line and an exit code."""

from __future__ import annotations

import importlib
import signal
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any, Final

import click

from .. import __version__
from ..errors import MadflowError, UsageError
from .exits import DONE, ERROR, USAGE
from .text import one_line

__all__ = ["cli", "main"]

# Verb → its module and what `madflow --help` says of it; kept here so that help imports no verb.
_VERBS: Final = {
    "check": ("check", "Look where a proposal stands: 0 if it is approved."),
    "commit": ("commit", "Carry out an approved proposal, once, through the one elected submitter."),
    "debate": ("debate", "Debate a question or a task file to a checked proposal."),
    "doctor": ("doctor", "Check what a debate needs on this machine."),
    "eval": ("evals", "How good debates are: run suites, report, predict."),
    "execute": ("commit", "Another name of commit."),
    "explain": ("explain", "What became of a proposal, and why: the debate, or the commit?"),
    "history": ("history", "List proposals, with trends: alignment, objections, time to decide."),
    "init": ("init", "Write a starter crew and a task file, ready to edit."),
    "leader": ("leader", "Who submits for a scope: status, transfer, resign."),
    "ledger": ("ledger", "The records: log, verify, export, stats, prune."),
    "propose": ("propose", "Put a plan to a panel of people, scripts or agents."),
    "recover": ("recover", "Finish or compensate what a dead submitter left."),
    "replay": ("replay", "Decide a recorded debate again, offline, from the ledger alone."),
    "resolve": ("resolve", "A human's word on a step in doubt."),
    "resolve-conflict": ("resolve_conflict", "Mediate over a plan that is undecided or rejected."),
    "review": ("review", "Review a diff: findings, votes on them, a verdict."),
    "schema": ("schema", "Print the JSON schema of a document madflow writes."),
    "vote": ("vote", "Cast one seat's ballot on a proposal."),
    "worker": ("worker", "A long-running node that commits what is approved."),
}


class _Verbs(click.Group):
    """A group whose commands are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _VERBS:
            return None
        module = importlib.import_module(f".{_VERBS[cmd_name][0]}", __package__)
        command: click.Command = module.command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        near = get_close_matches(args[0], _VERBS, n=1) if args[0] not in _VERBS else []
        if near and not ctx.resilient_parsing:
            ctx.fail(f"No such command {args[0]!r}; did you mean {near[0]}?")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, about) for name, (_, about) in _VERBS.items()])


@click.group(
    cls=_Verbs,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=(
        "Exit codes: 0 done, 1 error, 2 usage, 3 undecided, pending, rejected or refused, "
        "4 undecided because the budget ran out, 5 compensated or in doubt."
    ),
)
@click.version_option(__version__, prog_name="madflow", message="%(prog)s %(version)s")
def cli() -> None:
    """Several agents debate a change; a checked proposal comes out, and one submitter carries it out."""


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line and exit. Errors are one line on stderr; stdout then stays empty."""
    sys.exit(_run(args))


def _run(args: Sequence[str] | None) -> int:
    try:
        code = cli.main(args=None if args is None else list(args), prog_name="madflow", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return USAGE
    except click.ClickException as error:
        return _say(_click_message(error), USAGE)
    except click.Abort:  # click's word for a KeyboardInterrupt; a debate that runs handles its signals itself
        return _say("interrupted", 128 + signal.SIGINT)
    except UsageError as error:
        return _say(str(error), USAGE)
    except MadflowError as error:
        return _say(str(error), ERROR)
    return code if isinstance(code, int) else DONE


def _click_message(error: click.ClickException) -> str:
    hint = ""
    context: Any = getattr(error, "ctx", None)
    if isinstance(error, click.UsageError) and context is not None:
        hint = f" (see {context.command_path} --help)"
    return error.format_message() + hint


def _say(message: str, code: int) -> int:
    try:
        print(f"madflow: {one_line(message, limit=2000)}", file=sys.stderr)
    except OSError:
        return code  # nobody listens on stderr either: the exit code is all that is left to say
    return code

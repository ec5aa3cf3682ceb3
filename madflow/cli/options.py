"""The options that debate and review share, and what they come to: a `Debate`, or an error that names the fix.

Everything here happens before the first call, so every error is a usage error.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from ..errors import ConfigError, LedgerCorrupt, LedgerError, LedgerPoisoned

if TYPE_CHECKING:
    from ..core.limits import Budget
    from ..ledger.sqlite import SqliteLedger

__all__ = [
    "RunOptions",
    "check_id",
    "check_out",
    "check_root",
    "ledger_option",
    "ledger_path",
    "open_existing",
    "open_for_reading",
    "open_for_writing",
    "run_options",
]

LEDGER: Final = ".madflow/ledger.db"
_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,99}", re.ASCII)
_F = TypeVar("_F", bound=Callable[..., Any])

_GIVEN = "as the crew sets it"
_OPTIONS = (
    click.option(
        "--crew", metavar="NAME|DIR", default="", help="A shipped crew by name, or a folder with a crew.toml."
    ),
    click.option(
        "--model",
        "models",
        metavar="NAME",
        multiple=True,
        help="A model for the agents that have none, e.g. openai/gpt-5-mini; several are dealt round-robin.",
    ),
    click.option("--api-base", metavar="URL", default="", help="Base URL of an OpenAI-compatible server."),
    click.option("--rule", metavar="RULE", default="", help=f"Decision rule, e.g. supermajority:2/3 ({_GIVEN})."),
    click.option("--tie", type=click.Choice(["none", "judge", "earliest"]), default=None, help="What breaks a tie."),
    click.option("--rounds", type=click.IntRange(1, 50), default=None, help=f"At most so many rounds ({_GIVEN})."),
    click.option("--stop", metavar="CONDITION", default="", help='When to stop, e.g. "converged | stable:2".'),
    click.option("--topology", metavar="KIND", default="", help="Who sees whom: all, ring, sparse:K."),
    click.option(
        "--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Seed of every order."
    ),
    click.option(
        "--fallback",
        "fallbacks",
        type=click.Choice(["mediator", "judge", "human"]),
        multiple=True,
        help="What to try, in order and once each, where the panel does not decide.",
    ),
    click.option("--tokens", type=click.IntRange(1), default=250_000, show_default=True, help="Cap on tokens."),
    click.option("--usd", metavar="DOLLARS", default=None, help="Cap on money, e.g. 0.50."),
    click.option("--calls", type=click.IntRange(1), default=200, show_default=True, help="Cap on model calls."),
    click.option("--seconds", type=click.IntRange(1), default=900, show_default=True, help="Cap on the whole debate."),
    click.option("--call-seconds", type=click.IntRange(1), default=60, show_default=True, help="Deadline of one call."),
    click.option("--warm-first", is_flag=True, help="One seat starts each round, the others at its first token."),
    click.option("--id", "debate_id", metavar="ID", default=None, help="Name the debate; the same command resumes it."),
    click.option("--ledger", metavar="FILE", default="", help=f"The ledger (default: {LEDGER} under the root)."),
    click.option("--human", metavar="CHOICE", default="", help="Answer the question a debate of this --id waits with."),
    click.option("--by", metavar="NAME", default="", help="Who answers with --human."),
    click.option("--notes", metavar="TEXT", default="", help="Why, with --human."),
    click.option("--out", metavar="FILE", default="", help="Write the proposal here."),
    click.option(
        "--json", "as_json", is_flag=True, help="Print the proposal as JSON on stdout, and nothing else there."
    ),
    click.option("--quiet", "-q", is_flag=True, help="No progress."),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """What the shared options of debate and review hold, as given."""

    crew: str
    models: tuple[str, ...]
    api_base: str
    rule: str
    tie: str | None
    rounds: int | None
    stop: str
    topology: str
    seed: int
    fallbacks: tuple[str, ...]
    tokens: int
    usd: str | None
    calls: int
    seconds: int
    call_seconds: int
    warm_first: bool
    debate_id: str | None
    ledger: str
    human: str
    by: str
    notes: str
    out: str
    as_json: bool
    quiet: bool

    def budget(self) -> Budget:
        """The caps. Raises ConfigError naming the one that is out of bounds."""
        from ..core.limits import Budget

        return Budget.of(
            tokens=self.tokens, usd=self.usd, calls=self.calls, seconds=self.seconds, call_seconds=self.call_seconds
        )

    def check(self) -> None:
        """Refuse what can be refused by the options alone. Raises ConfigError, or click.UsageError."""
        if self.debate_id is not None:
            check_id(self.debate_id)
        if self.human and not (self.debate_id and self.by):
            raise click.UsageError("--human answers a debate that waits: give its --id, and your name with --by")
        if (self.by or self.notes) and not self.human:
            raise click.UsageError("--by and --notes go with --human CHOICE")
        if self.out:
            check_out(Path(self.out))

    def debate_fields(self) -> dict[str, Any]:
        """Fields of `Debate` beside its task, crew and ledger."""
        return {
            "rule": self.rule,
            "tie": self.tie or "",
            "rounds": self.rounds or 0,
            "stop": self.stop,
            "topology": self.topology,
            "seed": self.seed,
            "fallback": self.fallbacks or None,
            "budget": self.budget(),
            "id": self.debate_id or "",
            "api_base": self.api_base or None,
            "warm_first": self.warm_first,
        }


def run_options(function: _F) -> _F:
    """Decorate a command with the shared options."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def ledger_option(function: _F) -> _F:
    """`--root` and `--ledger`, for verbs that run nothing."""
    root = click.option("--root", metavar="DIR", default=".", help="The tree the ledger belongs to (default: here).")
    return root(
        click.option("--ledger", metavar="FILE", default="", help=f"The ledger (default: ROOT/{LEDGER}).")(function)
    )


def check_id(debate_id: str) -> None:
    """Refuse an id that could not name a debate."""
    if not _ID.fullmatch(debate_id):
        raise ConfigError(
            f"--id {debate_id[:120]!r} cannot name a debate; use letters, digits, _ . - (a letter or digit first), "
            f"at most 100 ({len(debate_id)} given)"
        )


def check_root(root: str) -> Path:
    """The root as a folder that is there."""
    folder = Path(root)
    if not folder.is_dir():
        raise ConfigError(f"--root {root}: no such folder; give the tree the change belongs to")
    return folder


def check_out(path: Path) -> None:
    """Refuse, before the first call, a file that could not be written at the end, or that is no file at all."""
    folder = path.parent
    try:
        there, is_file, is_folder = path.exists(), path.is_file(), folder.is_dir()
    except OSError as error:
        raise ConfigError(f"--out {str(path)[:120]}: {error.strerror or error}; name another file") from error
    if path.is_dir():
        raise ConfigError(f"--out {path}: is a folder; name a file in it")
    if there and not is_file:
        raise ConfigError(f"--out {path}: is a device or a pipe, which the file would replace; name a file")
    if not is_folder:
        raise ConfigError(f"--out {path}: there is no folder {folder}; create it, or name another file")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ConfigError(f"--out {path}: the folder {folder} cannot be written to; name another file")


def ledger_path(ledger: str, root: Path) -> Path:
    """The ledger that was named, or the default one under the root."""
    return Path(ledger) if ledger else root / LEDGER


def open_for_writing(path: Path) -> SqliteLedger:
    """The ledger, created if missing. Raises ConfigError where the path cannot be one."""
    from ..ledger.sqlite import open_ledger

    try:
        return open_ledger(path)
    except (LedgerPoisoned, OSError, LedgerError) as error:
        raise _unusable(path, error) from error


def open_for_reading(path: Path) -> SqliteLedger:
    """A ledger that is there, opened read-only. Raises ConfigError where there is none."""
    from ..ledger.sqlite import open_ledger

    try:
        return open_ledger(path, readonly=True)
    except (OSError, LedgerError) as error:
        raise _unusable(path, error) from error


def open_existing(path: Path) -> SqliteLedger:
    """A ledger that is there, opened for writing: a mistyped name makes none. Raises ConfigError as it says so."""
    open_for_reading(path).close()
    return open_for_writing(path)


def _unusable(path: Path, error: Exception) -> Exception:
    if isinstance(error, LedgerCorrupt) and _is_sqlite(path):
        return error
    if isinstance(error, LedgerCorrupt):
        return ConfigError(f"--ledger {path}: is no ledger (not a SQLite file); name another file")
    why = error.strerror or str(error) if isinstance(error, OSError) else str(error)
    return ConfigError(f"--ledger {path}: {why}")


def _is_sqlite(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(16) == b"SQLite format 3\0"
    except OSError:
        return False

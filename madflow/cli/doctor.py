"""`madflow doctor`: what a debate needs on this machine, checked one by one; each check says what to do."""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Literal

import click

from ..errors import MadflowError
from .exits import DONE, ERROR
from .options import check_root, ledger_option, ledger_path, open_for_reading
from .output import print_text
from .text import json_text, one_line

__all__ = ["Check", "command"]

ENCODINGS: Final = ("o200k_base", "cl100k_base")


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at. `missing` is fine for what the check is about unless it is `needed`."""

    name: str
    state: Literal["ok", "missing", "broken"]
    detail: str
    needed: bool = True

    @property
    def fails(self) -> bool:
        """Whether a debate cannot run because of this."""
        return self.needed and self.state != "ok"


@click.command("doctor")
@ledger_option
@click.option("--json", "as_json", is_flag=True, help="Print the checks as JSON on stdout, and nothing else there.")
def command(root: str, ledger: str, as_json: bool) -> int:
    """Check Python, SQLite, ruff, prompts, the ledger, token tables and which provider keys are set (names only).

    Exits with 1 if something needed is broken. Makes no connection.
    """
    path = ledger_path(ledger, check_root(root))
    checks = [
        _python(),
        _sqlite(),
        _ruff(),
        _prompts(),
        _ledger(path),
        _encodings(),
        _keys(os.environ),
    ]
    healthy = not any(check.fails for check in checks)
    if as_json:
        print_text(json_text({"ok": healthy, "checks": [asdict(check) for check in checks]}))
    else:
        width = max(len(check.name) for check in checks)
        lines = [f"{check.state:8}{check.name:{width + 2}}{one_line(check.detail, 400)}" for check in checks]
        print_text("\n".join([*lines, "", "ready" if healthy else "something needed is broken"]) + "\n")
    return DONE if healthy else ERROR


def _python() -> Check:
    version = ".".join(map(str, sys.version_info[:3]))
    fine = sys.version_info >= (3, 11)
    return Check("python", "ok" if fine else "broken", version if fine else f"{version}; install Python 3.11 or later")


def _sqlite() -> Check:
    from ..ledger.sqlite import sqlite_version

    return _attempt("sqlite", lambda: f"{sqlite_version()} (apsw)")


def _ruff() -> Check:
    beside = shutil.which("ruff", path=sysconfig.get_path("scripts"))
    found = beside or shutil.which("ruff")
    if found is None:
        return Check("ruff", "missing", "the analysers crew needs it: pip install ruff")
    return Check("ruff", "ok", found)


def _prompts() -> Check:
    from ..crews import list_crews, load_crew
    from ..prompts import find_prompts

    def look() -> str:
        folder = find_prompts()
        names = list_crews()
        for name in names:
            load_crew(name).prompts()
        return f"{folder}: crews {', '.join(names)}"

    return _attempt("prompts", look)


def _ledger(path: Path) -> Check:
    if not path.exists():
        folder = next(parent for parent in path.absolute().parents if parent.exists())
        if os.access(folder, os.W_OK | os.X_OK):
            return Check("ledger", "ok", f"{path}: not there yet, the first debate creates it")
        return Check("ledger", "broken", f"{path}: not there, and {folder} cannot be written to; give --ledger FILE")

    def look() -> str:
        opened = open_for_reading(path)
        try:
            records, debates = opened.verify(), len(opened.streams())
        finally:
            opened.close()
        if not (os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)):
            raise MadflowError(f"{path}: verifies, but cannot be written to; change its mode or give --ledger FILE")
        return f"{path}: {records} records in {debates} streams, the chain verifies"

    return _attempt("ledger", look)


def _encodings() -> Check:
    from ..models.tokens import TokenCounter

    models = {"o200k_base": "gpt-4o", "cl100k_base": "gpt-4"}
    lacking = [name for name in ENCODINGS if not TokenCounter(models[name]).exact]
    if lacking:
        detail = f"no table for {', '.join(lacking)}: OpenAI prompts are reserved by bytes; pip install -U litellm"
        return Check("token tables", "missing", detail, needed=False)
    return Check("token tables", "ok", ", ".join(ENCODINGS), needed=False)


def _keys(env: Mapping[str, str]) -> Check:
    from ..models.providers import PROVIDERS

    known = sorted({key for provider in PROVIDERS.values() for key in provider.keys})
    held = [key for key in known if env.get(key)]
    if held:
        return Check("provider keys", "ok", f"set: {', '.join(held)}", needed=False)
    detail = "none set: reviews use the analysers crew; debates need one, e.g. OPENAI_API_KEY, or --api-base"
    return Check("provider keys", "missing", detail, needed=False)


def _attempt(name: str, look: Callable[[], str]) -> Check:
    try:
        return Check(name, "ok", look())
    except (MadflowError, OSError) as error:
        return Check(name, "broken", str(error))

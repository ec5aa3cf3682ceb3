"""`madflow init`: a crew, a task and a policy to start from. What is there already stays as it is."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Final

import click

from ..errors import ConfigError
from .output import print_text
from .text import json_text, one_line

__all__ = ["command"]

_FILES: Final = {
    "crew/crew.toml": "crew/crew.toml",
    "crew/skeptic.md": "crew/skeptic.md",
    "task.json": "task.json",
    "policy.toml": "policy.toml",
    ".gitignore": "gitignore",  # a wheel's own .gitignore would not survive packing
}


@click.command("init")
@click.argument("folder", metavar="[DIR]", default=".")
@click.option(
    "--json", "as_json", is_flag=True, help="Print what was written as JSON on stdout, and nothing else there."
)
def command(folder: str, as_json: bool) -> None:
    """Write crew/, task.json, policy.toml and .gitignore into DIR (default: here). Never overwrites a file."""
    target = Path(folder)
    starter = resources.files(__package__) / "starter"
    written, kept = [], []
    for name, source in _FILES.items():
        path = target / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("xb") as file:  # fails where the file exists, also when it appears this very moment
                file.write((starter / source).read_bytes())
            written.append(str(path))
        except FileExistsError:
            kept.append(str(path))
        except OSError as error:
            raise ConfigError(f"{path}: {error.strerror or error}; give a folder that can be written to") from error
    if as_json:
        print_text(json_text({"written": written, "kept": kept}))
        return
    lines = [f"wrote {one_line(path)}" for path in written]
    lines += [f"kept  {one_line(path)}: it exists, and nothing is overwritten" for path in kept]
    if str(target / ".gitignore") in kept:
        lines += ["      make sure that it has the line .madflow/"]
    where = f"--task {one_line(str(target / 'task.json'))} --crew ./{one_line(str(target / 'crew'))}"
    lines += ["", f"next: madflow debate {where} --model NAME"]
    print_text("\n".join(lines) + "\n")

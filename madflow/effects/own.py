"""Which paths beneath a root are the submitter's own, so that no step may touch them, nor anything read them."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from ..ports import Ledger

__all__ = ["POLICY_NAME", "protected_paths"]

POLICY_NAME: Final = "policy.toml"
"""The policy's name where it is looked for: in the root."""

_BESIDE_LEDGER: Final = ("", "-wal", "-shm", "-journal")
_FOLDERS_BESIDE_LEDGER: Final = ("locks", "run")


def protected_paths(root: Path, ledger: Ledger | Path | str | None, policy_file: Path | None) -> tuple[str, ...]:
    """Paths beneath the root that no step may touch, relative to it, sorted.

    The policy file, by its name and by what a symlink of that name leads to; where there is none, the place where one
    would be found. The folder of the ledger, whatever it is called; where that is the root itself, the ledger's files.

    Args:
        ledger: a ledger in a file (it has a `path`), or its path; anything else is nowhere beneath the root.
    """
    tree = root.resolve()
    own = {root / POLICY_NAME, (root / POLICY_NAME).resolve()}
    if policy_file is not None:
        own |= {policy_file.parent.resolve() / policy_file.name, policy_file.resolve()}
    place = ledger if isinstance(ledger, str | Path) else getattr(ledger, "path", None)
    if isinstance(place, str | Path):
        file = Path(place).resolve()
        if file.parent == tree:
            own |= {file.with_name(file.name + end) for end in _BESIDE_LEDGER}
            own |= {tree / name for name in _FOLDERS_BESIDE_LEDGER}
        else:
            own.add(file.parent)
    return tuple(sorted({name for path in own if (name := _beneath(path, root, tree))}))


def _beneath(path: Path, root: Path, tree: Path) -> str:
    for base in (tree, root):
        if path != base and path.is_relative_to(base):
            return path.relative_to(base).as_posix()
    return ""

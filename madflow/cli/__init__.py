"""The command line: `madflow debate | review | replay | schema | doctor | init`.

Every verb is a module of its own, imported when it is called, so that `madflow --help` costs no more than click. What
all verbs share: results on stdout, everything else on stderr, text of other origin stripped of control sequences, and
the exit codes of `exits.py`.
"""

from __future__ import annotations

from .app import main

__all__ = ["main"]

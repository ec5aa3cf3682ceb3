"""The public suite of effects over commands; sql's stands in test_sql.py. A request's target cannot be asked."""

from pathlib import Path
from typing import Any

import pytest
from effect_worlds import ANY_COMMAND

from madflow.effects.command import CommandEffect
from madflow.testing.effect_suite import EffectSuite


class CommandWorld:
    """A command that makes a file, once, and refuses where somebody else has made it."""

    def __init__(self, root: Path) -> None:
        self.root, self.run_dir, self.policy = root / "tree", root / "ledger" / "run", ANY_COMMAND
        self.root.mkdir()
        self.step = {
            "step": "command",
            "cmd": ["sh", "-c", "test ! -e made && echo mine > made"],
            "probe": ["sh", "-c", 'test -e made && test "$(cat made)" = mine'],
            "undo": ["sh", "-c", "rm -f made"],
        }

    def effect(self) -> CommandEffect:
        return CommandEffect()

    def state(self) -> Any:
        return {path.name: path.read_text() for path in self.root.iterdir()}

    def interfere(self) -> None:
        raise NotImplementedError("what a command makes of somebody else's change is the command's")


class TestCommand(EffectSuite):
    """A command with a probe. It knows nothing of keys unless it asks for its own."""

    lacks = frozenset({"keyed", "conflict"})

    @pytest.fixture
    def world(self, tmp_path: Path) -> CommandWorld:
        return CommandWorld(tmp_path)

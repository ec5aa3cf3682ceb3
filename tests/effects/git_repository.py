"""A repository to commit into, looked at by git itself."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from madflow.core.policy import parse_policy
from madflow.core.saga import Done, Failed
from madflow.effects.git import GitEffect
from madflow.testing.effect_suite import effect_context

ENV = {
    "PATH": os.environ["PATH"],
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    **{f"GIT_{role}_NAME": "someone" for role in ("AUTHOR", "COMMITTER")},
    **{f"GIT_{role}_EMAIL": "someone@localhost" for role in ("AUTHOR", "COMMITTER")},
    **{f"GIT_{role}_DATE": "@1000000000 +0000" for role in ("AUTHOR", "COMMITTER")},
}


ANYTHING = parse_policy({"allow": [{"step": ["git_commit"], "refs": ["**"], "paths": ["**"]}]})


def commit(paths: list[str], branch: str = "work", message: str = "Change it\n\nBecause.") -> dict[str, Any]:
    return {"step": "git_commit", "target": f"git:refs/heads/{branch}", "paths": paths, "message": message}


class Repository:
    """A repository with one commit, on `main`, of files a, b and run.sh; changes not committed."""

    policy = ANYTHING

    def __init__(self, folder: Path, step: Mapping[str, Any] | None = None, *, branch: str = "main") -> None:
        self.root, self.run_dir = folder / "root", folder / "state" / "run"
        self.step = step or commit(["a", "sub/new", "run.sh", "b"])
        self.root.mkdir(parents=True)
        self.git("init", "-q", "-b", branch)
        for name in ("a", "b", "run.sh", "other"):
            (self.root / name).write_text(f"{name}\n")
        self.git("add", "-A")
        self.git("commit", "-q", "-m", "first")
        self.first = self.git("rev-parse", "HEAD")
        (self.root / "a").write_text("a, changed\r\n")
        (self.root / "sub").mkdir()
        (self.root / "sub" / "new").write_text("new\n")
        (self.root / "run.sh").chmod(0o755)
        (self.root / "b").unlink()
        (self.root / "other").write_text("not of this step\n")

    def git(self, *args: str, check: bool = True) -> str:
        done = subprocess.run(["git", *args], cwd=self.root, env=ENV, capture_output=True, text=True, check=False)
        assert done.returncode == 0 or not check, done.stderr
        return done.stdout.strip()

    def effect(self) -> GitEffect:
        return GitEffect(protected={"policy.toml"})

    def state(self) -> Any:
        return {
            "refs": self.git("for-each-ref", "--format=%(refname) %(objectname)"),
            "head": (self.root / ".git" / "HEAD").read_text(),
            "index": self.git("ls-files", "--stage"),
            "tree": sorted(
                (str(path.relative_to(self.root)), path.read_bytes())
                for path in self.root.rglob("*")
                if path.is_file() and ".git" not in path.parts
            ),
            "locks": [str(path) for path in (self.root / ".git").rglob("*.lock")],
        }

    @property
    def ref(self) -> str:
        return self.step["target"].removeprefix("git:")

    def interfere(self) -> None:
        """Somebody else commits on the branch's parent, or makes the branch elsewhere."""
        tree = self.git("rev-parse", "HEAD^{tree}")
        theirs = self.git("commit-tree", tree, "-p", self.first, "-m", "theirs")
        self.git("update-ref", self.ref, theirs)

    def context(self, **changed: Any) -> Any:
        return effect_context(self.root, self.run_dir, **{"policy": self.policy, **changed})

    def tip(self) -> str:
        return self.git("rev-parse", "--verify", "--quiet", self.ref, check=False)


async def prepared(world: Repository) -> Mapping[str, Any]:
    facts = await world.effect().prepare(world.step, world.context())
    assert not isinstance(facts, Failed), facts
    return facts


async def done(world: Repository, facts: Mapping[str, Any], **changed: Any) -> Done:
    result = await world.effect().do(world.step, facts, world.context(**changed))
    assert isinstance(result, Done), result
    return result

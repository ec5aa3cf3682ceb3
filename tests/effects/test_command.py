"""Commands and tests: what they get, what they answer, and what is kept of their output."""

import asyncio
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from effect_worlds import appears, context, descriptors, living, real, until

from madflow.core.policy import Policy
from madflow.core.saga import Absent, Done, Failed, Uncertain
from madflow.effects.command import CommandEffect
from madflow.effects.supervised import KEPT_BYTES

EFFECT = CommandEffect()


def sh(script: str, **more: Any) -> dict[str, Any]:
    return {"step": "command", "cmd": ["sh", "-c", script], **more}


async def do(root: Path, step: dict[str, Any], **changes: Any) -> Done | Failed:
    return await EFFECT.do(step, {}, context(root, **changes))


async def test_exit_codes(tmp_path: Path) -> None:
    """Catches an exit code that is taken for success, or a failed test that is taken for an effect."""
    done = await do(tmp_path, sh("echo out; echo err >&2"))
    assert isinstance(done, Done)
    assert done.result == {"exit_code": 0, "stdout": "out\n", "stdout_bytes": 4, "stderr": "err\n", "stderr_bytes": 4}
    failed = await do(tmp_path, sh("exit 7"))
    assert isinstance(failed, Failed)
    assert (failed.code, failed.applied, failed.transient, failed.result["exit_code"]) == ("exit_code", True, False, 7)
    tested = await do(tmp_path, {"step": "test", "cmd": ["false"]})
    assert isinstance(tested, Failed)
    assert (tested.code, tested.applied, tested.transient) == ("exit_code", False, False)
    shot = await do(tmp_path, sh("kill -SEGV $$"))
    assert isinstance(shot, Failed) and (shot.code, shot.applied) == ("signal", None) and "SIGSEGV" in shot.message


async def test_the_deadline(tmp_path: Path) -> None:
    """Catches a command that outlives its time, and one that a SIGTERM is not enough for; a test may run again."""
    for script in ("sleep 60", "trap '' TERM; sleep 60 & wait"):
        slow = await do(tmp_path, sh(script), timeout_s=0.5)
        assert isinstance(slow, Failed)
        assert (slow.code, slow.applied, slow.transient) == ("timeout", None, False), slow
        assert living(context(tmp_path).key) == []
    tested = await do(tmp_path, {"step": "test", "cmd": ["sleep", "60"]}, timeout_s=0.3)
    assert isinstance(tested, Failed) and (tested.code, tested.applied, tested.transient) == ("timeout", False, True)


async def test_programs_that_cannot_be_run(tmp_path: Path) -> None:
    """Catches a start that fails and is taken for an effect, a path out of the root, and a symlink that is followed."""
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "plain").write_text("no program")
    (tmp_path / "sub" / "garbled").write_bytes(b"\x7fELF nonsense")
    (tmp_path / "sub" / "garbled").chmod(0o755)
    (tmp_path / "sub" / "link").symlink_to("/bin/true")
    (tmp_path / "out").symlink_to("/bin")
    names = ("no-such-program", "/bin/true", "sub/plain", "sub/link", "../x/true", "sub/.", "sub/missing", "no/such")
    for name in (*names, "out/true", "sub/../sub/plain"):
        failed = await do(tmp_path, {"step": "command", "cmd": [name]})
        assert isinstance(failed, Failed), name
        code = "symlink" if name == "out/true" else "no_such_program"
        assert (failed.code, failed.applied) == (code, False), (name, failed)
        assert await EFFECT.prepare({"step": "command", "cmd": [name]}, context(tmp_path)) == failed
    failed = await do(tmp_path, {"step": "command", "cmd": ["sub/garbled"]})
    assert isinstance(failed, Failed) and (failed.code, failed.applied) == ("cannot_start", False)
    huge = await do(tmp_path, {"step": "command", "cmd": ["true", *["x" * 65_536] * 60]})
    assert isinstance(huge, Failed) and (huge.code, huge.applied) == ("cannot_start", False)


async def test_a_program_of_the_tree(tmp_path: Path) -> None:
    """The positive control: a script beneath the root runs, from any working folder."""
    (tmp_path / "bin").mkdir()
    script = tmp_path / "bin" / "tool"
    script.write_text("#!/bin/sh\npwd; printf '%s.' \"$@\"\n")
    script.chmod(0o755)
    done = await do(tmp_path, {"step": "command", "cmd": ["bin/tool", "a b", "", "$HOME", "é"], "cwd": "bin"})
    assert isinstance(done, Done) and done.result["stdout"] == f"{real(tmp_path)}/bin\na b..$HOME.é."
    facts = await EFFECT.prepare({"step": "command", "cmd": ["bin/tool"]}, context(tmp_path))
    assert facts == {"program": f"{real(tmp_path)}/bin/tool"}


async def test_working_folders(tmp_path: Path) -> None:
    """Catches a working folder outside the root, by a symlink at its end or on the way."""
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "a")
    done = await do(tmp_path, sh("pwd", cwd="a/b"))
    assert isinstance(done, Done) and done.result["stdout"] == f"{real(tmp_path)}/a/b\n"
    wrong = (("link", "symlink"), ("link/b", "symlink"), ("missing", "no_such_folder"), ("a/../..", "bad_step"))
    for folder, code in wrong:
        for failed in (
            await do(tmp_path, sh("pwd", cwd=folder)),
            await EFFECT.prepare(sh("pwd", cwd=folder), context(tmp_path)),
        ):
            assert isinstance(failed, Failed) and (failed.code, failed.applied) == (code, False)


async def test_the_environment_is_made_from_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a secret of the submitter that reaches a command; what the policy names does, as a control."""
    monkeypatch.setenv("SECRET_TOKEN", "planted")
    monkeypatch.setenv("WANTED", "passed on")
    monkeypatch.setenv("MADFLOW_TERM", "99")
    monkeypatch.setenv("PATH", f"relative:.:{os.environ['PATH']}::")
    step = {"step": "command", "cmd": ["env"]}
    policy = {"allow": [{"step": ["command"], "commands": ["env"]}]}
    named = Policy.model_validate({**policy, "commands": {"env": ["WANTED", "MADFLOW_TERM"]}})
    for chosen, extra in ((Policy.model_validate(policy), set()), (named, {"WANTED"})):
        done = await do(tmp_path, step, policy=chosen, term=4, attempt=2)
        assert isinstance(done, Done)
        seen = dict(line.split("=", 1) for line in done.result["stdout"].splitlines())
        mine = {"MADFLOW_IDEMPOTENCY_KEY", "MADFLOW_TERM", "MADFLOW_ATTEMPT", "PATH", *extra}
        assert set(seen) - {"LANG", "LC_ALL"} == mine
        assert (seen["MADFLOW_TERM"], seen["MADFLOW_ATTEMPT"]) == ("4", "2")
        assert seen["MADFLOW_IDEMPOTENCY_KEY"] == context(tmp_path).key
        assert all(part.startswith("/") for part in seen["PATH"].split(":"))


async def test_nothing_else_is_inherited(tmp_path: Path) -> None:
    """Catches a descriptor of ours (a ledger, a lock, the supervisor's pipes) that a command gets; stdin is empty."""
    look = (
        "import os, sys\n"
        "for number in range(256):\n"
        "    try: os.fstat(number)\n"
        "    except OSError: continue\n"
        "    print(number)\n"
        "print(os.readlink('/proc/self/fd/0'), repr(sys.stdin.read()))\n"
    )
    read, write = os.pipe()
    os.set_inheritable(write, True)
    try:
        done = await do(tmp_path, {"step": "command", "cmd": ["python3", "-I", "-S", "-c", look]})
    finally:
        os.close(read)
        os.close(write)
    assert isinstance(done, Done) and done.result["stdout"] == "0\n1\n2\n/dev/null ''\n"


async def test_the_policy_is_asked_again(tmp_path: Path) -> None:
    """Catches a command that the policy no longer allows, and one that was done and then cannot be taken back."""
    entries = [{"step": ["command"], "commands": ["true"], "roles": ["any"]}, {"step": ["test"], "commands": ["sh"]}]
    ctx = context(tmp_path, policy=Policy.model_validate({"allow": entries}))
    plain = {"step": "command", "cmd": ["true"]}
    assert isinstance(await EFFECT.do(plain, {}, ctx), Done)
    for step in (sh("true"), {**plain, "undo": ["sh"]}, {**plain, "probe": ["sh"]}):
        for failed in (await EFFECT.do(step, {}, ctx), await EFFECT.prepare(step, ctx)):
            assert isinstance(failed, Failed) and (failed.code, failed.applied) == ("permission_denied", False)
    looked = await EFFECT.probe({**plain, "probe": ["sh"]}, {}, ctx)
    undone = await EFFECT.do({**plain, "undo": ["sh"]}, {}, replace(ctx, direction="undo"))
    assert isinstance(looked, Done) and isinstance(undone, Done), "both were allowed with their step, before `do`"


@pytest.mark.parametrize(
    ("code", "after_do", "after_undo"),
    [(0, Done, Absent), (1, Absent, Done), (2, Uncertain, Uncertain), (127, Uncertain, Uncertain)],
)
async def test_probes(tmp_path: Path, code: int, after_do: type, after_undo: type) -> None:
    """Catches a probe whose answer is turned round, or that cannot tell and is believed."""
    step = sh("true", probe=["sh", "-c", f"exit {code}"], undo=["true"])
    assert isinstance(await EFFECT.probe(step, {}, context(tmp_path)), after_do)
    assert isinstance(await EFFECT.probe(step, {}, context(tmp_path, direction="undo")), after_undo)


async def test_probes_that_cannot_tell(tmp_path: Path) -> None:
    """Catches a missing, hanging or killed probe that counts as an answer."""
    missing = await EFFECT.probe(sh("true"), {}, context(tmp_path))
    slow = await EFFECT.probe(sh("true", probe=["sleep", "60"]), {}, context(tmp_path, timeout_s=0.3))
    shot = await EFFECT.probe(sh("true", probe=["sh", "-c", "kill -9 $$"]), {}, context(tmp_path))
    gone = await EFFECT.probe(sh("true", probe=["no-such-program"]), {}, context(tmp_path))
    assert all(isinstance(found, Uncertain) for found in (missing, slow, shot, gone))
    assert await EFFECT.probe({"step": "test", "cmd": ["true"]}, {}, context(tmp_path)) == Absent()


async def test_undo(tmp_path: Path) -> None:
    """Catches an undo that runs the command again, and a missing one that counts as done."""
    ctx = context(tmp_path, direction="undo")
    step = sh("touch made", undo=["rm", "made"])
    assert isinstance(await do(tmp_path, step), Done) and (tmp_path / "made").exists()
    assert isinstance(await EFFECT.do(step, {}, ctx), Done) and not (tmp_path / "made").exists()
    assert isinstance(await EFFECT.do(sh("true", undo=[]), {}, ctx), Done)
    failed = await EFFECT.do(sh("true"), {}, ctx)
    assert isinstance(failed, Failed) and (failed.code, failed.applied) == ("no_undo", False)


async def test_output_is_bounded_and_drained(tmp_path: Path) -> None:
    """Catches a command that blocks on a full pipe, output that is kept whole, and a count that is a guess."""
    script = "printf START; head -c 50000000 /dev/zero | tr '\\0' x; printf END; head -c 100000 /dev/zero >&2"
    done = await do(tmp_path, sh(script))
    assert isinstance(done, Done)
    kept = done.result["stdout"]
    assert kept.startswith("STARTxxx") and kept.endswith("xxxEND") and len(kept) < 2 * KEPT_BYTES + 100
    assert done.result["stdout_bytes"] == 50_000_008 and done.result["stderr_bytes"] == 100_000
    assert f"[{50_000_008 - 2 * KEPT_BYTES} bytes left out]" in kept


async def test_output_is_made_harmless(tmp_path: Path) -> None:
    """Catches an escape sequence, a bidirectional override or bad UTF-8 that reaches a terminal or a ledger."""
    done = await do(tmp_path, sh(r"printf 'a\033[2Jb\000\r\nc\td\177\377\342\200\256z'"))
    assert isinstance(done, Done) and done.result["stdout"] == "a␛[2Jb␀\nc\td␡\ufffd\ufffdz"


async def test_closing_stdout_early_is_no_end(tmp_path: Path) -> None:
    """Catches a submitter that takes the end of the output for the end of the command."""
    done = await do(tmp_path, sh("exec >&- 2>&-; sleep 0.2; touch late; exit 0"))
    assert isinstance(done, Done) and (tmp_path / "late").exists()


async def test_what_a_command_leaves_behind_is_ended(tmp_path: Path) -> None:
    """Catches a background job, and a daemon that left group and session, that outlive their command."""
    daemon = (
        "import os, sys, time\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    if os.fork() == 0:\n"
        "        open('pid', 'w').write(str(os.getpid())); time.sleep(60)\n"
        "    os._exit(0)\n"
        "while not os.path.exists('pid'): time.sleep(0.01)\n"
    )
    for step in (sh("sleep 60 & exit 0"), {"step": "command", "cmd": ["python3", "-I", "-S", "-c", daemon]}):
        done = await do(tmp_path, step)
        assert isinstance(done, Done) and done.result["left_behind"] == 1
        assert living(context(tmp_path).key) == []
    assert (tmp_path / "pid").exists()


async def test_what_is_left_behind_may_clean_up(tmp_path: Path) -> None:
    """Catches a SIGKILL without the grace that a SIGTERM gives."""
    left = "trap 'echo bye > bye; exit' TERM; touch up; while :; do sleep 0.02; done"
    done = await do(tmp_path, sh(f"({left}) & while ! test -e up; do sleep 0.02; done"))
    assert isinstance(done, Done) and done.result["left_behind"] >= 1
    assert await appears(tmp_path / "bye") == "bye\n"


async def test_a_cancellation_ends_the_command(tmp_path: Path) -> None:
    """Catches a cancelled step whose command runs on; and one whose cancellation returns before the command is dead."""
    ctx = context(tmp_path)
    task = asyncio.create_task(EFFECT.do(sh("trap '' TERM; echo up > up; sleep 60 & wait"), {}, ctx))
    await appears(tmp_path / "up")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert living(ctx.key) == []
    assert await EFFECT.settled(sh("true"), context(tmp_path, timeout_s=0.0))


async def test_many_at_once(tmp_path: Path) -> None:
    """Catches descriptors or answers that runs of one submitter share."""
    before = descriptors()
    runs = [do(tmp_path, sh(f"sleep 0.0{n % 5}; exit {n}"), key=f"key-{n}") for n in range(1, 17)]
    codes = [failed.result["exit_code"] for failed in await asyncio.gather(*runs)]
    assert codes == list(range(1, 17))
    until(lambda: descriptors() <= before + 3, within_s=2)


async def test_without_a_supervisor_nothing_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a broken interpreter that is taken for an effect in doubt."""
    for broken in (str(tmp_path / "no-python"), "/bin/false"):
        monkeypatch.setattr(sys, "executable", broken)
        failed = await do(tmp_path, sh("touch started"))
        assert isinstance(failed, Failed)
        assert (failed.code, failed.applied, failed.transient) == ("no_supervisor", False, True)
    assert not (tmp_path / "started").exists()

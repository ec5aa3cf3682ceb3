"""The plan of a review: what code makes of a review that may be published.

    1. write the review, as Markdown, to `Config.review_plan.path`
    2. patch each file that has accepted patches (core.suggestions), if the debate was opened to
    3. run the configured test, if there is one

Every step follows from what is recorded: the opening's configuration, the findings with their facts, and the votes.
So the plan is pinned (each step names the state of the file it changes), and a replay gives the same bytes without a
tree. The test comes last: if it fails, the commit layer takes the patches back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..config import Config
from ..markdown import review_markdown

__all__ = ["plan_parts"]


def plan_parts(
    config: Config,
    content: Mapping[str, Any],
    patches: Sequence[Mapping[str, Any]],
    votes: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """`plan`, `risks` and `stop_conditions` of a published review; empty where the debate was opened without a plan.

    Args:
        content: the review's content; patches: the steps that apply what was accepted; votes: on publishing it.
    """
    wanted = config.review_plan
    if wanted is None or content["verdict"] is None:
        return {}
    document = review_markdown(
        content,
        title=config.task.task_id,
        proposal_id=f"{config.debate_id}-p1",
        rule=config.rule,
        votes=votes,
        tests=wanted.test,
    )
    fixes = list(patches) if wanted.fix else []
    write = {"step": "write", "target": f"file:{wanted.path}", "content": document, "sha256_before": wanted.before}
    test = [{"step": "test", "target": None, "cmd": list(wanted.test)}] if wanted.test else []
    return {
        "plan": [{**step, "timeout_ms": None} for step in (write, *fixes, *test)],
        "risks": _risks(fixes, test),
        "stop_conditions": _stops(test),
    }


def _risks(fixes: Sequence[Any], test: Sequence[Any]) -> list[dict[str, str]]:
    files = f"{1 + len(fixes)} file(s)"
    risks = [
        ("concurrency", f"{files} may change before the commit; each step first checks the hash that the review saw"),
        ("rollback", f"{files} are written; what stood there before is kept and restored if a later step fails"),
    ]
    if fixes and not test:
        risks.append(("degradation", "no test is configured: nothing checks the patched files after the commit"))
    if test:
        risks.append(("isolation", "the test runs code of the reviewed tree, the change included"))
    return [{"kind": kind, "note": note} for kind, note in risks]


def _stops(test: Sequence[Any]) -> list[dict[str, str]]:
    stops = [("precondition_failed", "a file is not what it was when it was reviewed")]
    stops += [("permission_denied", "the policy does not allow a step")]
    if test:
        stops.append(("test_failed_twice", "the test fails, and fails again when it is retried"))
    return [{"kind": kind, "note": note} for kind, note in stops]

"""A proposal in a few lines for a human. What is printed is of other origin (replies, paths): all of it is cleaned."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..core.markdown import other_claims
from .text import clean, one_line

if TYPE_CHECKING:
    from ..commit.receipt import Receipt
    from ..core.proposal import Proposal

__all__ = ["command_line", "count", "summary", "where_words"]

_FINDINGS_MAX = 200
_FILES_MAX = 50
_STEPS_MAX = 50
_UNHELD_MAX = 3


def summary(
    proposal: Proposal,
    failures: Mapping[str, str] | None = None,
    out: str = "",
    where: Sequence[str] = (),
    commit: Receipt | None = None,
) -> str:
    """Result, what was decided, votes, why it stopped, and what it cost; ends in a newline.

    Args:
        failures: per seat, the last answer that was missing or invalid and why; shown where a vote is.
        out: the file that the proposal was written to; where: options for the command that carries it out.
        commit: what became of its commit, where one was asked for; it stands in the place of that command.
    """
    decision = proposal.decision
    body: Callable[[Proposal], list[str]] = _BODIES[proposal.protocol]
    lines = [_headline(proposal), *body(proposal)]
    lines += ["", "Votes on publishing this review" if proposal.protocol == "review" else "Votes", *_votes(proposal)]
    if failures and any(vote.decision in ("missing", "invalid") for vote in proposal.votes):
        lines += [
            "",
            "Failed",
            *_columns([(one_line(agent, 64), one_line(why, 300)) for agent, why in failures.items()]),
        ]
    if decision.dissent and proposal.protocol != "review":
        lines += ["", f"Dissent: {', '.join(one_line(str(row.get('agent', '')), 64) for row in decision.dissent)}"]
    numbers = ", ".join(f"{key} {one_line(str(value), 60)}" for key, value in sorted(decision.stop_numbers.items()))
    lines += ["", f"Stopped: {decision.stop_reason}" + (f" ({numbers})" if numbers else "")]
    lines += [f"Rule: {decision.rule}, threshold {decision.threshold}, decided by {one_line(decision.decided_by, 80)}"]
    lines += [f"Cost: {_cost(proposal.usage)}"] if proposal.usage else []  # a panel's ballots cost no tokens
    lines += [f"Proposal: {proposal.proposal_id}  digest {proposal.digest[:16]}  expires {proposal.expires_at}"]
    lines += [f"Written: {one_line(out, 300)}"] if out else []
    if commit is not None:
        lines += _commit(proposal, commit, where)
    elif proposal.approved and proposal.plan:
        lines += [f"Next: {command_line('commit', out or proposal.proposal_id, where=where)}"]
    return "\n".join(lines) + "\n"


def command_line(*words: str, where: Sequence[str] = ()) -> str:
    """`madflow` with these words and options, as a shell takes it; each cleaned, at most 300 characters."""
    plain = {"NAME", "approve|reject|abstain", "done|failed|retry"}  # the reader puts a word there
    return " ".join(w if w in plain else shlex.quote(one_line(w, 300)) for w in ("madflow", *words, *where))


def count(number: int, word: str) -> str:
    """`1 seat`, `2 seats`."""
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def where_words(root: str, ledger: str) -> tuple[str, ...]:
    """`--root` and `--ledger` as they were given, to go with a command that is printed."""
    at = ("--root", root) if root != "." else ()
    return (*at, "--ledger", ledger) if ledger else at


def _commit(proposal: Proposal, commit: Receipt, where: Sequence[str]) -> list[str]:
    """What became of the commit, and the next command where there is one."""
    scope = () if commit.scope == "root" else ("--scope", commit.scope)
    places, name = (*where, *scope), proposal.proposal_id
    lines = [f"Commit: {commit.status} ({commit.commit_id})"]
    if commit.status == "in_doubt":
        keys = [step.idempotency_key[:16] for step in commit.steps if step.status == "in_doubt"]
        say = ("--as", "done|failed|retry", "--by", "NAME")
        lines += [f"Next: look, then {command_line('resolve', key, *say, where=places)}" for key in keys]
    elif commit.status == "pending":
        lines += [f"Next: {command_line('recover', where=places)}"]
    elif commit.status == "rejected":
        codes = ", ".join(dict.fromkeys(one_line(str(reason["code"]), 40) for reason in commit.reasons[:10]))
        lines[0] += f": {codes}" if codes else ""
        lines += [f"Next: {command_line('commit', name, '--dry-run', where=places)}"] if proposal.approved else []
    else:
        lines += [f"Next: {command_line('explain', name, where=where)}"]
    return lines


def _headline(proposal: Proposal) -> str:
    content, result = proposal.content, proposal.decision.result
    if proposal.protocol == "review":
        verdict = one_line(str(content.get("verdict") or ""), 40)
        return f"{verdict}: the panel's review" if verdict else f"{result}: nothing is published of this review"
    if proposal.protocol == "proposal":
        return f"{result}: {one_line(str(content.get('summary') or 'no plan'), 300)}"
    return f"{result}: {one_line(str(content.get('answer_text') or 'no answer'), 300)}"


def _answer(proposal: Proposal) -> list[str]:
    options, policy = proposal.content.get("options") or (), proposal.content.get("policy") or {}
    scores = proposal.decision.tally.scores
    rows = [(one_line(str(o["id"]), 24), str(scores.get(o["id"], "0")), one_line(str(o["text"]), 120)) for o in options]
    shown = [(row[0], row[2]) if policy else row for row in rows]  # a policy's shares are no probabilities that hold
    lines = ["", "Options", *_columns(shown)] if shown else []
    if policy:
        by = f"by policy {one_line(str(policy['name']), 60)}" + (", which abstains" if policy["abstained"] else "")
        lines += ["", f"Confidence: {one_line(str(policy['confidence']), 24)} (ranks, not calibrated), {by}"]
    return lines


def _plan(proposal: Proposal) -> list[str]:
    lines = _steps(proposal)
    problems = proposal.content.get("plan_problems") or ()
    if problems:
        lines += ["", "The plan cannot be carried out", *(f"  {one_line(str(why), 300)}" for why in problems)]
    if proposal.risks:
        lines += ["", "Risks", *(f"  {risk.kind}: {one_line(risk.note)}" for risk in proposal.risks)]
    unverified = [item for item in proposal.evidence if item.verified is not True]
    if unverified:
        shown = ", ".join(one_line(item.ref, 80) for item in unverified[:10])
        lines += ["", f"Evidence not verified: {shown}"]
    mediation = proposal.decision.mediation
    if mediation:
        kind, text = str(mediation.get("kind", "")), str(mediation.get("text", ""))
        lines += ["", f"Mediation ({one_line(kind, 30)}): {one_line(text, 300)}"]
    return lines


def _steps(proposal: Proposal) -> list[str]:
    if not proposal.plan:
        return []
    rows = [f"  step {i}: {step.step} {one_line(_target(step), 120)}" for i, step in enumerate(proposal.plan)]
    more = [f"  and {len(rows) - _STEPS_MAX} more; --json has all"] if len(rows) > _STEPS_MAX else []
    return ["", "Plan", *rows[:_STEPS_MAX], *more]


def _target(step: Any) -> str:
    extra = step.model_extra or {}
    cmd = extra.get("cmd")
    words = cmd if isinstance(cmd, list) else [extra.get("name") or extra.get("url") or ""]
    return step.target or " ".join(str(word) for word in words)


def _review(proposal: Proposal) -> list[str]:
    content = proposal.content
    findings = list(content.get("findings") or ())
    title = "Findings" if content.get("verdict") else "Findings, not published"
    lines = ["", f"{title} ({len(findings)})"]
    rows = [row for finding in findings[:_FINDINGS_MAX] for row in _finding_rows(finding)]
    lines += _columns(rows) or ["  none"]
    if len(findings) > _FINDINGS_MAX:
        lines += [f"  and {len(findings) - _FINDINGS_MAX} more; --json has all"]
    rejected = content.get("rejected_findings") or ()
    if rejected:
        lines += [f"  ({len(rejected)} more were raised and rejected by the other seats)"]
    lines += _judged_pairs((content.get("merge") or {}).get("judge") or {})
    return [*lines, *_coverage(content.get("coverage") or {}), *_steps(proposal)]


def _judged_pairs(judge: Mapping[str, Any]) -> list[str]:
    """What the judge of pairs was asked, and what came of it."""
    if not judge.get("pairs"):
        return []
    said = f"{judge['same']} the same, {judge['different']} different, {judge['unsure']} unsure{_unheld(judge)}"
    unread = f"not heard ({one_line(str(judge['unread']), 120)}): the words decided" if judge["unread"] else said
    return [f"  ({one_line(str(judge['agent']), 40)} on {judge['pairs']} pairs of findings in doubt: {unread})"]


def _unheld(judge: Mapping[str, Any]) -> str:
    """Which verdicts do not hold, and why."""
    rows = list(judge.get("unheld") or ())
    shown = "; ".join(
        f"{one_line(str(row['file']), 120)}:{row['lines'][0]} and :{row['lines'][1]}: {one_line(str(row['why']), 120)}"
        for row in rows[:_UNHELD_MAX]
    )
    more = f"; and {len(rows) - _UNHELD_MAX} more" if len(rows) > _UNHELD_MAX else ""
    return f"; {judge['held']} hold, {len(rows)} do not ({shown}{more})" if rows else ""


def _finding_rows(finding: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """A finding, and beneath it what other seats said of it that was merged into it."""
    where = f"{one_line(str(finding['file']), 120)}:{finding['line']}"
    quoted, more = other_claims(finding)
    also = [
        (f"  also line {said['line']}", one_line(str(said["agent"]), 64), one_line(str(said["text"]), 200))
        for said in quoted
    ]
    counted = [("  also", "", f"{count(more, 'more claim')}; --json has all")] if more else []
    return [(where, str(finding["severity"]), _finding_text(finding)), *also, *counted]


def _finding_text(finding: Mapping[str, Any]) -> str:
    code = one_line(str(finding.get("code") or ""), 40)
    marks = [f"[{code}]"] if code else []
    marks += [str(finding["status"])] if finding.get("status") == "unconfirmed" else []
    marks += (
        [f"patch {str((finding.get('patch') or {}).get('status')).replace('_', ' ')}"] if finding.get("patch") else []
    )
    marks += [f"merged by {one_line(str(finding['merged_by']), 64)}"] if finding.get("merged_by") else []
    marks += ["quote not found"] if finding.get("verified") is False else []
    return one_line(str(finding["text"]), 200) + (f"  ({'; '.join(marks)})" if marks else "")


def _coverage(coverage: Mapping[str, Any]) -> list[str]:
    rows = list(coverage.get("files") or ())
    lines = ["", f"Coverage: {coverage.get('read', 0)} of {len(rows)} files read"]
    unread = [row for row in rows if not row["read_by"]]
    for row in unread[:_FILES_MAX]:
        why = row.get("left_out") or "; ".join(sorted(set((row.get("unread") or {}).values()))) or "no seat answered"
        lines.append(f"  not read: {one_line(str(row['file']), 120)}  ({one_line(str(why), 120)})")
    if len(unread) > _FILES_MAX:
        lines.append(f"  and {len(unread) - _FILES_MAX} more; --json has all")
    return lines


_BODIES: dict[str, Callable[[Proposal], list[str]]] = {"answer": _answer, "proposal": _plan, "review": _review}


def _votes(proposal: Proposal) -> list[str]:
    return _columns([(vote.agent, one_line(vote.decision, 60), one_line(vote.notes, 120)) for vote in proposal.votes])


def _cost(usage: Mapping[str, Any]) -> str:
    tokens = usage.get("prompt_tokens", 0) + usage.get("output_tokens", 0)
    caps = usage.get("caps") or {}
    usd = usage.get("usd")
    money = f", ${usd}" if usd not in (None, "0.00") else ""
    text = f"{tokens:,} of {caps.get('tokens', 0):,} tokens, {usage.get('calls', 0)} calls{money}"
    unreported = usage.get("unreported") or {}
    if unreported.get("calls"):
        worst = unreported.get("prompt_tokens", 0) + unreported.get("output_tokens", 0)
        text += f", of which {worst:,} tokens unreported, charged at their worst case"
    return text


def _columns(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Rows as aligned columns, indented by two."""
    if not rows:
        return []
    widths = [min(60, max(len(row[i]) for row in rows)) for i in range(len(rows[0]) - 1)]
    lines = []
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        lines.append(clean(f"  {'  '.join([*cells, row[-1]])}".rstrip()))
    return lines

"""How a review's claims become findings: by the rule that the debate was opened with, and, where one is named, a judge.

    find ──▶ compare by code ──▶ same (one seat, pairs in doubt) ──▶ merge by code ──▶ assess

By the rule `same`, code compares the claims (`core.merging`). Where the debate names a judge, that seat is asked one
thing before the vote: which pairs in doubt are the same. It is an ask like any other, so that budget, retries, time and
resume hold for it; it is none of the landing's, so that a debate that runs out votes on what the words tell. The judge
sees no pair with a claim of its own, and not who raised which.

A reply counts as a whole or not at all: it names every pair that was shown exactly once. Where it does not, does not
come, or comes too late, the words decide every pair. Of a reply that counts, what the merge's vetoes keep apart stays
apart (`core.merging` has the order of precedence).

A review of the rule `same` tells of it in `content.merge`: how many claims became how many findings, how many found no
room to be compared, and what the judge said, how many of its verdicts hold, which do not and why; or why it was not
heard. A finding whose claims a verdict brings together names the judge. A review of the rule `overlap` tells nothing:
ledgers that were written without a rule fold to the bytes they had.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from ..findings import Finding, Raised, merge
from ..linkage import Pair
from ..merging import Compared, compare
from ..state import Ask, Closed, Stage, State

__all__ = ["PAIR_TEXT_CHARS_MAX", "joined_by_judge", "merge_record", "merged_claims", "same_stage"]

PAIR_TEXT_CHARS_MAX: Final = 1_000
"""How much of a claim's text, and of its quote, a judge of pairs is shown."""


def merged_claims(state: State, found: Closed, raised: Sequence[Raised]) -> tuple[Finding, ...]:
    """The findings that the claims of a closed stage come to."""
    if state.config.merge.rule == "overlap":
        return merge(raised)
    return _compared(state, found, raised).findings(_verdicts(state, found, raised))


def same_stage(state: State, found: Closed, raised: Sequence[Raised]) -> Stage | None:
    """What the judge is asked before the vote; None where there is no judge, or no pair in doubt."""
    pairs = _pairs(state, found, raised)
    if not pairs:
        return None
    claims = _compared(state, found, raised).claims
    shown = [
        {"pair": number, "file": claims[i][0].file, "one": _shown(claims[i][0]), "two": _shown(claims[j][0])}
        for number, (i, j) in enumerate(pairs, start=1)
    ]
    asks = (Ask(state.config.merge.judge, "same"),)
    return Stage(len(state.closed) + 1, "same", found.stage.round, asks, subject={"pairs": shown})


def merge_record(state: State, found: Closed, raised: Sequence[Raised], findings: int) -> dict[str, Any]:
    """What the review's content says of the merge; empty where there is nothing to say."""
    config = state.config.merge
    if config.rule == "overlap":
        return {}
    beyond = _compared(state, found, raised).beyond
    told: dict[str, Any] = {"rule": "same", "claims": len(raised), "findings": findings, "uncompared": beyond}
    if config.judge:
        judged, unread = _judged(state, found, raised)
        said = list(judged.values())
        unheld = _unheld(state, found, raised)
        told["judge"] = {
            "agent": config.judge,
            "pairs": len(_pairs(state, found, raised)),
            "same": said.count(True),
            "different": said.count(False),
            "unsure": said.count(None),
            "unread": unread,
            "held": len(_verdicts(state, found, raised)) - len(unheld),
            "unheld": unheld,
        }
    return told


def joined_by_judge(
    state: State, found: Closed, raised: Sequence[Raised], findings: Iterable[Finding]
) -> frozenset[str]:
    """The ids of the findings that hold two claims which the judge called the same."""
    if state.config.merge.rule == "overlap":
        return frozenset()
    compared, verdicts = _compared(state, found, raised), _verdicts(state, found, raised)
    unheld = compared.unheld(verdicts)
    held = {compared.claims[i][0] for (i, j), same in verdicts.items() if same and (i, j) not in unheld}
    return frozenset(finding.id for finding in findings if not held.isdisjoint(finding.lineage))


def _verdicts(state: State, found: Closed, raised: Sequence[Raised]) -> dict[Pair, bool]:
    """What the judge said of each pair on which it was sure."""
    judged, _ = _judged(state, found, raised)
    return {pair: same for pair, same in judged.items() if same is not None}


def _unheld(state: State, found: Closed, raised: Sequence[Raised]) -> list[dict[str, Any]]:
    """The verdicts that do not hold: which pair, where its claims stand, and what forbids it."""
    compared, pairs = _compared(state, found, raised), _pairs(state, found, raised)
    rows = []
    for pair, why in compared.unheld(_verdicts(state, found, raised)).items():
        one, two = (compared.claims[place][0] for place in pair)
        rows.append({"pair": pairs.index(pair) + 1, "file": one.file, "lines": [one.line, two.line], "why": why})
    return sorted(rows, key=lambda row: row["pair"])


def _compared(state: State, found: Closed, raised: Sequence[Raised]) -> Compared:
    key = ("compared", found.stage.number)
    if key not in state.memo:
        state.memo[key] = compare(raised)
    compared: Compared = state.memo[key]
    return compared


def _pairs(state: State, found: Closed, raised: Sequence[Raised]) -> tuple[Pair, ...]:
    """The pairs that the judge is asked about, in the order of their numbers."""
    judge = state.config.merge.judge
    if not judge:
        return ()
    key = ("doubtful", found.stage.number)
    if key not in state.memo:
        state.memo[key] = _compared(state, found, raised).doubtful(judge)
    pairs: tuple[Pair, ...] = state.memo[key]
    return pairs


def _judged(state: State, found: Closed, raised: Sequence[Raised]) -> tuple[Mapping[Pair, bool | None], str]:
    """What the judge said of each pair, and why nothing of it counts where nothing does."""
    pairs = _pairs(state, found, raised)
    if not pairs:
        return {}, ""
    asked = state.last("same")
    if asked is None:
        return {}, f"not asked: {state.cut.reason}" if state.cut else ""
    (answer,) = asked.answers.values()
    if answer.status != "valid" or answer.reply is None:
        return {}, f"{answer.status}: {answer.cause}"
    said = {int(row["pair"]): row["same"] for row in answer.reply["pairs"]}
    if len(said) != len(answer.reply["pairs"]) or set(said) != set(range(1, len(pairs) + 1)):
        return {}, f"it names other pairs than the {len(pairs)} that were shown, or not each of them once"
    return {pair: said[number] for number, pair in enumerate(pairs, start=1)}, ""


def _shown(claim: Raised) -> dict[str, Any]:
    quote = {"quote": _cut(claim.quote)} if claim.quote else {}
    return {"line": claim.line, "text": _cut(claim.text), **quote}


def _cut(text: str) -> str:
    return text if len(text) <= PAIR_TEXT_CHARS_MAX else f"{text[:PAIR_TEXT_CHARS_MAX]} (cut)"

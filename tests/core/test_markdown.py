"""The review as a document: hostile text is words in it, and nothing else. A Markdown parser is the judge."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from madflow.core.markdown import MARKDOWN_CHARS_MAX, inline, other_claims, review_markdown

PARSER = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
ATTACKS = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "![x](http://evil.test/pixel.png)",
    "[x](javascript:alert(1)) <http://evil.test> http://evil.test www.evil.test a@evil.test",
    "[x]: http://evil.test\n\n[x]",
    "# heading\n\n---\n\n- item\n\n1. item\n\n> quote\n\n    code",
    "a | b | c |\n| --- |",
    "a \\| b \\\\| c `|` d",
    "```\n\n# out\n\n```",
    "~~~~\n# out\n`````\n````````",
    "`` ` ``` ` `` <b>",
    "&lt;b&gt; &#60;b&#62;",
    "text\\",
    "\\`x\\`",
    "\u202egnp.exe\u202c \u200b \x1b[31mred\x07 \x00 \x85 \u2028# out",
    "=====\n-----",
    "**bold** _em_ ~~gone~~ $x$ @team #1",
    "`",
    "|",
    "",
    " ",
)
HOSTILE = st.one_of(
    st.sampled_from(ATTACKS),
    st.text(alphabet="`|\\\n<>[]()!#*_~-=. ab&:/@", max_size=40),
    st.text(max_size=30),
)


def document(text: str, count: int = 1, **more: Any) -> str:
    """A review whose every free text is `text`; what the text may not decide (is there a quote?) is the same."""
    finding = {
        "id": "F1",
        "file": f"a{text}",
        "line": 3,
        "severity": "major",
        "text": f"a{text}",
        "quote": f"a{text}",
        "code": f"a{text}",
        "status": "accepted",
        "verified": True,
        "note": f"a{text}",
        "raised_by": ["s1", "s3"],
        "lineage": [
            {"agent": "s1", "line": 3, "text": f"a{text}"},
            {"agent": "s3", "line": 4, "text": f"b{text}"},
            {"agent": "s1", "line": 5, "text": f"c{text}"},
        ],
        "merged_by": "s4",
        "votes": {"eligible": 2, "accept": 1, "reject": 1, "abstain": 0, "invalid": 0, "missing": 0},
        "dissent": [{"agent": "s2", "decision": "reject", "notes": f"a{text}"}],
        "patch": {"text": f"a{text}", "by": "s1", "status": "left_out", "note": f"a{text}"},
    }
    row = {"file": f"a{text}", "read_by": [], "unread": {"s1": f"a{text}"}, "left_out": ""}
    content = {
        "question": f"a{text}",
        "verdict": "request_changes",
        "findings": [finding] * count,
        "rejected_findings": [finding] * count,
        "coverage": {"files": [row], "read": 0, "unread": 1},
        "merge": {"rule": "same"},
    }
    vote = {"agent": "s1", "role": "critic", "decision": "approve", "notes": f"a{text}", "weight": 1}
    names = {"title": f"a{text}", "proposal_id": "d-p1", "rule": "majority"}
    return review_markdown(content, **names, votes=[vote], tests=[f"a{text}"], **more)


def shape(markdown: str) -> list[str]:
    """The document's structure: its tokens' kinds, those inside of lines too, text aside."""
    found = []
    for token in PARSER.parse(markdown):
        found.append(token.type)
        found += [inner.type for inner in token.children or () if inner.type not in ("text", "text_special")]
    return found


PLAIN = shape(document("b"))


@pytest.mark.parametrize("text", ATTACKS)
def test_known_attacks_change_nothing_but_words(text: str) -> None:
    """Would catch HTML, links, images, headings, lists, cells or fences of a stranger's making."""
    made = document(text)
    assert shape(made) == PLAIN
    assert not HIDDEN.search(made)
    assert not re.search(r"(?<!\\)<|https?://|www\.", re.sub(r"(`+).*?\1", "", made, flags=re.DOTALL))


@given(HOSTILE)
@settings(max_examples=150, deadline=None)
def test_no_text_changes_the_documents_structure(text: str) -> None:
    """The same, of any text: a span or a fence that closes early, a pipe that makes a cell, a line that ends."""
    assert shape(document(text)) == PLAIN


@given(st.text(alphabet=st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=60))
@settings(deadline=None)
def test_inline_reads_as_what_was_said(text: str) -> None:
    """Would catch an escape that eats or adds a character: what a reader sees is the text, its blanks folded."""
    tokens = PARSER.parse(f"x {inline(text)} x")
    seen = " ".join("".join(inner.content for inner in tokens[1].children or ()).split())
    assert seen == " ".join(f"x {text} x".split())


def said(agent: str, line: int, text: str) -> dict[str, Any]:
    return {"agent": agent, "line": line, "text": text}


def test_what_a_finding_was_merged_from_is_told() -> None:
    """Would catch a merged claim whose words stand nowhere in the document, and a merge by a model that is not told."""
    made = document("b")
    assert "- also reported by `s3` on line 4: bb" in made
    assert "- 1 more claim in the proposal's lineage" in made
    assert "- claims merged by `s4`" in made


def test_what_is_quoted_is_of_other_seats_in_other_words_and_bounded() -> None:
    """Would catch a finding's own words quoted again, one seat twice, more than two, claims nobody counts."""
    lock = ["the lock is held while it sleeps", "it sleeps with the lock held", "lock held in sleep: writers wait"]
    row = {
        "text": lock[1],
        "line": 7,
        "lineage": [
            said("a", 7, lock[0]),
            said("b", 7, lock[1]),
            said("c", 7, lock[1]),
            said("d", 8, lock[2]),
            said("e", 9, "the sleep holds the lock, writers wait"),
        ],
    }
    quoted, more = other_claims(row)
    assert len({claim["agent"] for claim in quoted} - {"b", "c"}) == 2
    assert len({claim["text"] for claim in quoted} - {lock[1]}) == 2
    assert more == 2
    many = [said(f"s{number}", 7, f"claim {number}") for number in range(600)]
    assert (len(other_claims({**row, "lineage": many})[0]), other_claims({**row, "lineage": many})[1]) == (2, 597)
    assert other_claims({**row, "lineage": row["lineage"][1:2]}) == ([], 0)


def test_the_document_is_bounded_and_says_what_it_leaves_out() -> None:
    """Would catch a review of a hundred long findings that no step may hold."""
    made = document("x`" * 2_000, count=300)
    assert len(made) <= MARKDOWN_CHARS_MAX
    assert "100 more are in the proposal." in made  # rows of the table
    assert len(re.findall(r"^\d+ more are in the proposal\.$", made, re.MULTILINE)) == 3
    json.dumps(made).encode()

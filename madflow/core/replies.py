"""Replies of models: hostile text in, a typed value or one named cause out.

The rules, in this order:

1. A text is refused outright when it is empty, larger than 256 KiB, or not encodable as UTF-8 (lone surrogates).
   One leading byte order mark is dropped: transports add it, nobody means it.
2. A text that opens with `{` is JSON or nothing. It must be one object and only that. Cut short: `truncated_json`.
   A second, different object behind it: `two_objects`. Anything else behind it: `trailing_text`. It never falls
   through to a later rule, so a broken object cannot be outvoted by prose that follows it.
3. Otherwise one fenced block labelled `json` is taken, where it ends the text. Prose *behind* a fence is refused
   (`trailing_text`): a seat that quotes a fake ballot from a diff and then says what it thinks of it must not have
   that quote counted. Two fences with different objects: `two_objects`; a fence that is never closed: `truncated_json`.
4. Otherwise, for the stages that ask for one word (position, discuss, ballot, select, judge), the last line may read
   `Answer: X`; the prose above becomes the reasoning. Several such lines must all name the same X, and one beside a
   fenced object must agree with it (`conflict`).
5. What remains is `no_json`. An object quoted inside prose without a fence is never taken. Nothing is guessed:
   no bracket is closed, no answer invented, no number read from a string.

Inside JSON: a duplicate key, NaN, Infinity, a number that canonical JSON cannot carry (beyond ±(2⁵³−1), or not a
finite double) and nesting deeper than 24 are refused. Ids and decisions carry no invisible characters, so that two
options never look alike and differ. Unknown fields are ignored (but not beside verdicts on pairs, which count as a
whole); known fields have exact types and bounded lengths.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError, model_validator
from pydantic.json_schema import SkipJsonSchema

from ..errors import ConfigError, PlanError, ReplyError
from .messages import Frozen, Severity
from .plan import parse_step
from .proposal import RISK_KINDS, STOP_CONDITION_KINDS, PlanStep
from .strict_json import decode_json
from .unified import PATCH_CHARS_MAX

__all__ = [
    "PROSE_CHARS_MAX",
    "REPLY_BYTES_MAX",
    "STAGES",
    "AssessReply",
    "BallotReply",
    "ConcernReply",
    "DraftEvidence",
    "DraftReply",
    "FindReply",
    "FindingVote",
    "JudgeReply",
    "MediateReply",
    "PositionReply",
    "ReplyFinding",
    "ReplyStep",
    "RiskNote",
    "SameReply",
    "SameVerdict",
    "SelectReply",
    "StopNote",
    "parse_reply",
    "schema_for",
]

REPLY_BYTES_MAX = 256 * 1024
PROSE_CHARS_MAX = 40_000  # of a text that explains; escaped as JSON it still fits a reply
_MARK = "\ufeff"

# Characters nobody sees in an id: controls, soft hyphen, zero-width space, direction marks and overrides, word joiner
# and its kin, byte order mark. Joiners (U+200C, U+200D) stay: Persian words and emoji need them.
_INVISIBLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff]")


def _visible(text: str) -> str:
    found = _INVISIBLE.search(text)
    if found:
        raise ValueError(f"invisible character U+{ord(found.group()):04X}")
    return text


def _one_of(words: tuple[str, ...]) -> Callable[[str], str]:
    def check(word: str) -> str:
        if word not in words:
            raise ValueError(f"not one of {', '.join(words)}")
        return word

    return check


class _Reply(Frozen):
    """Base of every reply: exact types, unknown fields ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True, defer_build=True)


class _Open(PlanStep):
    """A plan's step keeps the fields it does not know: they belong to its kind."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True, defer_build=True)


_Prose = Annotated[str, StringConstraints(max_length=PROSE_CHARS_MAX)]
_Note = Annotated[str, StringConstraints(max_length=4_000)]
_Id = Annotated[str, StringConstraints(min_length=1, max_length=200, strip_whitespace=True), AfterValidator(_visible)]
_Answer = Annotated[
    str, StringConstraints(min_length=1, max_length=2_000, strip_whitespace=True), AfterValidator(_visible)
]
_Claim = Annotated[str, StringConstraints(min_length=1, max_length=1_000)]
_Confidence = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] | None
_Decision = Literal["approve", "reject", "abstain"]

# `strict=False` on a tuple lets a JSON array become one; what it holds stays strict.
_Claims = Annotated[tuple[_Claim, ...], Field(strict=False, max_length=8)]
_Ranking = Annotated[tuple[_Id, ...], Field(strict=False, max_length=50)]


class PositionReply(_Reply):
    """position, discuss: an option's id, or free text where there are no options yet; "abstain" abstains."""

    reasoning: _Prose = ""  # before the answer: a model that fills fields in order thinks first
    claims: _Claims = ()
    answer: _Answer
    confidence: _Confidence = None
    ranking: SkipJsonSchema[_Ranking] = ()  # for rules that rank; not asked of a model unless its prompt does


class ConcernReply(_Reply):
    """concern: what a critic or auditor wants the drafts to answer."""

    reasoning: _Prose = ""
    claims: _Claims


class ReplyStep(_Open):
    """One step of a drafted plan, read as its kind in core/plan.py: what is absent, wrong or unknown is refused."""

    @model_validator(mode="after")
    def _step(self) -> Self:
        try:
            parse_step(self.model_dump(mode="json"))
        except PlanError as error:
            raise ValueError(str(error).partition(": ")[2]) from error  # which step it is, the error's place says
        return self


class RiskNote(_Reply):
    """A risk of a draft: a word of the closed vocabulary, and a note."""

    kind: Annotated[str, AfterValidator(_one_of(RISK_KINDS)), Field(json_schema_extra={"enum": list(RISK_KINDS)})]
    note: _Note = ""


class StopNote(_Reply):
    """What should stop the work on a draft: a word of the closed vocabulary, and a note."""

    kind: Annotated[
        str,
        AfterValidator(_one_of(STOP_CONDITION_KINDS)),
        Field(json_schema_extra={"enum": list(STOP_CONDITION_KINDS)}),
    ]
    note: _Note = ""


class DraftEvidence(_Reply):
    """What a draft rests on, to be checked by code before anyone votes."""

    kind: Literal["file", "diff", "url", "tool", "note"]
    ref: Annotated[str, StringConstraints(max_length=1_000)]
    quote: Annotated[str, StringConstraints(max_length=2_000)] = ""


class DraftReply(_Reply):
    """draft, revise: a structured plan."""

    summary: Annotated[str, StringConstraints(min_length=1, max_length=4_000)]
    plan: Annotated[tuple[ReplyStep, ...], Field(strict=False, max_length=50)]
    risks: Annotated[tuple[RiskNote, ...], Field(strict=False, max_length=50)] = ()
    evidence: Annotated[tuple[DraftEvidence, ...], Field(strict=False, max_length=50)] = ()
    stop_conditions: Annotated[tuple[StopNote, ...], Field(strict=False, max_length=50)] = ()
    reasoning: _Prose = ""
    content: dict[str, Any] = Field(default_factory=dict)


class SelectReply(_Reply):
    """select: option ids by preference, at least one; ["abstain"] abstains."""

    choices: Annotated[tuple[_Id, ...], Field(strict=False, min_length=1, max_length=50)]
    notes: _Prose = ""


class BallotReply(_Reply):
    """ballot: yes, no, or neither, on one frozen proposal."""

    decision: _Decision
    notes: _Prose = ""
    confidence: _Confidence = None
    objections: _Claims = ()


class ReplyFinding(_Reply):
    """One finding of a reviewer, on a line of the new side (1-based)."""

    file: Annotated[str, StringConstraints(min_length=1, max_length=1_000)]
    line: Annotated[int, Field(ge=1, le=10_000_000)]
    severity: Severity
    text: Annotated[str, StringConstraints(min_length=1, max_length=4_000)]
    quote: Annotated[str, StringConstraints(max_length=2_000)] = ""
    code: Annotated[str, StringConstraints(max_length=100)] = ""
    patch: Annotated[str, StringConstraints(max_length=PATCH_CHARS_MAX)] = ""


class FindReply(_Reply):
    """find: what a reviewer found; no findings and `abstain` false means: read, nothing to report."""

    findings: Annotated[tuple[ReplyFinding, ...], Field(strict=False, max_length=100)]
    abstain: bool = False
    notes: _Prose = ""


class FindingVote(_Reply):
    """A seat's word on a finding that another seat raised, and on the patch that it suggests, where it does."""

    finding: _Id
    decision: Literal["accept", "reject", "abstain"]
    patch: Literal["accept", "reject", "abstain"] = "abstain"
    notes: _Note = ""


class AssessReply(_Reply):
    """assess: a ballot on publishing the review, and a vote per finding."""

    decision: _Decision
    votes: Annotated[tuple[FindingVote, ...], Field(strict=False, max_length=1_000)] = ()
    notes: _Prose = ""


class SameVerdict(_Reply):
    """Whether the two of a pair are the same; null: cannot tell."""

    model_config = ConfigDict(extra="forbid")

    pair: Annotated[int, Field(ge=1, le=1_000)]
    same: bool | None


class SameReply(_Reply):
    """same: a verdict on every pair. It counts as a whole or not at all, so it holds nothing that was not asked for."""

    model_config = ConfigDict(extra="forbid")

    pairs: Annotated[tuple[SameVerdict, ...], Field(strict=False, max_length=1_000)]

    @model_validator(mode="after")
    def _once(self) -> Self:
        if len({verdict.pair for verdict in self.pairs}) < len(self.pairs):
            raise ValueError("a pair is there twice; name each once")
        return self


class JudgeReply(_Reply):
    """judge: one option's id, or "none"."""

    reasoning: _Prose = ""
    choice: _Id


class MediateReply(_Reply):
    """mediate: what may bring a failed vote together, with a changed plan where there is one."""

    kind: Literal["common_ground", "modified_proposal", "recommendation"]
    text: Annotated[str, StringConstraints(min_length=1, max_length=40_000)]
    draft: DraftReply | None = None


_SHAPES: dict[str, type[_Reply]] = {
    "assess": AssessReply,
    "ballot": BallotReply,
    "concern": ConcernReply,
    "discuss": PositionReply,
    "draft": DraftReply,
    "find": FindReply,
    "judge": JudgeReply,
    "mediate": MediateReply,
    "position": PositionReply,
    "revise": DraftReply,
    "same": SameReply,
    "select": SelectReply,
}
STAGES = tuple(_SHAPES)

# How `Answer: X` becomes a reply, and how a JSON reply's own answer is compared with such a line.
_FROM_ANSWER: dict[str, Callable[[str, str], dict[str, Any]]] = {
    "position": lambda answer, prose: {"answer": answer, "reasoning": prose},
    "discuss": lambda answer, prose: {"answer": answer, "reasoning": prose},
    "ballot": lambda answer, prose: {"decision": answer.lower(), "notes": prose},
    "select": lambda answer, prose: {"choices": [answer], "notes": prose},
    "judge": lambda answer, prose: {"choice": answer, "reasoning": prose},
}
_ANSWER_OF: dict[str, Callable[[Any], str]] = {
    "position": lambda reply: str(reply.answer),
    "discuss": lambda reply: str(reply.answer),
    "ballot": lambda reply: str(reply.decision),
    "select": lambda reply: str(reply.choices[0]),
    "judge": lambda reply: str(reply.choice),
}

_FENCE = re.compile(r"^```[ \t]*json[ \t]*\r?\n(.*?)^```[ \t]*\r?$", re.MULTILINE | re.DOTALL | re.IGNORECASE)
_FENCE_OPEN = re.compile(r"^```[ \t]*json[ \t]*\r?$", re.MULTILINE | re.IGNORECASE)
_FENCES_MAX = 8  # each costs one scan of the text
# Greedy to the end of its line, and trimmed afterwards: a lazy group would backtrack quadratically on blanks.
_ANSWER_LINE = re.compile(
    r"^[ \t]*(?:#{1,6}[ \t]*)?\*{0,3}(?:final )?answer\*{0,3}[ \t]*:([^\n]*)$", re.MULTILINE | re.IGNORECASE
)


def parse_reply(stage: str, text: str) -> Any:
    """The reply of `stage` that `text` states, as that stage's frozen model.

    Raises:
        ReplyError: `cause` is one of empty, too_long, not_utf8, no_json, bad_json, truncated_json, two_objects,
            trailing_text, not_object, duplicate_key, bad_number, too_deep, conflict, schema; `detail` says where.
        ConfigError: no such stage.
    """
    if stage not in _SHAPES:
        raise ConfigError(f"no reply shape for stage {stage!r}; there are {', '.join(STAGES)}")
    body = _checked_text(text)
    if body[0] == "{":
        return _shaped(stage, _whole_object(body))
    fenced = _fenced_object(body)
    if fenced is not None:
        reply = _shaped(stage, fenced)
        _agrees(stage, reply, _FENCE.sub("", body))
        return reply
    return _answered(stage, body)


def _checked_text(text: str) -> str:
    if len(text) > REPLY_BYTES_MAX:  # cheaper than encoding, and never larger than the bytes
        raise ReplyError("too_long", f"{len(text)} characters, the limit is {REPLY_BYTES_MAX} bytes")
    try:
        size = len(text) if text.isascii() else len(text.encode())
    except UnicodeEncodeError as error:
        raise ReplyError("not_utf8", f"lone surrogate at character {error.start}") from None
    if size > REPLY_BYTES_MAX:
        raise ReplyError("too_long", f"{size} bytes, the limit is {REPLY_BYTES_MAX}")
    body = text.removeprefix(_MARK).strip()
    if not body:
        raise ReplyError("empty")
    return body


def _whole_object(body: str) -> dict[str, Any]:
    value, end = decode_json(body)
    if not isinstance(value, dict):
        raise ReplyError("not_object", f"a JSON {type(value).__name__}, not an object")
    rest = body[end:].lstrip()
    if not rest:
        return value
    if rest[0] != "{":
        raise ReplyError("trailing_text", f"{len(rest)} characters behind the JSON object")
    second, end = decode_json(rest)
    if rest[end:].strip():
        raise ReplyError("two_objects", "more than one JSON object, and more text behind them")
    return _one_object([value, second])


def _one_object(values: list[dict[str, Any]]) -> dict[str, Any]:
    first = values[0]
    for other in values[1:]:
        if other != first:
            raise ReplyError("two_objects", "two different JSON objects: which one counts is not ours to choose")
    return first


def _fenced_object(body: str) -> dict[str, Any] | None:
    opened = len(_FENCE_OPEN.findall(body))
    if not opened:
        return None
    if opened > _FENCES_MAX:
        raise ReplyError("two_objects", f"{opened} fenced JSON blocks, the limit is {_FENCES_MAX}")
    blocks = list(_FENCE.finditer(body))
    if len(blocks) < opened:
        raise ReplyError("truncated_json", "a ```json fence is never closed")
    values = [_whole_object(inner) if (inner := block.group(1).strip()) else None for block in blocks]
    found = [value for value in values if value is not None]
    if len(found) < len(values):
        raise ReplyError("empty", "a ```json fence holds nothing")
    value = _one_object(found)
    rest = body[blocks[-1].end() :].strip()
    if rest and not _ANSWER_LINE.fullmatch(rest):
        raise ReplyError("trailing_text", f"{len(rest)} characters behind the JSON fence")
    return value


def _answers(body: str) -> list[str]:
    return [answer for found in _ANSWER_LINE.finditer(body) if (answer := _bare(found.group(1)))]


def _bare(answer: str) -> str:
    """`**(B).**` → `B`: bold, one full stop, one pair of parentheses around the whole."""
    bare = answer.strip().strip("*`").strip()
    if bare.endswith(".") and not bare.endswith(".."):
        bare = bare[:-1].rstrip().strip("*`").strip()
    if bare.startswith("(") and bare.endswith(")") and bare.count("(") == 1:
        bare = bare[1:-1].strip()
    return bare


def _agrees(stage: str, reply: Any, prose: str) -> None:
    own = _ANSWER_OF.get(stage)
    if own is None:
        return
    for answer in _answers(prose):
        if answer.casefold() != own(reply).casefold():
            raise ReplyError("conflict", f"the JSON says {own(reply)[:40]!r}, a line says {answer[:40]!r}")


def _answered(stage: str, body: str) -> Any:
    build = _FROM_ANSWER.get(stage)
    if build is None:
        raise _unreadable(body, "a fenced JSON object at its end")
    found = _ANSWER_LINE.fullmatch(body.rsplit("\n", 1)[-1])
    if not found or not _bare(found.group(1)):
        raise _unreadable(body, "a fenced JSON object or a line `Answer: X` at its end")
    answers = {answer.casefold(): answer for answer in _answers(body)}
    if len(answers) > 1:
        raise ReplyError("conflict", f"answer lines name {', '.join(repr(a[:40]) for a in sorted(answers))}")
    prose = body.rsplit("\n", 1)[0].strip() if "\n" in body else ""
    return _shaped(stage, build(_bare(found.group(1)), prose))


def _unreadable(body: str, wanted: str) -> ReplyError:
    if body[0] in '["-0123456789tfnNI':  # may be JSON, only of another type
        try:
            value, end = decode_json(body)
        except ReplyError as error:
            return error if body[0] == "[" and error.cause == "truncated_json" else _prose(body, wanted)
        if end == len(body):
            return ReplyError("not_object", f"a JSON {type(value).__name__}, not an object")
    return _prose(body, wanted)


def _prose(body: str, wanted: str) -> ReplyError:
    return ReplyError("no_json", f"{len(body)} characters of prose without {wanted}")


@cache
def _adapter(stage: str) -> TypeAdapter[Any]:
    return TypeAdapter(_SHAPES[stage])  # at a stage's first reply: pydantic compiles for a millisecond


def _shaped(stage: str, value: dict[str, Any]) -> Any:
    try:
        return _adapter(stage).validate_python(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise ReplyError("schema", f"{where}: {first['msg']}" if where else first["msg"]) from None


@cache
def schema_for(stage: str) -> tuple[str, Mapping[str, Any]]:
    """The name and JSON schema of a stage's reply, for a provider's structured output.

    Without `$defs`, titles and defaults; every object is closed and names all of its fields as required (which strict
    modes ask for), except where any field is welcome: a plan's steps and a draft's content. Do not change the result:
    it is shared. Raises ConfigError for an unknown stage.
    """
    if stage not in _SHAPES:
        raise ConfigError(f"no reply shape for stage {stage!r}; there are {', '.join(STAGES)}")
    shape = _SHAPES[stage]
    schema = shape.model_json_schema()
    name = re.sub(r"(?<!^)(?=[A-Z])", "_", shape.__name__).lower()
    return name, _plain(schema, schema.get("$defs", {}))


def _plain(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> dict[str, Any]:
    if "$ref" in schema:
        return _plain(definitions[schema["$ref"].rsplit("/", 1)[-1]], definitions)
    result = {key: value for key, value in schema.items() if key not in _DROPPED}
    if "anyOf" in result:
        result["anyOf"] = [_plain(choice, definitions) for choice in result["anyOf"]]
    if "items" in result:
        result["items"] = _plain(result["items"], definitions)
    if "properties" in result:
        fields = {name: _plain(field, definitions) for name, field in result["properties"].items()}
        result["properties"] = fields
        if not result.get("additionalProperties"):
            result |= {"required": list(fields), "additionalProperties": False}
    return result


_DROPPED = frozenset({"$defs", "title", "default", "description"})

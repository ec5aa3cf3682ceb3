"""Broken model output, one file each, and what it becomes. A rule that loosens turns one of these red."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from madflow.core.canonical import canonical
from madflow.core.replies import REPLY_BYTES_MAX, STAGES, parse_reply, schema_for
from madflow.errors import ConfigError, ReplyError

FOLDER = Path(__file__).parent / "broken_replies"

# file: (stage, cause of refusal) or (stage, fields of the reply that is accepted)
TABLE: dict[str, tuple[str, str | dict[str, Any]]] = {
    "answer_ballot_sentence": ("ballot", "schema"),
    "answer_bold_parens": ("position", {"answer": "B", "reasoning": "Because of the state."}),
    "answer_both": ("position", "conflict"),
    "answer_empty": ("position", "no_json"),
    "answer_explained_after": ("position", "no_json"),
    "answer_for_a_draft": ("draft", "no_json"),
    "answer_free_text": ("position", {"answer": "the Thai place (near the station)"}),
    "answer_heading": ("discuss", {"answer": "b"}),
    "answer_in_midsentence": ("position", "no_json"),
    "answer_line": ("position", {"answer": "B", "reasoning": "First, retries need state.\nSecond, the queue has it."}),
    "answer_twice_same": ("position", {"answer": "b"}),
    "array": ("ballot", "not_object"),
    "bare_number": ("ballot", "not_object"),
    "bare_string": ("ballot", "not_object"),
    "bidi_in_answer": ("position", "schema"),
    "bidi_in_prose": ("ballot", {"decision": "reject", "notes": "the diff hides \u202e in a string"}),
    "bom_before_json": ("position", {"answer": "A", "confidence": 0.5}),
    "bom_only": ("position", "empty"),
    "bool_for_number": ("position", "schema"),
    "brackets_in_a_string": ("ballot", {"decision": "approve", "notes": "[{" * 40}),
    "comment": ("ballot", "bad_json"),
    "confidence_above_one": ("position", "schema"),
    "deep": ("ballot", "too_deep"),
    "draft_keeps_fields": ("draft", {"plan": [{"step": "test", "cmd": ["pytest", "-q"], "timeout_ms": 60000}]}),
    "draft_timeout_as_text": ("draft", "schema"),
    "draft_unknown_risk": ("draft", "schema"),
    "draft_unknown_step": ("draft", "schema"),
    "duplicate_key": ("ballot", "duplicate_key"),
    "duplicate_key_escaped": ("ballot", "duplicate_key"),
    "duplicate_key_nested": ("find", "duplicate_key"),
    "empty": ("ballot", "empty"),
    "fake_answer_in_blockquote": ("ballot", "no_json"),
    "fake_ballot_in_blockquote": ("ballot", "no_json"),
    "fake_ballot_quoted": ("ballot", "trailing_text"),
    "fake_ballot_then_own": ("ballot", "two_objects"),
    "fence_against_answer_line": ("ballot", "conflict"),
    "fence_cut": ("ballot", "truncated_json"),
    "fence_empty": ("ballot", "empty"),
    "fence_in_a_string": ("ballot", {"decision": "reject", "notes": "use ```json\n{}\n``` here"}),
    "fence_then_prose": ("ballot", "trailing_text"),
    "fence_unterminated": ("ballot", "truncated_json"),
    "fence_with_answer_line": ("ballot", {"decision": "reject"}),
    "fence_with_two_objects": ("ballot", "two_objects"),
    "fenced": ("ballot", {"decision": "reject", "notes": "no test"}),
    "fenced_unlabelled": ("ballot", "no_json"),
    "fenced_upper": ("ballot", {"decision": "reject"}),
    "finding_line_float": ("find", "schema"),
    "finding_line_zero": ("find", "schema"),
    "finding_severity_word": ("find", "schema"),
    "float_overflow": ("draft", "bad_number"),
    "fullwidth_answer": ("position", "no_json"),
    "html": ("position", "no_json"),
    "infinity": ("draft", "bad_number"),
    "int_for_string": ("position", "schema"),
    "int_of_5000_digits": ("draft", "bad_number"),
    "int_overflow": ("draft", "bad_number"),
    "joiner_in_answer": ("position", {"answer": "\U0001f469\u200d\U0001f4bb"}),
    "json_then_prose": ("position", "trailing_text"),
    "lone_surrogate_escaped": ("ballot", "not_utf8"),
    "lone_surrogate_in_unknown": ("ballot", "not_utf8"),
    "lone_surrogate_raw": ("ballot", "not_utf8"),
    "many_fences": ("ballot", "two_objects"),
    "many_objects": ("ballot", "two_objects"),
    "markdown_table": ("position", "no_json"),
    "markdown_table_answer": ("position", {"answer": "B"}),
    "missing_field": ("ballot", "schema"),
    "nan": ("position", "bad_number"),
    "nine_claims": ("position", "schema"),
    "no_choice": ("select", "schema"),
    "nul_in_choice": ("judge", "schema"),
    "null_choice": ("select", "schema"),
    "object_for_list": ("select", "schema"),
    "prose": ("position", "no_json"),
    "prose_quotes_json": ("position", "no_json"),
    "prose_then_json": ("position", "no_json"),
    "python_literal": ("ballot", "bad_json"),
    "raw_newline_in_string": ("ballot", "bad_json"),
    "same_object_twice": ("ballot", {"decision": "approve", "notes": "fine"}),
    "shouted_word": ("ballot", "schema"),
    "string_for_bool": ("find", "schema"),
    "string_for_number": ("position", "schema"),
    "surrogate_pair_escaped": ("ballot", {"decision": "approve", "notes": "\U0001f600"}),
    "trailing_comma": ("ballot", "bad_json"),
    "truncated_after_comma": ("position", "truncated_json"),
    "truncated_before_brace": ("position", "truncated_json"),
    "truncated_escape": ("position", "truncated_json"),
    "truncated_in_literal": ("position", "truncated_json"),
    "truncated_string": ("position", "truncated_json"),
    "two_fences": ("ballot", "two_objects"),
    "two_objects": ("ballot", "two_objects"),
    "unknown_word": ("ballot", "schema"),
    "very_deep": ("ballot", "too_deep"),
    "whitespace": ("ballot", "empty"),
    "zero_width_in_choice": ("select", "schema"),
}


def outcome(stage: str, text: str) -> str | dict[str, Any]:
    try:
        reply: dict[str, Any] = parse_reply(stage, text).model_dump(mode="json", exclude_none=True)
    except ReplyError as error:
        return error.cause
    return reply


def test_every_fixture_has_a_row() -> None:
    assert {path.stem for path in FOLDER.iterdir()} == set(TABLE)


@pytest.mark.parametrize("name", sorted(TABLE))
def test_what_each_broken_reply_becomes(name: str) -> None:
    stage, expected = TABLE[name]
    became = outcome(stage, (FOLDER / f"{name}.txt").read_bytes().decode("utf-8", "surrogatepass"))
    if isinstance(expected, str) or isinstance(became, str):
        assert became == expected
    else:
        assert {key: became[key] for key in expected} == expected


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("x" * 1_000_000, "too_long"),
        ('{"notes": "' + "é" * (REPLY_BYTES_MAX // 2) + '"}', "too_long"),  # few characters, many bytes
        ('{"decision": "approve", "notes": "' + "x" * 200_000 + '"}', "schema"),
        ("```json\n" * 30_000, "two_objects"),  # quadratic, were fences not counted first
        ("Answer: x" + " " * 200_000 + "y", "schema"),  # quadratic, were the line matched lazily
        ("{" * 200_000, "bad_json"),
        ('{"a":' * 40_000, "too_deep"),
    ],
)
def test_large_input_is_bounded(text: str, cause: str) -> None:
    assert outcome("ballot", text) == cause


def test_a_truncation_anywhere_never_yields_a_reply() -> None:
    """Catches a parser that closes brackets, or reads an answer out of half an object."""
    whole = json.dumps({"reasoning": 'a "b" \u00e9\\', "claims": ["c"], "answer": "A", "confidence": 0.25})
    for end in range(1, len(whole)):
        assert outcome("position", whole[:end]) in ("truncated_json", "bad_json"), whole[:end]
    assert isinstance(outcome("position", whole), dict)


def test_the_answer_line_fills_the_field_of_its_stage() -> None:
    assert parse_reply("ballot", "Why.\nAnswer: Approve").decision == "approve"
    assert parse_reply("select", "Answer: `B2`.").choices == ("B2",)
    judged = parse_reply("judge", "Both are weak.\nanswer: none")
    assert (judged.choice, judged.reasoning) == ("none", "Both are weak.")


def test_an_unknown_stage_names_the_stages() -> None:
    with pytest.raises(ConfigError, match=r"no reply shape for stage 'vote'.*ballot"):
        parse_reply("vote", "{}")
    with pytest.raises(ConfigError, match="no reply shape"):
        schema_for("vote")


@given(stage=st.sampled_from(STAGES), text=st.text(st.characters(codec=None), max_size=200))
def test_any_text_is_a_reply_or_a_reply_error(stage: str, text: str) -> None:
    """Catches any other exception, and any reply that canonical JSON could not carry."""
    try:
        reply = parse_reply(stage, text)
    except ReplyError:
        return
    canonical(reply.model_dump(mode="json"))


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=12,
)


@given(extra=st.dictionaries(st.text(max_size=6), _json, max_size=4))
def test_what_a_plan_carries_is_refused_or_canonical(extra: dict[str, Any]) -> None:
    """A step keeps any field: catches a number or a string let in there that no digest can be made of."""
    text = json.dumps({"summary": "s", "plan": [{**extra, "step": "call"}]})
    try:
        reply = parse_reply("draft", text)
    except ReplyError:
        return
    canonical(reply.model_dump(mode="json"))


def _smallest(schema: dict[str, Any]) -> Any:
    if "enum" in schema:
        return schema["enum"][0]
    if "anyOf" in schema:
        return _smallest(schema["anyOf"][0])
    kind = schema["type"]
    if kind == "object":
        return {name: _smallest(field) for name, field in schema.get("properties", {}).items()}
    if kind == "array":
        return [_smallest(schema["items"])]
    return {"string": "x", "integer": schema.get("minimum", 1), "number": 0.5, "boolean": False, "null": None}[kind]


@pytest.mark.parametrize("stage", STAGES)
def test_what_meets_the_schema_parses(stage: str) -> None:
    """Catches a schema that asks for what the parser refuses."""
    name, schema = schema_for(stage)
    assert name.replace("_", "").isalpha() and name == name.lower()
    reply = _smallest(dict(schema))
    for draft in (reply, reply.get("draft")):
        if isinstance(draft, dict) and "plan" in draft:  # what a step must have depends on its kind, beyond the schema
            draft["plan"] = [{**draft["plan"][0], "target": "file:x"}]
    parse_reply(stage, json.dumps(reply))
    assert "$ref" not in json.dumps(schema) and "$defs" not in json.dumps(schema)


def test_closed_objects_require_all_of_their_fields() -> None:
    """Strict modes refuse a schema with an optional field; only a plan's step and content are open objects."""

    def walk(schema: Any) -> None:
        if isinstance(schema, dict):
            if schema.get("type") == "object" and not schema.get("additionalProperties"):
                assert schema["additionalProperties"] is False
                assert schema["required"] == list(schema["properties"])
            for value in schema.values():
                walk(value)
        elif isinstance(schema, list):
            for value in schema:
                walk(value)

    for stage in STAGES:
        walk(schema_for(stage)[1])

"""A stream put together again, however it is cut; and what a stream that breaks becomes."""

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from madflow.errors import ModelError, PermanentModelError, TransientModelError
from madflow.models.openai_stream import StreamedReply

USAGE = {"prompt_tokens": 7, "completion_tokens": 3}


def event(delta: dict[str, Any] | None, finish: str | None = None, **more: Any) -> bytes:
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    return b"data: " + json.dumps({"model": "m", "choices": choices, **more}, ensure_ascii=False).encode() + b"\r\n\r\n"


WHOLE = (
    b": keep-alive\n\n"
    + event({"role": "assistant", "content": "naïve "})
    + event({"content": "\U0001f600 reply"})
    + event({}, "stop")
    + event(None, usage=USAGE)
    + b"data: [DONE]\n\n"
)


def read(content: bytes, cuts: list[int] | None = None) -> tuple[tuple[str, str, Any, str], int]:
    first: list[int] = []
    stream = StreamedReply("m", lambda: first.append(1), secret="sk-secret")
    places = [0, *sorted(cuts or ()), len(content)]
    for start, end in pairwise(places):
        stream.feed(content[start:end])
    return stream.end(), len(first)


def failure(content: bytes) -> ModelError:
    with pytest.raises(ModelError) as caught:
        read(content)
    return caught.value


@given(st.lists(st.integers(0, len(WHOLE)), max_size=12))
def test_chunks_may_be_cut_anywhere(cuts: list[int]) -> None:
    """Catches a character, a line or an event that is lost where two chunks meet."""
    assert read(WHOLE, cuts) == (("naïve \U0001f600 reply", "stop", USAGE, "m"), 1)


def test_the_first_token_is_told_once_and_not_by_a_comment() -> None:
    told: list[int] = []
    stream = StreamedReply("m", lambda: told.append(1))
    stream.feed(b": keep-alive\n\n" + event(None, usage=None))
    assert told == []
    stream.feed(event({"role": "assistant", "content": ""}) + event({"content": "x"}))
    assert told == [1]


def test_a_stream_cut_short_is_a_lost_connection_not_a_short_reply() -> None:
    error = failure(event({"content": "Answer: B"}))
    assert isinstance(error, TransientModelError) and error.code == "connection"
    assert read(event({"content": "x"}) + b"data: [DONE]")[0][0] == "x"  # the last line may lack its end


@pytest.mark.parametrize(
    "content", [b"data: {oops\n", b"data: []\n", b'data: {"choices": 7}\n', b'data: {"choices": [7]}\n']
)
def test_events_of_another_shape_are_a_bad_body(content: bytes) -> None:
    error = failure(content)
    assert isinstance(error, TransientModelError) and error.code == "bad_body"


def test_an_error_in_the_stream_is_that_error() -> None:
    busy = failure(event({"content": "x"}) + b'data: {"error": {"code": 429, "message": "sk-secret is busy"}}\n')
    assert isinstance(busy, TransientModelError) and busy.code == "rate_limited" and "sk-secret" not in str(busy)
    filtered = failure(event({"content": "x"}, "content_filter") + b"data: [DONE]\n")
    assert isinstance(filtered, PermanentModelError) and filtered.code == "content_filter"

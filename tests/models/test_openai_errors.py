"""Error bodies as providers send them, and what each means."""

import json
from typing import Any

import pytest

from madflow.errors import PermanentModelError, TransientModelError
from madflow.models.openai_errors import error_detail, from_response, rejected_parameter, retry_after_s


def body(message: str, **fields: Any) -> bytes:
    return json.dumps({"error": {"message": message, **fields}}).encode()


@pytest.mark.parametrize(
    ("status", "content", "code"),
    [
        (400, body("This model has a maximum context length of 8192 tokens: max_tokens"), "context_overflow"),
        (400, body("prompt is too long: 300000 tokens > 200000 maximum"), "context_overflow"),
        (413, b"Request Entity Too Large", "context_overflow"),
        (400, body("blocked", code="content_filter"), "content_filter"),
        (403, body("flagged", code="content_policy_violation"), "content_filter"),
        (403, body("country not supported"), "bad_key"),
        (402, body("Insufficient Balance"), "quota"),
        (429, body("You exceeded your current quota", code="insufficient_quota"), "quota"),
        (400, body("model 'x' does not exist"), "unknown_model"),
        (404, b"<html>not found</html>", "unknown_model"),
        (400, body("messages must not be empty"), "bad_request"),
        (422, json.dumps({"detail": [{"loc": ["body"], "msg": "field required"}]}).encode(), "bad_request"),
    ],
)
def test_what_will_not_pass(status: int, content: bytes, code: str) -> None:
    error = from_response(status, {}, content, model="m")
    assert isinstance(error, PermanentModelError)
    assert (error.code, error.status) == (code, status)


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (408, "timeout"),
        (409, "conflict"),
        (425, "too_early"),
        (429, "rate_limited"),
        (500, "server_error"),
        (529, "server_error"),
    ],
)
def test_what_may_pass(status: int, code: str) -> None:
    error = from_response(status, {"retry-after": "2"}, b"", model="m")
    assert isinstance(error, TransientModelError)
    assert (error.code, error.retry_after_s) == (code, 2.0)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after-ms": "soon", "retry-after": "9"}, 9.0),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "tomorrow"}, None),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:30 GMT", "date": "Wed, 21 Oct 2026 07:28:00 GMT"}, 30.0),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT", "date": "Wed, 21 Oct 2026 07:28:30 GMT"}, 0.0),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:30 GMT", "date": "yesterday"}, pytest.approx(0.0, abs=1e10)),
    ],
)
def test_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after_s(headers) == seconds


@pytest.mark.parametrize(
    ("parameter", "message", "rejected"),
    [
        ("response_format", "Invalid parameter", "response_format"),
        (
            "response_format.type",
            "Invalid value: 'json_schema'. Supported values are: 'json_object'",
            "response_format",
        ),
        ("", "guided_json is not supported by this backend", "response_format"),
        ("max_tokens", "Unsupported parameter: use 'max_completion_tokens' instead.", "max_tokens"),
        ("", "'max_tokens' is not supported; use 'max_completion_tokens'", "max_tokens"),
        ("", "Unknown parameter: 'max_completion_tokens'", "max_completion_tokens"),
        ("temperature", "Unsupported value: 'temperature' does not support 0", "temperature"),
        ("", "Extra inputs are not permitted: stream_options", "stream_options"),
        ("seed", "Unrecognized request argument supplied: seed", "seed"),
        ("max_tokens", "max_tokens is too large: 99999", ""),
        ("", "maximum context length is 8 tokens: unsupported max_tokens", ""),
        ("messages", "Invalid type for 'messages'", ""),
    ],
)
def test_which_parameter_a_400_refuses(parameter: str, message: str, rejected: str) -> None:
    assert rejected_parameter(400, "", parameter, message) == rejected
    assert rejected_parameter(500, "", parameter, message) == ""


def test_messages_are_short_and_never_hold_the_key() -> None:
    code, _, message = error_detail(body("bad key sk-secret " + "x" * 5_000, code="invalid_api_key"), "sk-secret")
    assert code == "invalid_api_key" and len(message) <= 300 and "sk-secret" not in message and "***" in message
    assert error_detail(b"\xff\xfe", "")[2]

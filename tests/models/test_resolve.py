"""From a name to a client; every mistake that can be known without a call, named with its fix."""

import re

import pytest

from madflow.errors import ConfigError, MissingKey, UnknownModel
from madflow.models.litellm_client import LiteLLMClient
from madflow.models.openai_wire import OpenAIWireClient
from madflow.models.resolve import family_of, resolve_model

LOOPBACK = "http://127.0.0.1:8000/v1"


def wire(name: str, api_base: str | None = None, **env: str) -> OpenAIWireClient:
    client = resolve_model(name, api_base=api_base, env=env)
    assert isinstance(client, OpenAIWireClient)
    return client


def through_litellm(name: str, api_base: str | None = None, **env: str) -> LiteLLMClient:
    client = resolve_model(name, api_base=api_base, env=env)
    assert isinstance(client, LiteLLMClient)
    return client


@pytest.mark.parametrize(
    ("name", "model", "base", "env"),
    [
        ("openai/gpt-4o-mini", "gpt-4o-mini", "https://api.openai.com/v1", {"OPENAI_API_KEY": "k"}),
        ("gpt-4o-mini", "gpt-4o-mini", "https://api.openai.com/v1", {"OPENAI_API_KEY": "k"}),
        ("openai/anything", "anything", LOOPBACK, {"OPENAI_BASE_URL": LOOPBACK}),
        ("groq/openai/gpt-oss-20b", "openai/gpt-oss-20b", "https://api.groq.com/openai/v1", {"GROQ_API_KEY": "k"}),
        ("ollama/llama3", "llama3", "http://localhost:11434/v1", {}),
        ("ollama/llama3", "llama3", "http://127.0.0.1:9999/v1", {"OLLAMA_API_BASE": "http://127.0.0.1:9999/"}),
        ("openrouter/meta/llama-9", "meta/llama-9", "https://openrouter.ai/api/v1", {"OPENROUTER_API_KEY": "k"}),
    ],
)
def test_who_speaks_openai_is_spoken_to_directly(name: str, model: str, base: str, env: dict[str, str]) -> None:
    client = wire(name, **env)
    assert (client.model, client.api_base, client.name) == (model, base, name)


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("local-model", "local-model"),
        ("openai/local-model", "local-model"),
        ("Qwen/Qwen2.5-7B-Instruct", "Qwen/Qwen2.5-7B-Instruct"),
        ("hosted_vllm/x", "x"),
    ],
)
def test_an_api_base_takes_any_name_and_needs_no_key_on_this_machine(name: str, model: str) -> None:
    for base in (LOOPBACK, "http://localhost:1/v1", "http://[::1]:1/v1"):
        assert wire(name, base).model == model


def test_everyone_else_goes_through_litellm() -> None:
    assert through_litellm("anthropic/claude-sonnet-4-5", ANTHROPIC_API_KEY="k").model == "anthropic/claude-sonnet-4-5"
    assert through_litellm("claude-sonnet-4-5", ANTHROPIC_API_KEY="k").model == "anthropic/claude-sonnet-4-5"
    assert through_litellm("bedrock/some.model").model == "bedrock/some.model"
    assert through_litellm("anthropic/x", "http://127.0.0.1:1").model == "anthropic/x"


@pytest.mark.parametrize(
    ("name", "base", "variable"),
    [
        ("openai/gpt-4o-mini", None, "OPENAI_API_KEY"),
        ("groq/x", None, "GROQ_API_KEY"),
        ("claude-sonnet-4-5", None, "ANTHROPIC_API_KEY"),
        ("gemini/gemini-2.5-flash", None, "GEMINI_API_KEY or GOOGLE_API_KEY"),
        ("some-model", "https://models.example.com/v1", "OPENAI_API_KEY"),
        ("openai/gpt-4o-mini", "http://127.0.0.1.example.com/v1", "OPENAI_API_KEY"),
    ],
)
def test_a_missing_key_names_its_variable(name: str, base: str | None, variable: str) -> None:
    with pytest.raises(MissingKey, match=f"{name}.* needs a key: set {variable}"):
        resolve_model(name, api_base=base, env={variable.split(maxsplit=1)[0]: ""})


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("opnai/gpt-4o", ["'opnai'", "close: openai", "provider/model", "api_base"]),
        ("gpt-4oo", ["'gpt-4oo'", "gpt-4o", "provider/model"]),
        ("openai/gpt-4o-minni", ["'gpt-4o-minni'", "close: gpt-4o-mini", "api_base"]),
        ("anthropic/cloude-sonnet-4-5", ["close: claude-sonnet-4-5"]),
        ("", ["empty", "openai/"]),
        ("openai/", ["'openai/'"]),
    ],
)
def test_an_unknown_model_names_what_comes_close(name: str, words: list[str]) -> None:
    with pytest.raises(UnknownModel) as caught:
        resolve_model(name, api_base=None, env={"OPENAI_API_KEY": "k", "ANTHROPIC_API_KEY": "k"})
    for word in words:
        assert word in str(caught.value)


def test_dated_and_fine_tuned_names_are_let_through() -> None:
    for model in ("gpt-4o-2031-01-31", "ft:gpt-4o-mini:acme::7"):
        assert wire(f"openai/{model}", OPENAI_API_KEY="k").model == model


def test_a_price_belongs_to_the_provider_not_to_a_local_namesake() -> None:
    request_price = wire("openai/gpt-4o-mini", OPENAI_API_KEY="k")._price
    assert request_price is not None
    assert wire("openai/gpt-4o-mini", LOOPBACK)._price is None


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("openai/gpt-5-mini", "openai"),
        ("o3-mini", "openai"),
        ("openrouter/openai/gpt-oss-20b", "openai"),
        ("azure/gpt-4o", "openai"),
        ("anthropic/claude-sonnet-4-5", "anthropic"),
        ("bedrock/anthropic.claude-sonnet-4", "anthropic"),
        ("groq/llama-3.3-70b-versatile", "llama"),
        ("ollama/llama3", "llama"),
        ("together_ai/meta-llama/Llama-4-Scout", "llama"),
        ("Qwen/Qwen2.5-7B-Instruct", "qwen"),
        ("deepseek/deepseek-r1-distill-qwen-32b", "deepseek"),
        ("gemini/gemma-3-27b-it", "google"),
        ("gemini/gemini-2.5-pro", "google"),
        ("mistral/ministral-8b-latest", "mistral"),
        ("phi4", "microsoft"),
        ("my-own-model", "my-own-model"),
        ("solo3", "solo3"),
        ("scripted", "scripted"),
    ],
)
def test_families(name: str, family: str) -> None:
    assert family_of(name) == family


@pytest.mark.parametrize(
    ("base", "fix"),
    [
        ("localhost:99", "write http://localhost:99"),
        ("127.0.0.1:99/v1", "write http://127.0.0.1:99/v1"),
        ("models.example.com/v1", "write https://models.example.com/v1"),
        ("ftp://localhost", "write e.g. http"),
        ("http://", "write e.g. http"),
        ("[x", "write e.g. http"),
    ],
)
def test_a_base_without_scheme_is_refused_before_the_key(base: str, fix: str) -> None:
    """Would catch a URL that first asks for a key, and then fails as a connection at every call."""
    with pytest.raises(ConfigError, match=re.escape(fix)):
        resolve_model("m", api_base=base, env={})

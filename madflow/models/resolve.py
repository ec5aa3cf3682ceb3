"""From a model's name to a client, with every mistake that can be known without a call found before one is made.

The clients are imported where they are built: a debate of scripted models or analysers loads no HTTP library.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import get_close_matches
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from ..errors import ConfigError, MissingKey, UnknownModel
from ..ports import ModelClient
from .families import family_of
from .prices import known_models, price_of, provider_of
from .providers import PROVIDERS, Provider, provider_names
from .tokens import TokenCounter

if TYPE_CHECKING:
    from .openai_wire import OpenAIWireClient

__all__ = ["family_of", "resolve_model"]

_OPENAI_KEY: Final = "OPENAI_API_KEY"
# OpenAI's reasoning models refuse max_tokens; asking the right way first saves a learnt attempt.
_REASONING: Final = re.compile(r"(gpt-[5-9]|o[1-9])")
_SNAPSHOT: Final = re.compile(r"-(\d{4}-\d{2}-\d{2}|\d{8}|\d{4})$")


def resolve_model(name: str, *, api_base: str | None, env: Mapping[str, str]) -> ModelClient:
    """The client for a model's name, `provider/model` or a model that the price list knows alone.

    Args:
        api_base: an OpenAI-compatible endpoint; the name is then sent as it is (without `openai/`), unless its provider
            speaks another protocol, and is not checked against any list.
        env: where keys and base URLs are looked up.

    Raises:
        ConfigError: `api_base` is no http or https URL.
        MissingKey: names the environment variable.
        UnknownModel: names what was given, what comes close, and what to do.
    """
    name = name.strip()
    if not name:
        raise UnknownModel("the model's name is empty; give one such as openai/gpt-5-mini")
    if api_base:
        _check_url(api_base)
        return _at(name, api_base, env)
    provider, model = _split(name)
    about = PROVIDERS.get(provider, Provider())
    other_base = next((env[variable] for variable in about.bases if env.get(variable)), "")
    if about.closed and not other_base:
        _check_listed(provider, model)
    key = _key(name, about, env, other_base)
    price = price_of(provider, model)
    if not about.base:
        from .litellm_client import LiteLLMClient

        return LiteLLMClient(f"{provider}/{model}", api_key=_plain_key(about, env), price=price)
    base = _with_suffix(other_base, about.base_suffix) or about.base
    return _wire(model, base, key, named=name, priced=not _is_loopback(base), provider=provider)


def _check_url(api_base: str) -> None:
    try:
        parts = urlsplit(api_base)
        if parts.scheme in ("http", "https") and parts.hostname:
            return
        with_scheme = f"http://{api_base}"
        near = "" if "://" in api_base or not urlsplit(with_scheme).hostname else with_scheme
    except ValueError:  # brackets that hold no IPv6 address
        near = ""
    if near and not _is_loopback(near):
        near = f"https://{api_base}"
    raise ConfigError(
        f"--api-base (api_base=) {api_base[:200]!r} is no http or https URL; write {near or 'e.g. http://localhost:8000/v1'}"
    )


def _at(name: str, api_base: str, env: Mapping[str, str]) -> ModelClient:
    provider, _, model = name.partition("/")
    about = PROVIDERS.get(provider)
    if about is not None and model and not about.base:
        from .litellm_client import LiteLLMClient

        _key(name, about, env, api_base)
        return LiteLLMClient(name, api_base=api_base, api_key=_plain_key(about, env))
    if about is None or not model:
        provider, model, about = "openai", name, PROVIDERS["openai"]
    if not about.keys:
        about = Provider(about.base, (_OPENAI_KEY,))
    key = _key(name, about, env, api_base)
    return _wire(model, api_base, key, named=name, priced=not _is_loopback(api_base), provider=provider)


def _wire(model: str, base: str, key: str, *, named: str, priced: bool, provider: str) -> OpenAIWireClient:
    from .openai_wire import OpenAIWireClient

    reasoning = provider == "openai" and _REASONING.match(model)
    return OpenAIWireClient(
        model,
        base,
        key,
        name=named,
        limit_parameter="max_completion_tokens" if reasoning else "max_tokens",
        counter=TokenCounter(model.rsplit("/", 1)[-1]),
        price=price_of(provider, model) if priced else None,
    )


def _split(name: str) -> tuple[str, str]:
    provider, slash, model = name.partition("/")
    if slash and model and provider in provider_names():
        return provider, model
    listed = provider_of(name)
    if listed:
        return listed, name.removeprefix(f"{listed}/")
    if slash and model:
        close = _close(provider, sorted(provider_names()))
        raise UnknownModel(
            f"no provider {provider!r} (in {name!r}){close}; write provider/model, or give --api-base "
            "(api_base=) for an OpenAI-compatible server that knows this name"
        )
    everywhere = [*known_models("openai"), *known_models("anthropic"), *known_models("gemini")]
    raise UnknownModel(
        f"no provider serves a model {name!r}{_close(name, everywhere)}; write provider/model, e.g. openai/gpt-5-mini, "
        "or give --api-base (api_base=) for an OpenAI-compatible server that knows this name"
    )


def _check_listed(provider: str, model: str) -> None:
    listed = known_models(provider)
    stem = _SNAPSHOT.sub("", model)
    if not listed or model in listed or stem in listed or model.startswith("ft:"):
        return
    raise UnknownModel(
        f"{provider} has no model {model!r} that the installed price list knows{_close(model, listed)}; "
        f"correct the name, or, if it is newer than the list, update litellm or give the provider's URL with "
        "--api-base (api_base=)"
    )


def _close(given: str, known: list[str] | tuple[str, ...]) -> str:
    near = get_close_matches(given, known, n=3, cutoff=0.6)
    return f"; close: {', '.join(near)}" if near else ""


def _key(name: str, about: Provider, env: Mapping[str, str], base: str) -> str:
    for variable in about.keys:
        if env.get(variable):
            return env[variable]
    if not about.keys or (base and _is_loopback(base)):
        return ""
    variables = " or ".join(about.keys)
    where = f" at {base}" if base else ""
    advice = " (any text, if that server wants none)" if base else ""
    raise MissingKey(f"{name}{where} needs a key: set {variables}{advice}")


def _plain_key(about: Provider, env: Mapping[str, str]) -> str | None:
    """The key to hand to litellm; other variables hold other kinds of credentials, which it reads by itself."""
    return (env.get(about.keys[0]) or None) if about.keys else None


def _with_suffix(base: str, suffix: str) -> str:
    base = base.rstrip("/")
    return base if not base or base.endswith(suffix) else base + suffix


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")

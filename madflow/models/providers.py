"""Providers as a table: where each is reached, which key it wants, and whether it speaks OpenAI's protocol.

Those that do are spoken to directly (`openai_wire`); the others go through litellm, whose own names these are. A
provider that is not in the table but in litellm's lists is litellm's affair, key included.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from typing import Final

from .bundled import bundled_file
from .prices import providers_priced

__all__ = ["PROVIDERS", "Provider", "provider_names"]


@dataclass(frozen=True, slots=True)
class Provider:
    """One provider.

    Attributes:
        base: the API's base URL where it speaks OpenAI's protocol, else empty (then it goes through litellm).
        keys: environment variables that may hold the key, the first set one counts; empty where none is needed.
        bases: environment variables that may name another base URL.
        closed: whether the price list names all of its models, so that a name it lacks is most likely a mistake.
        base_suffix: what a base URL from the environment lacks.
    """

    base: str = ""
    keys: tuple[str, ...] = ()
    bases: tuple[str, ...] = ()
    closed: bool = False
    base_suffix: str = ""


PROVIDERS: Final[dict[str, Provider]] = {
    "openai": Provider(
        "https://api.openai.com/v1", ("OPENAI_API_KEY",), ("OPENAI_BASE_URL", "OPENAI_API_BASE"), closed=True
    ),
    "cerebras": Provider("https://api.cerebras.ai/v1", ("CEREBRAS_API_KEY",)),
    "deepinfra": Provider("https://api.deepinfra.com/v1/openai", ("DEEPINFRA_API_KEY",)),
    "deepseek": Provider("https://api.deepseek.com/v1", ("DEEPSEEK_API_KEY",), closed=True),
    "fireworks_ai": Provider(
        "https://api.fireworks.ai/inference/v1", ("FIREWORKS_API_KEY", "FIREWORKS_AI_API_KEY", "FIREWORKSAI_API_KEY")
    ),
    "groq": Provider("https://api.groq.com/openai/v1", ("GROQ_API_KEY",)),
    "hosted_vllm": Provider("http://localhost:8000/v1", (), ("HOSTED_VLLM_API_BASE",)),
    "lm_studio": Provider("http://localhost:1234/v1", (), ("LM_STUDIO_API_BASE",)),
    "mistral": Provider("https://api.mistral.ai/v1", ("MISTRAL_API_KEY",), closed=True),
    "moonshot": Provider("https://api.moonshot.ai/v1", ("MOONSHOT_API_KEY",)),
    "nvidia_nim": Provider("https://integrate.api.nvidia.com/v1", ("NVIDIA_NIM_API_KEY",)),
    "ollama": Provider("http://localhost:11434/v1", (), ("OLLAMA_API_BASE",), base_suffix="/v1"),
    "openrouter": Provider("https://openrouter.ai/api/v1", ("OPENROUTER_API_KEY",)),
    "perplexity": Provider("https://api.perplexity.ai", ("PERPLEXITYAI_API_KEY", "PERPLEXITY_API_KEY")),
    "together_ai": Provider("https://api.together.xyz/v1", ("TOGETHERAI_API_KEY", "TOGETHER_API_KEY")),
    "xai": Provider("https://api.x.ai/v1", ("XAI_API_KEY",), closed=True),
    "ai21": Provider(keys=("AI21_API_KEY",)),
    "anthropic": Provider(keys=("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"), closed=True),
    "azure": Provider(keys=("AZURE_API_KEY", "AZURE_AD_TOKEN")),
    "azure_ai": Provider(keys=("AZURE_AI_API_KEY",)),
    "bedrock": Provider(),
    "cohere": Provider(keys=("COHERE_API_KEY", "CO_API_KEY"), closed=True),
    "cohere_chat": Provider(keys=("COHERE_API_KEY", "CO_API_KEY"), closed=True),
    "gemini": Provider(keys=("GEMINI_API_KEY", "GOOGLE_API_KEY"), closed=True),
    "huggingface": Provider(keys=("HF_TOKEN", "HUGGINGFACE_API_KEY")),
    "replicate": Provider(keys=("REPLICATE_API_KEY", "REPLICATE_API_TOKEN")),
    "sagemaker": Provider(),
    "vertex_ai": Provider(),
}


@cache
def provider_names() -> frozenset[str]:
    """Every provider that is known: those above and those in litellm's own lists."""
    names = {*PROVIDERS, *providers_priced()}
    path = bundled_file("provider_endpoints_support_backup.json")
    if path is not None:
        names |= set(json.loads(path.read_text(encoding="utf-8")).get("providers", ()))
    return frozenset(name for name in names if name)

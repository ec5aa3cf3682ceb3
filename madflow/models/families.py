"""Model families: whose weights a model's name tells of."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["family_of"]

_FAMILIES: Final = (
    ("openai", r"gpt|chatgpt|davinci|babbage|codex|o[1-9]"),
    ("anthropic", r"claude"),
    ("google", r"gemini|gemma|palm|bison"),
    ("deepseek", r"deepseek"),
    ("qwen", r"qwen|qwq|qvq"),
    ("llama", r"llama|vicuna"),
    ("mistral", r"mistral|mixtral|ministral|magistral|codestral|devstral|pixtral"),
    ("cohere", r"command|c4ai|aya"),
    ("xai", r"grok"),
    ("moonshot", r"kimi|moonshot"),
    ("zhipu", r"glm|chatglm"),
    ("microsoft", r"phi|wizardlm|mai"),
    ("amazon", r"nova|titan"),
    ("ai21", r"jamba|jurassic"),
    ("01ai", r"yi"),
    ("ibm", r"granite"),
    ("nvidia", r"nemotron"),
    ("minimax", r"minimax|abab"),
    ("perplexity", r"sonar"),
)
_WORD: Final = r"(?<![a-z])(?:{})(?![a-z])"
_FAMILY: Final = tuple((name, re.compile(_WORD.format(words))) for name, words in _FAMILIES)


def family_of(name: str) -> str:
    """The family a model's name tells, for rules that ask for diversity.

    Two names of one family share their weights' origin, whoever serves them: `"groq/llama-3.3-70b-versatile"` and
    `"ollama/llama3"` are both "llama". A name that tells nothing is a family of its own: its last part, in lower case.
    """
    last = name.lower().rsplit("/", 1)[-1]
    places = [(found.start(), family) for family, words in _FAMILY if (found := words.search(last))]
    return min(places)[1] if places else last

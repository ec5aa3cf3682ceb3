"""Prompts: found in a wheel or a checkout, checked when loaded, hashed file by file, rendered cheaply.

A prompt is a row of blocks, joined by plain concatenation, so that it only grows at its end:

    system | task | round 1 | round 2 | … | stage | seat

Everything up to and including `stage` is the same for every seat, so a provider's prompt cache serves the whole panel;
`seat` (letter, role, persona) is all that differs. The files hold the words, this module only fills their slots:

    shared/         system, task and its sections, round, turn, seat; the stages judge, mediate; repair
    protocols/P/    one file per stage of protocol P, and question.md where the protocol brings its own
    CREW/           crew.toml, one file per role (a role that is absent is generic's), stages/ overrides stage files

Files are `string.Template`s with a closed set of slots each: `$name`, and `$$` for a dollar. They are split once, at
load, and filled by joining, so a value is never searched for slots: text that says `$label` stays that text.

Text of other origin is put between fences whose key is derived from the text and does not occur in it, so that no
text can close its own fence. Ids, options and paths are written as JSON strings, one a line.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template
from types import MappingProxyType
from typing import Any

from .errors import ConfigError

__all__ = [
    "COMMON_STAGES",
    "PROTOCOL_STAGES",
    "ROLES",
    "Prompts",
    "find_prompts",
    "load_prompts",
    "nearest",
    "read_beneath",
]

FILE_BYTES_MAX = 64 * 1024
_CAUSE_CHARS_MAX = 300
_KEY_CHARS_MIN = 6

ROLES = ("auditor", "critic", "debater", "judge", "mediator", "proposer")
COMMON_STAGES = ("judge", "mediate")
PROTOCOL_STAGES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "answer": ("position", "discuss"),
        "proposal": ("draft", "concern", "select", "ballot", "revise"),
        "review": ("find", "same", "assess"),
    }
)
# Protocols whose task needs no question of the user's: theirs stands in question.md beside the stages.
_WITH_QUESTION = ("review",)

# (slots that must be there, slots that may be there), by what the file is for.
_Slots = tuple[tuple[str, ...], tuple[str, ...]]
_BLOCKS: Mapping[str, _Slots] = MappingProxyType(
    {
        "system": ((), ()),
        "plan_shape": ((), ()),
        "fence": (("key", "text"), ()),
        "task": (("question", "context", "options", "files", "left_out"), ()),
        "context": (("context",), ()),
        "options": (("options",), ()),
        "files": (("files",), ()),
        "file": (("path", "text"), ("language",)),
        "left_out": (("left_out",), ()),
        "round": (("round", "turns"), ()),
        "turn": (("label", "text"), ()),
        "subject": (("subject",), ()),
        "objections": (("objections",), ()),
        "seat": (("label", "role_text", "persona"), ()),
        "persona": (("persona",), ()),
        "repair": (("cause",), ()),
    }
)
_COUNTERS = ("round", "rounds")
_STAGE_SLOTS: Mapping[str, _Slots] = MappingProxyType(
    {
        "position": (("options",), ()),  # round 1 is independent: nothing of an opponent has a slot here
        "discuss": (("options",), _COUNTERS),
        "draft": ((), (*_COUNTERS, "plan_shape")),
        "concern": ((), _COUNTERS),
        "select": (("options",), ("subject", *_COUNTERS)),
        "ballot": (("subject",), ("options", "objections", *_COUNTERS)),
        "revise": (("subject", "objections"), ("plan_shape", *_COUNTERS)),
        "find": ((), _COUNTERS),
        "same": (("subject",), _COUNTERS),
        "assess": (("subject",), ("options", *_COUNTERS)),
        "judge": (("options",), ("subject", "objections", *_COUNTERS)),
        "mediate": (("options", "subject", "objections"), ("plan_shape", *_COUNTERS)),
    }
)


def find_prompts() -> Path:
    """The folder with the shipped prompts: inside an installed wheel, else at the root of a checkout.

    Raises:
        ConfigError: neither is there; names both places.
    """
    package = Path(__file__).resolve().parent
    shipped, checkout = package / "_data" / "prompts", package.parent / "prompts"
    if (shipped / "shared" / "system.md").is_file():
        return shipped
    if (package.parent / "pyproject.toml").is_file() and (checkout / "shared" / "system.md").is_file():
        return checkout
    raise ConfigError(f"no prompts in {shipped} nor {checkout}; the installation is incomplete, reinstall madflow")


def read_beneath(folder: Path, name: str, *, bytes_max: int = FILE_BYTES_MAX) -> str:
    """The text of `folder/name`, stripped of white space at both ends.

    Raises:
        ConfigError: the file leaves the folder (`..`, an absolute path, a link), is absent, empty, not UTF-8, or
            larger than `bytes_max` bytes.
    """
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise ConfigError(f"{path}: {name!r} leaves the folder {folder}; copy the file into it")
    if path.exists() and not path.is_file():
        raise ConfigError(f"{path}: no regular file (a folder, a pipe or a device); put the text into a file")
    try:
        with path.open("rb") as file:
            raw = file.read(bytes_max + 1)
        text = raw.decode("utf-8").replace("\r\n", "\n").strip()
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 at byte {error.start}; save it as UTF-8") from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror or error}); the file is needed") from error
    if len(raw) > bytes_max:
        raise ConfigError(f"{path}: larger than the limit of {bytes_max} bytes; shorten it")
    if not text:
        raise ConfigError(f"{path}: is empty; write the prompt, or remove the file to get the shipped one")
    return text


@dataclass(frozen=True, slots=True)
class _Filled:
    """A template split once: literals and slot names by turns, literals first and last."""

    literals: tuple[str, ...]
    slots: tuple[str, ...]

    def fill(self, values: Mapping[str, str]) -> str:
        parts = [self.literals[0]]
        for slot, literal in zip(self.slots, self.literals[1:], strict=True):
            parts.append(values[slot])
            parts.append(literal)
        return "".join(parts)


def _split(name: str, text: str, slots: _Slots) -> _Filled:
    """Split `text` at its slots, which must be exactly those the file may have."""
    required, optional = slots
    allowed = (*required, *optional)
    literals, found, start = [""], [], 0
    for match in Template.pattern.finditer(text):
        literals[-1] += text[start : match.start()]
        start = match.end()
        slot = match["named"] or match["braced"]
        if match["escaped"] is not None:
            literals[-1] += "$"
        elif slot is None:
            line = text.count("\n", 0, match.start()) + 1
            raise ConfigError(f"{name}, line {line}: a lone $; write $$ for a dollar")
        elif slot not in allowed:
            raise ConfigError(f"{name}: unknown slot ${slot}{nearest(slot, allowed)}; it may have {_names(allowed)}")
        else:
            found.append(slot)
            literals.append("")
    literals[-1] += text[start:]
    for slot in required:
        if slot not in found:
            raise ConfigError(f"{name}: lacks ${slot}; without it the seats would not see that part of the debate")
    return _Filled(tuple(literals), tuple(found))


def _names(slots: Iterable[str]) -> str:
    return ", ".join(f"${slot}" for slot in slots) or "no slots; write $$ for a dollar"


def nearest(word: str, known: Collection[str]) -> str:
    """A hint for a message: ` (did you mean X?)`, or nothing where no known word is close."""
    close = difflib.get_close_matches(word, known, n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def load_prompts(
    folder: Path, protocol: str, *, roles: Collection[str] = ROLES, crew: str = "", root: Path | None = None
) -> Prompts:
    """Load and check every text that one crew needs for one protocol.

    Args:
        folder: the crew's folder. Role files and stages/ in it come first; what it lacks is taken from `root`.
        roles: the roles on the panel; only their texts are loaded and enter the digest.
        crew: the crew's name in file names; the folder's name where empty.
        root: the shipped prompts; found where None.

    Raises:
        ConfigError: an unknown protocol or role, a missing file, a file with an unknown or a missing slot.
    """
    if protocol not in PROTOCOL_STAGES:
        known = ", ".join(PROTOCOL_STAGES)
        raise ConfigError(f"unknown protocol {protocol!r}{nearest(protocol, PROTOCOL_STAGES)}; it is one of {known}")
    for role in roles:
        if role not in ROLES:
            raise ConfigError(f"unknown role {role!r}{nearest(role, ROLES)}; it is one of {', '.join(ROLES)}")
    root = find_prompts() if root is None else root
    crew = crew or folder.resolve().name
    texts: dict[str, str] = {}

    def read(base: Path, prefix: str, name: str) -> str:
        text = texts[f"{prefix}/{name}"] = read_beneath(base, name)
        return f"{prefix}/{name}" if text else ""

    def choose(name: str, base: Path, prefix: str) -> str:
        own = folder / name
        return read(folder, crew, name) if own.is_file() or own.is_symlink() else read(base, prefix, Path(name).name)

    where: dict[str, tuple[str, _Slots]] = {}
    for block, slots in _BLOCKS.items():
        where[block] = (read(root / "shared", "shared", f"{block}.md"), slots)
    for stage in PROTOCOL_STAGES[protocol]:
        name = choose(f"stages/{stage}.md", root / "protocols" / protocol, f"protocols/{protocol}")
        where[f"stage/{stage}"] = (name, _STAGE_SLOTS[stage])
    for stage in COMMON_STAGES:
        where[f"stage/{stage}"] = (choose(f"stages/{stage}.md", root / "shared", "shared"), _STAGE_SLOTS[stage])
    if protocol in _WITH_QUESTION:
        name = choose("stages/question.md", root / "protocols" / protocol, f"protocols/{protocol}")
        where["question"] = (name, ((), ()))
    for role in sorted(set(roles)):
        where[f"role/{role}"] = (choose(f"{role}.md", root / "generic", "generic"), ((), ()))
    templates = {key: _split(name, texts[name], slots) for key, (name, slots) in where.items()}
    files = {name: hashlib.sha256(texts[name].encode()).hexdigest() for name in sorted(texts)}
    return Prompts(
        crew=crew,
        protocol=protocol,
        files=MappingProxyType(files),
        digest=hashlib.sha256(json.dumps([[n, texts[n]] for n in sorted(texts)]).encode()).hexdigest(),
        _templates=MappingProxyType(templates),
    )


@dataclass(frozen=True, slots=True, repr=False)
class Prompts:
    """Every text of one crew and protocol, ready to render.

    A request's `system` is `render_system()`. Its `prompt` is the concatenation of `render_task`, one `render_round`
    per finished round, `render_stage` and `render_seat`; a repair appends `render_repair`. Each block ends in an
    empty line.

    Attributes:
        files: SHA-256 of each text by its file's name, so that a refused resume can name the file that changed.
        digest: SHA-256 over all (name, text), sorted.
    """

    crew: str
    protocol: str
    files: Mapping[str, str]
    digest: str
    _templates: Mapping[str, _Filled]

    def __repr__(self) -> str:
        return f"Prompts(crew={self.crew!r}, protocol={self.protocol!r}, digest={self.digest[:12]!r})"

    @property
    def stages(self) -> tuple[str, ...]:
        """The stages `render_stage` knows."""
        return (*PROTOCOL_STAGES[self.protocol], *COMMON_STAGES)

    @property
    def question(self) -> str:
        """The protocol's own question, for a task that brings none; empty where the protocol has none."""
        return self._fill("question", {}) if "question" in self._templates else ""

    def render_system(self) -> str:
        return self._fill("system", {})

    def render_task(
        self,
        question: str,
        *,
        context: str = "",
        options: Sequence[tuple[str, str]] = (),
        files: Iterable[tuple[str, str, str]] = (),
        left_out: Iterable[tuple[str, str]] = (),
    ) -> str:
        """The task, the same for every seat and round.

        Args:
            question: as the user asked it: the one text that is not fenced.
            options: fixed options as (id, text).
            files: (path, language, text) of what this part of the task shows.
            left_out: (path, why) of files that are part of the task but not shown.
        """
        shown = "\n\n".join(
            self._fill("file", {"path": _quoted(path), "language": _quoted(language), "text": self.fence(text)})
            for path, language, text in files
        )
        values = {
            "question": _plain(question),
            "context": self._section("context", self.fence(context) if context else ""),
            "options": self._pairs("options", options),
            "files": self._section("files", shown),
            "left_out": self._pairs("left_out", left_out),
        }
        return self._fill("task", values) + "\n\n"

    def render_round(self, round: int, turns: Iterable[tuple[str, str]]) -> str:
        """One finished round: turns as (label, text), in the order given, each fenced."""
        filled = [self._fill("turn", {"label": label, "text": self.fence(text)}) for label, text in turns]
        return self._fill("round", {"round": str(round), "turns": "\n\n".join(filled)}) + "\n\n"

    def render_stage(
        self,
        stage: str,
        *,
        round: int = 1,
        rounds: int = 1,
        options: Sequence[tuple[str, str]] = (),
        subject: Mapping[str, Any] | None = None,
        objections: Sequence[str] = (),
    ) -> str:
        """What is asked now, the same for every seat of the stage.

        Args:
            options: what may be chosen, as (id, text); ids and texts may come from replies. Leave them out where
                the task shows the same ones.
            subject: the frozen thing that is voted on, as JSON data.
            objections: why the subject was not accepted so far.

        Raises:
            ConfigError: the protocol has no such stage.
        """
        if f"stage/{stage}" not in self._templates:
            raise ConfigError(f"no stage {stage!r} in protocol {self.protocol}; it has {', '.join(self.stages)}")
        body = self.fence(json.dumps(subject, ensure_ascii=False, allow_nan=False)) if subject else ""
        raised = self.fence("\n".join(_quoted(item) for item in objections)) if objections else ""
        values = {
            "round": str(round),
            "rounds": str(rounds),
            "options": self._pairs("options", options),
            "subject": self._section("subject", body),
            "objections": self._section("objections", raised),
            "plan_shape": self._fill("plan_shape", {}),
        }
        return self._fill(f"stage/{stage}", values) + "\n\n"

    def render_seat(self, label: str, role: str, persona: str = "") -> str:
        """What differs from seat to seat; always the last block."""
        if f"role/{role}" not in self._templates:
            held = ", ".join(key.removeprefix("role/") for key in self._templates if key.startswith("role/"))
            raise ConfigError(f"no text was loaded for role {role!r} in crew {self.crew}; loaded: {held}")
        own = self._section("persona", _plain(persona))
        text = self._fill(f"role/{role}", {})
        return self._fill("seat", {"label": label, "role_text": text, "persona": own}) + "\n\n"

    def render_tail(
        self,
        stage: str,
        *,
        label: str,
        role: str,
        persona: str = "",
        round: int = 1,
        rounds: int = 1,
        options: Sequence[tuple[str, str]] = (),
        subject: Mapping[str, Any] | None = None,
        objections: Sequence[str] = (),
    ) -> str:
        """`render_stage` and `render_seat` in one."""
        asked = self.render_stage(
            stage, round=round, rounds=rounds, options=options, subject=subject, objections=objections
        )
        return asked + self.render_seat(label, role, persona)

    def render_repair(self, cause: str) -> str:
        """What is appended once when a reply could not be read; `cause` is shortened to one line."""
        line = " ".join(_plain(cause).split())
        short = line if len(line) <= _CAUSE_CHARS_MAX else line[: _CAUSE_CHARS_MAX - 1] + "…"
        return self._fill("repair", {"cause": short}) + "\n\n"

    def fence(self, text: str) -> str:
        """`text` between marks whose key does not occur in it."""
        text = _plain(text)
        key = hashlib.sha256(text.encode()).hexdigest()
        chars = next((n for n in range(_KEY_CHARS_MIN, len(key)) if key[:n] not in text), len(key))
        return self._fill("fence", {"key": key[:chars], "text": text})

    def _fill(self, name: str, values: Mapping[str, str]) -> str:
        return self._templates[name].fill(values)

    def _section(self, name: str, value: str) -> str:
        """The section with its heading, set apart by an empty line; nothing at all where it is empty."""
        return "\n\n" + self._fill(name, {name: value}) if value else ""

    def _pairs(self, name: str, pairs: Iterable[tuple[str, str]]) -> str:
        lines = "\n".join(f"{_quoted(left)}: {_quoted(right)}" for left, right in pairs)
        return self._section(name, self.fence(lines) if lines else "")


def _quoted(text: str) -> str:
    """`text` as one JSON string: one line, and its end cannot be forged."""
    return _LINE_BREAKS.sub(lambda match: f"\\u{ord(match.group()):04x}", json.dumps(_plain(text), ensure_ascii=False))


_LINE_BREAKS = re.compile("[\x85\u2028\u2029]")


def _plain(text: str) -> str:
    """`text` with lone surrogates, which no transport can carry, replaced by U+FFFD."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text

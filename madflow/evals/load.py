"""Recorded debates from files: each line a `Row`, each row a `Recording` and what the harness needs to hold it again.

What a policy will see must not depend on what things are called or how they are sorted. So:

- Seats get canonical names inside a run: s1, s2, … in the order of a digest of all that a seat said in the run, and in
  which debates. Which agents are one seat is told by their id and model, by their position where they have no id.
- A row's `fingerprint` is a digest of its question, its options and what was said by which canonical seat: no file,
  run, task or agent name is in it. Inside a round, seats stand in `core.topology.order` under it.
- Among options an answer is what `answers` recorded; where that names no option, or is absent, what is read. To an open
  question it is what the text concludes. Where that is the recorded one with more decimals, the recorded one counts,
  which is rounded as gold is; where none is read, too, unless the text says that there is none.
  Gold, condition and adversary flags are carried along for scoring, and nothing else looks at them: `stripped`
  removes them, and the rest stays the same.

Formats and limits: docs/reference/eval-data.md. A line that does not fit the schema is an error that names it.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from string import ascii_uppercase
from typing import Any, Final

from ..core.policies import Debated, Said
from ..core.topology import order
from ..errors import ConfigError
from .answers import Kind, Read, normal_answer, read_answer
from .answers.normal import number_of
from .lines import LINE_BYTES_MAX, json_lines
from .listed import listed_options
from .records import Recording
from .schema import Agent, Line, checked

__all__ = [
    "LINE_BYTES_MAX",
    "ROWS_MAX",
    "Part",
    "Row",
    "Understood",
    "load_recorded",
    "parts_of",
    "rows_of",
    "stripped",
    "understood",
]

ROWS_MAX: Final = 1_000_000
_PART_CHARS: Final = 500_000  # of replies: some tenths of a second
_SUFFIXES: Final = (".jsonl", ".jsonl.gz")
_LETTERS: Final = frozenset(ascii_uppercase)
_BARE: Final = re.compile(r"(?:\\[A-Za-z]+|[^A-Za-z\"'])+")  # signs, numbers, LaTeX: no words
_RECORDED: Final = "recorded"  # how an answer is known that the reply's own text does not give
_SCORING: Final = frozenset({"gold", "condition", "adversary", "correct", "recorded_correct"})


@dataclass(frozen=True, slots=True)
class Row:
    """One recorded debate of a file.

    Attributes:
        file: the file's name; line: 1-based. task_id, dataset: as the row gives them; run too, else the file's stem.
        prompt: the question's text; "" where only votes were recorded.
        options: (letter, words) of each; () for an open question. Words are "" where the row does not give them.
        kind: how the answers were read.
        recording: the debate, with canonical seats.
        fingerprint: hex digest of what the row holds, blind to names; no two rows of one load have the same.
        agents: canonical seat to the agent's id in the file.
        spelled: normal form of an open answer to the way `answers` spells it most often; empty where there are options.
        tokens: (round from 1, seat) to (prompt, completion) tokens as the provider counted them, where recorded.
        meta: the row's own `meta`. For reports only: it may hold what only scoring may know.
    """

    file: str
    line: int
    task_id: str
    run: str
    dataset: str
    prompt: str
    options: tuple[tuple[str, str], ...]
    kind: Kind
    recording: Recording
    fingerprint: str
    agents: Mapping[str, str] = field(default_factory=dict)
    spelled: Mapping[str, str] = field(default_factory=dict)
    tokens: Mapping[tuple[int, str], tuple[int, int]] = field(default_factory=dict)
    meta: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Part:
    """Lines of a file that are checked, and whose replies are still to be read; `lettered`: see `parts_of`."""

    file: str
    lines: tuple[tuple[int, Line], ...]
    lettered: bool


@dataclass(frozen=True, slots=True)
class Understood:
    """What a line's replies answer. `reads`: seat's identity → one for each reply; `digest`: of all that was said."""

    options: tuple[tuple[str, str], ...]
    kind: Kind
    reads: Mapping[str, tuple[Read, ...]]
    digest: str


def load_recorded(path: str | Path) -> list[Row]:
    """The rows of a file, or of every *.jsonl and *.jsonl.gz of a folder, by file name and line.

    Raises:
        ConfigError: no such file or folder, none in the folder, more than `ROWS_MAX` rows; a line that is longer than
            `LINE_BYTES_MAX`, is no JSON or does not fit the schema: the message names file, line and field.
    """
    rows: list[Row] = []
    for file in _files(Path(path)):
        rows += _named([(part, understood(part)) for part in parts_of(file, ROWS_MAX - len(rows))])
    return sorted(_distinct(rows), key=lambda row: (row.file, row.line))


def parts_of(file: Path, room: int = ROWS_MAX, *, scored: bool = True) -> list[Part]:
    """A file's lines, checked, in parts that can be read apart from each other: the first step of loading.

    What the parts of one file share is whether its answers are letters, most of them.

    Args:
        room: how many rows there may be, at most.
        scored: False: what only scoring may know is taken out of every row before anything else looks at it.

    Raises:
        ConfigError: as `load_recorded`, but for gold that fits no option.
    """
    lines = list(_counted(_checked(file, scored), room, file.name))
    lettered = _answered_by_letters(line for _, line in lines)
    parts, held, chars = [], [], 0
    for number, line in lines:
        held.append((number, line))
        chars += sum(len(text) for agent in line.agents for text in agent.rounds if text)
        if chars >= _PART_CHARS:
            parts.append(Part(file.name, tuple(held), lettered))
            held, chars = [], 0
    return [*parts, Part(file.name, tuple(held), lettered)] if held else parts


def understood(part: Part) -> list[Understood]:
    """What the replies of a part answer: the second step, and nearly all of the work."""
    return [_understood(line, part.lettered) for _, line in part.lines]


def rows_of(parts: Sequence[tuple[Part, Sequence[Understood]]]) -> list[Row]:
    """The rows of one file, by line, from all its parts: the last step, since a seat's name depends on its whole run.

    Raises:
        ConfigError: gold that names no option.
    """
    return sorted(_distinct(_named(parts)), key=lambda row: row.line)


def stripped(row: Any) -> Any:
    """A row's JSON without what only scoring may know, at any depth: gold, condition, adversary and correctness."""
    if isinstance(row, dict):
        return {key: stripped(value) for key, value in row.items() if key not in _SCORING}
    if isinstance(row, list):
        return [stripped(value) for value in row]
    return row


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise ConfigError(f"there is no file or folder {path}; name recorded debates, *.jsonl or *.jsonl.gz")
    found = sorted(one for one in path.iterdir() if one.name.endswith(_SUFFIXES) and one.is_file())
    if not found:
        raise ConfigError(f"{path} holds no *.jsonl or *.jsonl.gz; name the folder of the recorded debates")
    return found


def _checked(file: Path, scored: bool) -> Iterator[tuple[int, Line]]:
    models: tuple[str, ...] | None = None
    stem = file.name.split(".")[0]
    for number, value in json_lines(file, LINE_BYTES_MAX):
        if number == 1 and isinstance(value, dict) and "models" in value and "agents" not in value:
            models = _models(value["models"], file.name)
        else:
            yield number, checked(value if scored else stripped(value), f"{file.name}:{number}", stem, models)


def _counted(lines: Iterable[tuple[int, Line]], room: int, file: str) -> Iterator[tuple[int, Line]]:
    """The lines, as long as there is room: what is too much is not read first."""
    for place, (number, line) in enumerate(lines):
        if place >= room:
            raise ConfigError(f"{file}:{number} is one row more than a load may have, {ROWS_MAX}; load fewer files")
        yield number, line


def _models(value: Any, file: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or len(set(map(str, value))) != len(value):
        raise ConfigError(f"{file}:1 field models must be a list of distinct names (models={str(value)[:80]}); fix it")
    return tuple(str(model) for model in value)


def _understood(line: Line, lettered: bool) -> Understood:
    options, recorded = (
        _choices(line, lettered),
        {answer for agent in line.agents for answer in agent.answers if answer},
    )
    kind = _kind(line, options, recorded)
    reads = {
        agent.identity: tuple(_answer(agent, at - 1, options, kind, line.question) for at, _ in _spoken(agent))
        for agent in line.agents
    }
    words = [
        (at, text, read.answer or "")
        for a in line.agents
        for (at, text), read in zip(_spoken(a), reads[a.identity], strict=True)
    ]
    return Understood(options, kind, reads, _digest(line.question, options, sorted(words)))


def _spoken(agent: Agent) -> list[tuple[int, str]]:
    """(round, text) of each reply that was recorded."""
    return [(at, text or "") for at, text in enumerate(agent.rounds, start=1) if text is not None or agent.votes_only]


def _answered_by_letters(lines: Iterable[Line]) -> bool:
    given = [answer.strip() for line in lines for agent in line.agents for answer in agent.answers if answer]
    return 2 * sum(answer in _LETTERS for answer in given) > len(given)


def _choices(line: Line, lettered: bool) -> tuple[tuple[str, str], ...]:
    """The options: given, else listed in the question, else counted, else as many letters as were answered.

    A question that lists some and was not answered by letters is an open one.
    """
    if line.options:
        return line.options
    given = [answer.strip() for agent in line.agents for answer in agent.answers if answer]
    letters = [answer for answer in given if answer in _LETTERS]
    if given and 2 * len(letters) <= len(given):
        return ()
    listed = listed_options(line.question)
    if listed or not lettered:
        return listed
    count = line.option_count or (max(2, ascii_uppercase.index(max(letters)) + 1) if letters else 0)
    return tuple((letter, "") for letter in ascii_uppercase[:count])


def _kind(line: Line, options: Sequence[object], recorded: Iterable[str]) -> Kind:
    if options:
        return "choice"
    given = set(recorded)
    parts = [part for answer in given for part in answer.split(";") if part.strip()]
    numeric = bool(parts) and all(number_of(part) is not None for part in parts)
    texts = (text for agent in line.agents for text in agent.rounds if text)
    if not numeric and any("\\boxed" in text for text in texts):
        return "expression"
    return "numbers" if any(";" in answer for answer in given) else "number"


def _answer(agent: Agent, at: int, options: Sequence[tuple[str, str]], kind: Kind, question: str) -> Read:
    text = agent.rounds[at] or ""
    read = read_answer(text, options, kind, question) if text else Read(None, "empty")
    recorded = agent.answers[at] if at < len(agent.answers) else None
    if recorded is None:
        return read
    if options:
        letter = recorded.strip().upper()
        known = letter if letter in {one for one, _ in options} else None
    else:
        known = normal_answer(recorded)
        if read.how in ("no solution", "cut") or (read.answer and known and not _rounded(read.answer, known)):
            return read
    if not known:
        return read
    return replace(read, answer=known, how=_RECORDED if read.answer is None else read.how)


def _rounded(answer: str, recorded: str) -> bool:
    """Whether a recorded answer is the one read, to the decimals that were recorded; whole numbers are no rounding."""
    read, kept = answer.split(";"), recorded.split(";")
    return len(read) == len(kept) and all(map(_alike, read, kept))


def _alike(read: str, kept: str) -> bool:
    exact, rounded = number_of(read), number_of(kept)
    places = len(kept.partition(".")[2])
    if read == kept or exact is None or rounded is None or not places:
        return read == kept
    return bool(2 * abs(exact - rounded) * 10**places <= 1)


@dataclass(frozen=True, slots=True)
class _Draft:
    """A row whose seats have no names yet. `said`: seat's identity → (round, text, answer and confidence)."""

    file: str
    number: int
    line: Line
    options: tuple[tuple[str, str], ...]
    kind: Kind
    said: Mapping[str, Sequence[tuple[int, str, Read]]]
    digest: str


def _named(parts: Iterable[tuple[Part, Sequence[Understood]]]) -> list[Row]:
    """The rows of one file, run by run."""
    runs: dict[str, list[_Draft]] = {}
    for part, found in parts:
        for (number, line), one in zip(part.lines, found, strict=True):
            said = {
                agent.identity: [
                    (*told, read) for told, read in zip(_spoken(agent), one.reads[agent.identity], strict=True)
                ]
                for agent in line.agents
            }
            draft = _Draft(part.file, number, line, one.options, one.kind, said, one.digest)
            runs.setdefault(line.run, []).append(draft)
    return [row for run in runs.values() for row in _rows(run)]


def _rows(run: Sequence[_Draft]) -> list[Row]:
    """The rows of one run: its seats named by what they said."""
    held: dict[str, list[str]] = {}
    for draft in run:
        for identity, spoken in draft.said.items():
            mine = held.setdefault(identity, [])
            mine += [_digest(draft.digest, at, text, read.answer) for at, text, read in spoken]
    ranked = sorted(held, key=lambda identity: (_digest(*sorted(held[identity])), identity))
    names = {identity: f"s{place}" for place, identity in enumerate(ranked, start=1)}
    whole = _digest(*sorted(draft.digest for draft in run))
    return [_row(draft, names, whole) for draft in run]


def _row(draft: _Draft, names: Mapping[str, str], run: str) -> Row:
    line, seats = draft.line, tuple(sorted((names[one] for one in draft.said), key=lambda name: int(name[1:])))
    spoken = [(at, names[one], text, read) for one, all_of in draft.said.items() for at, text, read in all_of]
    content = sorted((at, seat, text, read.answer or "") for at, seat, text, read in spoken)
    print_ = _digest(draft.digest, run, content)
    said = {(at, seat): Said(seat, read.answer, read.confidence, text) for at, seat, text, read in spoken}
    rounds = tuple(
        tuple(said[at, seat] for seat in order(seats, debate_id=print_, round=at, seed=0) if (at, seat) in said)
        for at in range(1, max((at for at, _ in said), default=0) + 1)
    )
    by_name = {names[agent.identity]: agent for agent in line.agents}
    recording = Recording(
        key=f"{draft.file}:{draft.number}",
        question=_digest(line.dataset, line.question or line.task_id),
        run=f"{draft.file}/{line.run}",
        debated=Debated(rounds, seats, rounds_max=max(1, len(rounds)), options=len(draft.options)),
        gold=_gold(draft),
        condition=line.condition,
        adversaries=frozenset(seat for seat, agent in by_name.items() if agent.adversary),
        prompt_chars=_per_call(by_name, said, "prompt_chars"),
        latency_ms=_per_call(by_name, said, "latency_ms"),
        unread=frozenset(
            (at, seat) for at, seat, text, read in spoken if text and (read.answer is None or read.how == _RECORDED)
        ),
    )
    return Row(
        file=draft.file,
        line=draft.number,
        task_id=line.task_id,
        run=line.run,
        dataset=line.dataset,
        prompt=line.question,
        options=draft.options,
        kind=draft.kind,
        recording=recording,
        fingerprint=print_,
        agents={seat: agent.id for seat, agent in by_name.items()},
        spelled={} if draft.options else _spelled(line),
        tokens=_per_call(by_name, said, "tokens"),
        meta=line.meta,
    )


def _spelled(line: Line) -> dict[str, str]:
    """Each open answer's most frequent spelling among those recorded, without units; of equally many, the first."""
    found: dict[str, Counter[str]] = {}
    for agent in line.agents:
        for answer in agent.answers:
            if answer and _BARE.fullmatch(answer) and (normal := normal_answer(answer)):
                found.setdefault(normal, Counter())[answer.strip()] += 1
    return {normal: min(ways, key=lambda way: (-ways[way], way)) for normal, ways in found.items()}


def _per_call(agents: Mapping[str, Agent], said: Iterable[tuple[int, str]], name: str) -> dict[tuple[int, str], Any]:
    found = {}
    for at, seat in said:
        values = getattr(agents[seat], name)
        if at <= len(values) and values[at - 1] is not None:
            found[at, seat] = values[at - 1]
    return found


def _gold(draft: _Draft) -> str | None:
    gold = draft.line.gold
    if gold is None:
        return None
    if not draft.options:
        return normal_answer(gold)
    letters = [letter for letter, _ in draft.options]
    letter = gold.strip(" ().").upper()
    if letter not in letters and not draft.line.options:
        return normal_answer(gold)
    if letter not in letters:
        raise ConfigError(
            f"{draft.file}:{draft.number} field gold names no option (gold={gold[:40]!r}, options {letters}); fix it"
        )
    return letter


def _distinct(rows: Sequence[Row]) -> list[Row]:
    """Rows that are alike to the last letter get prints of their own, by their order."""
    seen: dict[str, int] = {}
    made = []
    for row in rows:
        again = seen[row.fingerprint] = seen.get(row.fingerprint, 0) + 1
        made.append(row if again == 1 else replace(row, fingerprint=_digest(row.fingerprint, again)))
    return made


def _digest(*parts: object) -> str:
    text = json.dumps(parts, ensure_ascii=True, default=str)
    return sha256(text.encode()).hexdigest()

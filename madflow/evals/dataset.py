"""Questions of one's own, from JSON lines or a table: what GSM8K, MMLU and TruthfulQA look like, and much alike.

A field is found by its usual names, in any case (`NAMES`). What a row means must be certain: a right answer that could
be read in two ways, a hole among the options, two rows with one id are errors that name file, line and field.

Where the right option stands first by convention (TruthfulQA), options are put in the order of a digest of question
and option: the same on every machine, and blind to which is right.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from string import ascii_uppercase
from typing import Any, Final, NoReturn

from ..errors import ConfigError
from ..prompts import nearest
from .answers import ANSWER_CHARS_MAX, normal_answer, read_answer
from .lines import json_lines, opened

__all__ = ["NAMES", "QUESTIONS_MAX", "QUESTION_CHARS_MAX", "Question", "load_questions"]

QUESTIONS_MAX: Final = 200_000
QUESTION_CHARS_MAX: Final = 200_000
NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    "task_id": ("task_id", "id", "question_id", "qid", "uid", "idx"),
    "question": ("question", "prompt", "input", "query", "problem", "question_text"),
    "options": ("options", "choices", "endings"),
    "gold": ("gold", "answer", "label", "target", "answerkey", "answer_index", "correct_answer", "cop", "solution"),
    "best": ("best_answer", "best answer"),
    "wrong": ("incorrect_answers", "incorrect answers"),
}
"""What a field may be called, lower case; the first one that a row has counts."""
_COLUMNS: Final = ("{}", "option_{}", "choice_{}", "option {}", "choice {}", "option{}", "choice{}", "op{}")
_TABLES: Final = {".csv": ",", ".tsv": "\t"}


@dataclass(frozen=True, slots=True)
class Question:
    """One question.

    Attributes:
        task_id: its own in the file. question: the text to ask, without the options.
        options: (letter, words), letters from A; () for an open question.
        gold: the right option's letter, or the normal form of the right answer; None where the row has none.
    """

    task_id: str
    question: str
    options: tuple[tuple[str, str], ...] = ()
    gold: str | None = None


def load_questions(path: str | Path, *, gold: bool = False) -> list[Question]:
    """The questions of a .jsonl, .csv or .tsv file, each plain or gzipped, in its order.

    Args:
        gold: every row has its right answer; one that has none is an error.

    Raises:
        ConfigError: no such file, an unknown kind of file, more than `QUESTIONS_MAX` rows, none, or a row that cannot
            be understood: the message names file, line, field, what was found and the fix.
    """
    file = Path(path)
    if not file.is_file():
        raise ConfigError(f"there is no file {path}; name a .jsonl, .csv or .tsv of questions")
    suffix = Path(file.name.removesuffix(".gz")).suffix.lower()
    if suffix in (".jsonl", ".ndjson"):
        rows = json_lines(file)
    elif suffix in _TABLES:
        rows = _table(file, _TABLES[suffix])
    else:
        raise ConfigError(f"{file.name} is neither .jsonl nor .csv nor .tsv; save the questions as one of them, UTF-8")
    found: list[Question] = []
    lines: dict[str, int] = {}
    for number, value in rows:
        if len(found) == QUESTIONS_MAX:
            raise ConfigError(f"{file.name} holds more than {QUESTIONS_MAX} questions; split it")
        row = _Row(value, file.name, number)
        question = row.question()
        if gold and question.gold is None:
            row.refuse_blind()
        if question.task_id in lines:
            first = lines[question.task_id]
            raise ConfigError(f"{file.name}:{number} has the id {question.task_id!r} of line {first}; give it its own")
        lines[question.task_id] = number
        found.append(question)
    if not found:
        raise ConfigError(f"{file.name} holds no questions; a row has at least a question")
    return found


def _table(file: Path, delimiter: str) -> Iterator[tuple[int, dict[str, str]]]:
    """Rows by the names in the first line; without such a line: question, options, the right letter (MMLU's own)."""
    try:
        whole = opened(file)
    except (EOFError, OSError) as error:
        raise ConfigError(f"{file.name}:1 cannot be read ({error}); save the table as UTF-8") from error
    with whole as stream:
        reader = csv.reader(io.TextIOWrapper(stream, "utf-8-sig", newline=""), delimiter=delimiter, strict=True)
        header: list[str] | None = None
        try:
            for cells in reader:
                if not any(cell.strip() for cell in cells):
                    continue
                if header is None:
                    header = [cell.strip().lower() for cell in cells]
                    if set(header) & set(NAMES["question"]):
                        continue
                    header = _positions(cells, file.name)
                if len(cells) != len(header):
                    raise ConfigError(
                        f"{file.name}:{reader.line_num} has {len(cells)} cells, the first line {len(header)}; quote "
                        f"cells that hold a {delimiter!r}"
                    )
                yield reader.line_num, dict(zip(header, cells, strict=True))
        except (csv.Error, UnicodeDecodeError, EOFError, OSError) as error:
            where = f"{file.name}:{reader.line_num + 1}"
            raise ConfigError(f"{where} cannot be read ({error}); save the table as UTF-8") from error


def _positions(cells: Sequence[str], file: str) -> list[str]:
    letters = [letter.lower() for letter in ascii_uppercase[: max(0, len(cells) - 2)]]
    if len(letters) >= 2 and cells[-1].strip().lower() in letters:
        return ["question", *letters, "answer"]
    raise ConfigError(
        f"{file}:1 names no column for the question ({', '.join(cells)[:80]}); call it one of "
        f"{', '.join(NAMES['question'])}"
    )


class _Row:
    """One row, its fields by their usual names."""

    def __init__(self, value: Any, file: str, number: int) -> None:
        self.where = f"{file}:{number}"
        if not isinstance(value, dict):
            raise ConfigError(f"{self.where} is no JSON object ({str(value)[:40]!r}); a row is one object a line")
        self.default = f"{file.split('.', 1)[0]}-{number}"
        self.fields = {str(name).strip().lower(): content for name, content in value.items()}

    def refuse(self, name: str, found: str, fix: str) -> NoReturn:
        raise ConfigError(f"{self.where} field {name}: {found[:120]}; {fix}")

    def refuse_blind(self) -> NoReturn:
        """A row has no right answer: name the field that is probably meant to be it."""
        close, near = self._near("gold")
        self.refuse(close or "gold", f"no right answer{near}", f"a row has it in one of {', '.join(NAMES['gold'])}")

    def _near(self, field: str) -> tuple[str, str]:
        """(a field of the row that no name is known for and that is nearly one of `field`'s, the hint), or blanks."""
        known = {name for names in NAMES.values() for name in names}
        for name in self.fields:
            near = "" if name in known else nearest(name, NAMES[field])
            if near:
                return name, near
        return "", ""

    def find(self, field: str) -> tuple[str, Any]:
        """(name, content) of a field, ("", None) where the row has none or an empty one."""
        for name in NAMES[field]:
            content = self.fields.get(name)
            if content is not None and content != "":
                return name, content
        return "", None

    def question(self) -> Question:
        name, text = self.find("question")
        if not isinstance(text, str) or not text.strip():
            names = ", ".join(NAMES["question"])
            close, near = ("", "") if name else self._near("question")
            found = f"no question{near}" if near else f"found {text!r:.60}"
            self.refuse(name or close or "question", found, f"a row has its question as a string in one of {names}")
        if len(text) > QUESTION_CHARS_MAX:
            self.refuse(name, f"{len(text)} characters", f"the limit is {QUESTION_CHARS_MAX}")
        task_id = str(self.find("task_id")[1] if self.find("task_id")[0] else self.default)
        marked = self._marked(text)
        if marked is not None:
            return Question(task_id, text.strip(), *marked)
        options, labels = self._options()
        return Question(task_id, text.strip(), options, self._gold(options, labels))

    def _marked(self, question: str) -> tuple[tuple[tuple[str, str], ...], str] | None:
        """TruthfulQA: options that say which of them is right, put in an order that does not."""
        best, wrong = self.find("best")[1], self.find("wrong")[1]
        targets = self.fields.get("mc1_targets")
        if isinstance(targets, str):
            targets = self._json("mc1_targets", targets)
        if isinstance(targets, dict) and isinstance(targets.get("choices"), list):
            choices, flags = targets["choices"], targets.get("labels")
            if not isinstance(flags, list) or len(flags) != len(choices):
                self.refuse(
                    "mc1_targets", f"{len(choices)} choices, labels {flags!r:.40}", "give each choice its label, 0 or 1"
                )
            pairs = list(zip(choices, flags, strict=True))
        elif isinstance(targets, dict):
            pairs = list(targets.items())
        elif isinstance(best, str) and wrong:
            others = wrong.split(";") if isinstance(wrong, str) else wrong
            pairs = [(best, 1), *((other, 0) for other in others)]
        else:
            return None
        words = [str(text).strip() for text, _ in pairs]
        right = {str(text).strip() for text, flag in pairs if flag in (1, True, "1")}
        if len(right) != 1 or len(set(words)) != len(words) or not all(words):
            self.refuse(
                "mc1_targets",
                f"{len(right)} right among {len(words)} choices",
                "exactly one of distinct choices is right",
            )
        ordered = sorted(
            words, key=lambda word: sha256(f"{question}\0{word}".encode("utf-8", "backslashreplace")).digest()
        )
        options = self._lettered("mc1_targets", ordered)
        return options, next(letter for letter, word in options if word in right)

    def _options(self) -> tuple[tuple[tuple[str, str], ...], tuple[str, ...]]:
        """(options, the labels that the row itself gives them)."""
        name, content = self.find("options")
        labels: Sequence[Any] = ()
        if isinstance(content, str):
            content = self._json(name, content)
        if isinstance(content, dict) and isinstance(content.get("text"), list):
            content, labels = content["text"], content.get("label") or ()
        elif isinstance(content, dict):
            content, labels = list(content.values()), list(content)
        if not name:
            name, content = "options", self._columns()
        if not content:
            return (), ()
        if not isinstance(content, list) or not all(isinstance(word, str | int | float) for word in content):
            self.refuse(name, f"found {content!r:.60}", "options are an array of strings, or columns A, B, C, …")
        if labels and len(labels) != len(content):
            self.refuse(name, f"{len(content)} options, {len(labels)} labels", "give each option one label")
        return self._lettered(name, [str(word).strip() for word in content]), tuple(str(label) for label in labels)

    def _columns(self) -> list[str]:
        for pattern in _COLUMNS:
            cells = [str(self.fields.get(pattern.format(letter.lower())) or "").strip() for letter in ascii_uppercase]
            last = max((place for place, cell in enumerate(cells) if cell), default=-1)
            if cells[0] and last > 0:
                if not all(cells[: last + 1]):
                    hole = pattern.format(ascii_uppercase[cells.index("")])
                    self.refuse(hole, "empty", "options fill the columns from A on without a hole")
                return cells[: last + 1]
        return []

    def _lettered(self, name: str, words: Sequence[str]) -> tuple[tuple[str, str], ...]:
        if not 2 <= len(words) <= len(ascii_uppercase):
            self.refuse(
                name, f"{len(words)} options", f"there are 2 to {len(ascii_uppercase)}; leave them out to ask openly"
            )
        return tuple(zip(ascii_uppercase, words, strict=False))

    def _json(self, name: str, text: str) -> Any:
        try:
            return json.loads(text)
        except ValueError:
            self.refuse(name, f"found {text[:60]!r}", "write a JSON array, or use columns A, B, C, …")

    def _gold(self, options: Sequence[tuple[str, str]], labels: Sequence[str]) -> str | None:
        name, gold = self.find("gold")
        if not name:
            return None
        if isinstance(gold, bool) or not isinstance(gold, str | int | float):
            self.refuse(
                name, f"found {gold!r:.60}", "it is a letter, an option's words, an index from 0, or the answer"
            )
        return self._choice(name, gold, options, labels) if options else self._open(name, str(gold))

    def _choice(self, name: str, gold: str | float, options: Sequence[tuple[str, str]], labels: Sequence[str]) -> str:
        """A JSON number is an index from 0. A string is a label, else a letter, else an option's words or an index."""
        said = str(gold).strip()
        letters = [letter for letter, _ in options]
        index = int(said) if len(said) < 3 and said.isascii() and said.isdigit() else -1
        at_index = [letters[index]] if 0 <= index < len(letters) else []
        worded = [letter for letter, words in options if words == said]
        if not isinstance(gold, str):
            found = at_index
        elif said in labels:
            found = [letters[list(labels).index(said)]]
        elif said.strip("().: ").upper() in letters:
            found = [said.strip("().: ").upper()]
        else:
            found = sorted({*worded, *at_index})
        if len(found) != 1:
            meant = f"it could be {' or '.join(found)}" if found else f"it names none of {', '.join(letters)}"
            self.refuse(name, f"found {gold!r:.40}, {meant}", "write the right option's letter")
        return found[0]

    def _open(self, name: str, gold: str) -> str:
        """GSM8K's "#### 42", a box, or the whole."""
        marked = "####" in gold or "\\boxed" in gold
        answer = read_answer(gold, kind="text").answer if marked else normal_answer(gold)
        if answer is None:
            self.refuse(
                name,
                f"found {gold[:40]!r}",
                f"end it in '#### ANSWER', or write at most {ANSWER_CHARS_MAX} characters",
            )
        return answer

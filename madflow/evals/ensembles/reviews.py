"""Recorded code reviews: several reviewers' comments on one change, the issues they should find, a judge's matches.

A line of `NAME.jsonl` or `NAME.jsonl.gz` is one change (a pull request):

    {"pr", "repo", "golden": [{"id"?, ..}, ..], "reviews": {reviewer: [comment, ..]}}
    comment: {"text", "path"?, "line"? | "from"? "to"?, "matches"?: [golden id, ..], "verdict"?}

Golden issues without `id` are numbered by their place. A comment without `matches` matches the golden issue with its
own text, which is how a benchmark that keeps the comments experts found valid records them. A verdict of null means
that nobody judged the comment on its own: the judge of `martian50` leaves it so where another comment of the same
reviewer was the better match.

Only `Comment.remark` is shown to what is measured; matches and verdicts are for scoring, and for learning on other
repositories.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ...core.same import Remark
from ...errors import ConfigError
from ..lines import json_lines

__all__ = ["Comment", "Pull", "load_reviews", "review_files"]

_SUFFIXES: Final = (".jsonl", ".jsonl.gz")
_PULLS_MAX: Final = 10_000


@dataclass(frozen=True, slots=True)
class Comment:
    """One comment. `matches`: the golden issues it is about; `judged`: whether somebody said so or denied it."""

    remark: Remark
    matches: frozenset[int]
    judged: bool


@dataclass(frozen=True, slots=True)
class Pull:
    """One change and all comments on it, reviewers in order of their names, each one's comments in its own order.

    Attributes:
        name: unique in a file. golden: the ids of the issues that are to be found.
    """

    name: str
    repo: str
    golden: frozenset[int]
    comments: tuple[Comment, ...]

    @property
    def reviewers(self) -> frozenset[str]:
        """Who commented. A reviewer with nothing to say may as well have failed, so it is not taken for silent."""
        return frozenset(comment.remark.by for comment in self.comments)

    def volume(self, reviewer: str) -> int:
        """How many comments a reviewer made."""
        return sum(comment.remark.by == reviewer for comment in self.comments)


class _Loose(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class _Golden(_Loose):
    id: int | None = Field(default=None, ge=0)
    text: str = ""


class _Said(_Loose):
    text: str
    path: str | None = None
    line: int | None = Field(default=None, ge=0)
    first: int | None = Field(default=None, alias="from", ge=0)
    last: int | None = Field(default=None, alias="to", ge=0)
    matches: list[int] | None = None
    verdict: str | None = None


class _Line(_Loose):
    pr: str = Field(min_length=1)
    repo: str = Field(min_length=1)
    golden: list[_Golden]
    reviews: dict[str, list[_Said]]


def review_files(folder: Path) -> tuple[Path, ...]:
    """The files of a folder that hold reviews, by name.

    Raises:
        ConfigError: it is no folder, or none is in it.
    """
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no folder; give the one with recorded reviews")
    found = tuple(path for path in sorted(folder.iterdir()) if path.name.endswith(_SUFFIXES) and path.is_file())
    if not found:
        raise ConfigError(f"{folder}: no file that ends in {' or '.join(_SUFFIXES)}; recorded reviews are such files")
    return found


def load_reviews(path: Path) -> list[Pull]:
    """Every change of a file, in its order.

    Raises:
        ConfigError: it cannot be read, a line does not fit, a change is there twice, a limit is exceeded.
    """
    pulls: list[Pull] = []
    seen: set[str] = set()
    for number, line in json_lines(path):
        if number > _PULLS_MAX:
            raise ConfigError(f"{path.name}:{number}: more than {_PULLS_MAX} lines; split the file")
        pull = _pull(line, f"{path.name}:{number}")
        if pull.name in seen:
            raise ConfigError(f"{path.name}:{number}: {pull.name} is there twice; remove one")
        seen.add(pull.name)
        pulls.append(pull)
    return pulls


def _pull(value: Any, where: str) -> Pull:
    try:
        line = _Line.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"])) or "the line"
        raise ConfigError(f"{where}: {place}: {first['msg']}; see the module's docstring for the schema") from error
    ids = [golden.id if golden.id is not None else place for place, golden in enumerate(line.golden)]
    if len(set(ids)) != len(ids):
        raise ConfigError(f"{where}: golden ids {ids} are not distinct; number them")
    by_text = {golden.text: name for golden, name in zip(line.golden, ids, strict=True) if golden.text}
    comments = []
    for reviewer in sorted(line.reviews):
        for said in line.reviews[reviewer]:
            matches = (
                said.matches
                if said.matches is not None
                else [by_text[text] for text in (said.text,) if text in by_text]
            )
            if not set(matches) <= set(ids):
                raise ConfigError(f"{where}: {reviewer} matches {matches}, but the golden ids are {ids}; fix the match")
            remark = Remark(by=reviewer, text=said.text, file=said.path or "", lines=_span(said))
            comments.append(Comment(remark, frozenset(matches), bool(matches) or said.verdict is not None))
    return Pull(line.pr, line.repo, frozenset(ids), tuple(comments))


def _span(said: _Said) -> tuple[int, int] | None:
    ends = [end for end in (said.first, said.last, said.line) if end is not None]
    return (min(ends), max(ends)) if ends else None

"""A suite's page and drawings as files: complete, closed to the outside, and the same each time.

`MADFLOW_REWRITE=1 pytest tests/report` writes the expected files anew: look at them in a browser before a commit.
"""

import base64
import hashlib
import os
import re
import subprocess
import sys
from collections import Counter
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from report_cases import crowded, empty, hostile, measured, small

from madflow.errors import ConfigError, MadflowError
from madflow.report import render, render_all, render_index
from madflow.report.index import summary
from madflow.report.reading import results_of

GOLDEN = Path(__file__).parent / "golden"
CASES = {"empty": empty, "small": small, "hostile": hostile, "one": lambda: crowded(1), "crowded": lambda: crowded(30)}
VOID = frozenset(("area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"))


class Page(HTMLParser):
    """What a page holds: its elements with their attributes and ancestors, and the texts of style and script."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None], tuple[str, ...]]] = []
        self.texts: Counter[str] = Counter()
        self.inside: dict[str, list[str]] = {"style": [], "script": []}
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs), tuple(self.open)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts[data] += 1
        if self.open and self.open[-1] in self.inside:
            self.inside[self.open[-1]].append(data)

    def tagged(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes, _ in self.elements if name == tag]


def written(case: dict[str, Any], out: Path) -> dict[str, str]:
    return {path.name: path.read_text(encoding="utf-8") for path in render(case, out)}


@pytest.fixture(params=CASES)
def files(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    return written(CASES[request.param](), tmp_path)


@pytest.mark.parametrize("name", ["report.html", "accuracy-tokens.svg", "rounds.svg", "flips.svg", "summary.md"])
def test_the_small_suite_looks_as_it_did(name: str, tmp_path: Path) -> None:
    """Would catch any change of what is written; look at it before it is accepted."""
    found = written(small(), tmp_path) | {"summary.md": summary([("small", results_of(small()))])}
    path = GOLDEN / name
    if os.environ.get("MADFLOW_REWRITE") == "1":
        path.parent.mkdir(exist_ok=True)
        path.write_text(found[name], encoding="utf-8")
    expected = path.read_text(encoding="utf-8")
    assert found[name] == expected, f"{name} differs; MADFLOW_REWRITE=1 rewrites it, if the change is meant"


def test_a_page_asks_for_nothing(files: dict[str, str]) -> None:
    """Would catch an address, a style or handler attribute, a policy that does not fit, a second script."""
    page = Page(files["report.html"])
    for tag, attributes, _ in page.elements:
        assert not [
            name for name in attributes if name.startswith("on") or name in ("style", "src", "srcdoc", "action")
        ]
        href = attributes.get("href")
        assert href is None or re.fullmatch(r"#[a-z-]+|[a-z-]+\.svg|data:,", href), (tag, href)
    assert "url(" not in files["report.html"] and "@import" not in files["report.html"]
    assert [len(page.tagged(tag)) for tag in ("style", "script", "title", "body")] == [1, 1, 1 + svgs(page), 1]
    policy = next(m["content"] for m in page.tagged("meta") if m.get("http-equiv") == "Content-Security-Policy") or ""
    for kind, (text,) in page.inside.items():
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'; ") and "unsafe" not in policy


def svgs(page: Page) -> int:
    """How many titles inside drawings there are."""
    return sum(tag == "title" and "svg" in above for tag, _, above in page.elements)


def test_a_page_can_be_read_without_eyes(files: dict[str, str]) -> None:
    """Would catch a table without caption or head cells, a drawing without a name, a link into nowhere, a double id."""
    page = Page(files["report.html"])
    assert page.tagged("html") == [{"lang": "en"}]
    assert len(page.tagged("caption")) == len(page.tagged("table"))
    assert all(head.get("scope") in ("col", "row") for head in page.tagged("th"))
    images = [svg for svg in page.tagged("svg") if svg.get("role") == "img"]
    assert sum(tag == "desc" for tag, _, _ in page.elements) == len(images)
    assert all(svg.get("role") == "img" or svg.get("aria-hidden") == "true" for svg in page.tagged("svg"))
    ids = [attributes["id"] for _, attributes, _ in page.elements if "id" in attributes]
    links = {link["href"] for link in page.tagged("a")}
    assert len(ids) == len(set(ids))
    assert {link for link in links if link and link[0] == "#"} <= {f"#{name}" for name in ids}
    assert {link for link in links if link and link[0] != "#"} <= files.keys()


def test_drawings_are_well_formed_and_alone(files: dict[str, str]) -> None:
    """Would catch markup in a name, and an address beside the name of the format."""
    for name, text in files.items():
        if name.endswith(".svg"):
            root = ElementTree.fromstring(text)
            assert root.tag == "{http://www.w3.org/2000/svg}svg"
            kinds = {one.tag.partition("}")[2] for one in root.iter()}
            assert kinds <= {
                "svg",
                "title",
                "desc",
                "style",
                "rect",
                "text",
                "g",
                "line",
                "circle",
                "polygon",
                "polyline",
            }
            assert not any(key.endswith("href") or key.startswith("on") for one in root.iter() for key in one.attrib)
            assert "url(" not in text and "@import" not in text


def test_hostile_texts_stay_texts(tmp_path: Path) -> None:
    """Would catch an unescaped name, an invisible character that is kept, and a name of 10 kB."""
    files = written(hostile(), tmp_path)
    page = Page(files["report.html"])
    assert any("<script>alert(1)</script>" in text for text in page.texts), "shown as it is, as text"
    assert "<script>alert" not in files["report.html"]
    for text in files.values():
        assert not {"\x1b", "\u202e", "\x00"} & set(text)
        assert "n" * 3_000 not in text
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(files)


def test_what_was_not_measured_is_a_dash(tmp_path: Path) -> None:
    """Would catch a missing value drawn or listed as 0, and a target that counts as met without a value."""
    case = empty() | {"measures": [measured("a", "accuracy", None), measured("a", "token_share", None)]}
    case["targets"] = [small()["targets"][-1] | {"met": True}]
    files = written(case, tmp_path)
    assert files.keys() == {"report.html"}, "there is nothing to draw"
    page = Page(files["report.html"])
    assert page.texts["–"] == 3
    assert page.texts["not measured"] == 1 and not page.texts["✓ met"]
    assert page.texts["0 of 1 target met"] == 1
    assert "0.0000" not in files["report.html"]


def test_what_failed_is_said_first(tmp_path: Path) -> None:
    """Would catch a report that hides what is missing."""
    text = written(small() | {"failed": [{"key": "robust/run-3", "error": "lost"}]}, tmp_path)["report.html"]
    assert text.index("1 piece of work failed") < text.index("<main>") < text.index("robust/run-3")


def test_the_same_results_give_the_same_bytes() -> None:
    """Would catch an order that depends on the hash seed, and a clock."""
    code = (
        "import sys, hashlib, pathlib, tempfile; sys.path.insert(0, sys.argv[1])\n"
        "from report_cases import crowded, hostile\nfrom madflow.report import render\n"
        "for case in (crowded(9), hostile()):\n"
        "    with tempfile.TemporaryDirectory() as out:\n"
        "        for path in render(case, pathlib.Path(out)):\n"
        "            print(path.name, hashlib.sha256(path.read_bytes()).hexdigest())\n"
    )
    said = [
        subprocess.run(
            [sys.executable, "-c", code, str(Path(__file__).parent)],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert said[0] == said[1] and said[0].count("\n") >= 4


def test_a_drawing_without_data_does_not_stay(tmp_path: Path) -> None:
    """Would catch the drawing of an earlier run beside the page of this one."""
    assert {path.name for path in render(small(), tmp_path)} == {path.name for path in tmp_path.iterdir()}
    assert [path.name for path in render(empty(), tmp_path)] == [path.name for path in tmp_path.iterdir()]


def test_others_may_read_what_is_written(tmp_path: Path) -> None:
    """Would catch a report that a web server cannot serve, since a temporary file became it."""
    assert {path.stat().st_mode & 0o777 for path in render(small(), tmp_path)} == {0o644}


def test_the_index_links_every_suite(tmp_path: Path) -> None:
    """Would catch a suite or a target that is left out, and a link that leads nowhere."""
    for name, case in (("small", small()), ("odd name %23", hostile())):
        (tmp_path / name).mkdir()
        (tmp_path / name / "results.json").write_text(results_of(case).model_dump_json(by_alias=True))
    found = render_all(tmp_path)
    assert [path.name for path in found[:2]] == ["index.html", "summary.md"]
    page = Page(found[0].read_text(encoding="utf-8"))
    links = [link["href"] for link in page.tagged("a")]
    assert set(links) == {"./small/report.html", "./odd%20name%20%2523/report.html"} and len(links) == 2 + 6
    assert page.texts["2 of 5 targets met, 1 without data"] == 1
    assert all(path.exists() for path in found)


def test_markdown_stays_a_table(tmp_path: Path) -> None:
    """Would catch a name that ends a cell, a fence or a line."""
    text = summary([("x", results_of(hostile())), ("small", results_of(small()))])
    assert "\x1b" not in text and "\u202e" not in text
    outside, fence = [], ""
    for line in text.splitlines():
        opened = re.match("`{3,}", line)
        if not fence and opened:
            fence = opened[0]
        elif fence and line == fence:
            fence = ""
        elif not fence:
            outside.append(line)
    assert not fence
    assert not [line for line in outside if re.search(r"(?<!\\)(<|\]\()", line)]
    rows = [re.sub(r"\\\|", "", line).count("|") for line in outside]
    for count, after in pairwise(rows):
        assert not count or not after or count == after


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"schema": "madflow.results/2"}, "schema"),
        ({"measures": [{"arm": "a"}]}, "measures.0.value"),
        ({"elapsed_s": float("nan")}, "elapsed_s"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_other_documents_are_refused(change: dict[str, Any], names: str, tmp_path: Path) -> None:
    """Would catch a page made of half a document."""
    with pytest.raises(ConfigError, match=re.escape(names)):
        render(empty() | change, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_errors_name_the_place(tmp_path: Path) -> None:
    """Would catch a traceback where a sentence is due."""
    with pytest.raises(ConfigError, match="no suite has results there"):
        render_index(tmp_path)
    with pytest.raises(ConfigError, match="cannot be read"):
        render(tmp_path / "absent", tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(MadflowError, match="cannot be written"):
        render(empty(), tmp_path / "file")

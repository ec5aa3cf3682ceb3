"""A page in a real browser, where there is one: chromium on the path, or named by MADFLOW_CHROMIUM.

Geometry is estimated when a drawing is made; here it is measured. Would catch: labels that touch in real fonts, text
cut off by its drawing, a page that scrolls sideways, a script or style that the page's own policy refuses.
"""

import html
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from report_cases import crowded, hostile, small

from madflow.report import render

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
BROWSER = os.environ.get("MADFLOW_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no chromium on the path, and MADFLOW_CHROMIUM names none")

PROBE = """
<script>
const boxed = (text) => [text.textContent, text.getBoundingClientRect()];
const boxes = (svg) => Array.from(svg.querySelectorAll("text"), boxed);
const touch = (a, b) => a.left + 1 < b.right && b.left + 1 < a.right && a.top + 3 < b.bottom && b.top + 3 < a.bottom;
const found = { touching: [], cut: [], sideways: document.documentElement.scrollWidth - innerWidth, texts: 0 };
for (const svg of document.querySelectorAll("svg.panel")) {
  const all = boxes(svg), frame = svg.getBoundingClientRect();
  found.texts += all.length;
  all.forEach(([name, box], n) => {
    if (box.left < frame.left - 1 || box.right > frame.right + 1 || box.bottom > frame.bottom + 1) found.cut.push(name);
    for (const [other, its] of all.slice(0, n)) if (touch(box, its)) found.touching.push([other, name]);
  });
}
const first = document.querySelector("table.sorts th button");
const column = () => Array.from(first.closest("table").tBodies[0].rows, (row) => row.cells[0].textContent);
first.click();
found.up = column();
first.click();
found.down = column();
const out = document.createElement("pre");
out.id = "probe";
out.textContent = JSON.stringify(found);
document.body.append(out);
</script>
"""


def shown(page: Path, folder: Path, width: int) -> tuple[str, list[str]]:
    """The page's elements after its scripts ran, and what the browser's console said."""
    assert BROWSER is not None
    options = ["--headless=new", "--disable-gpu", "--disable-dev-shm-usage", "--enable-logging=stderr", "--dump-dom"]
    options += [f"--user-data-dir={folder / 'profile'}", f"--window-size={width},900"]
    options += ["--no-sandbox"] if os.geteuid() == 0 else []
    done = subprocess.run(
        [BROWSER, *options, page.as_uri()],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        stdin=subprocess.DEVNULL,
    )
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def test_the_page_runs_under_its_own_policy(tmp_path: Path) -> None:
    """Would catch a style or script that the policy refuses, and one that a name brings along."""
    page, *_ = render(hostile(), tmp_path)
    text, console = shown(page, tmp_path, 1280)
    assert not console
    assert '<th scope="col"><button type="button">' in text, "the script ran"


@pytest.mark.parametrize("case", [small, lambda: crowded(9), lambda: crowded(30)], ids=["small", "nine", "thirty"])
@pytest.mark.parametrize("width", [500, 1280])
def test_nothing_touches_and_nothing_is_cut(case: Callable[[], dict[str, Any]], width: int, tmp_path: Path) -> None:
    """Would catch estimates of text that are too small, and a table that pushes the page wide."""
    page, *_ = render(case(), tmp_path)
    text = page.read_text(encoding="utf-8")
    assert text.count("</body>") == 1
    opened = re.sub(r"<meta http-equiv=[^>]*>", "", text).replace("</body>", f"{PROBE}</body>")
    copy = tmp_path / "probed.html"
    copy.write_text(opened, encoding="utf-8")
    dumped, console = shown(copy, tmp_path, width)
    assert not console
    probe = re.search(r'<pre id="probe">(.*)</pre>', dumped, re.S)
    assert probe is not None
    found = json.loads(html.unescape(probe[1]))
    assert found["texts"] > 10
    assert found["touching"] == []
    assert found["cut"] == []
    assert found["sideways"] <= 0
    assert found["up"] == sorted(found["up"]) == found["down"][::-1]

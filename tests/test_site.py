"""The site of the documentation: its strict build, and its pages in a real browser, opened from files."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from test_leaderboard_browser import browser
from test_reports import HOSTILE, LEVELS, experiment, fill, write

from byzbench import load_results

__all__ = ["browser"]

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parent.parent
PAGES = (
    "index.html",
    "get-started.html",
    "axes.html",
    "extend/algorithm.html",
    "reference/cli.html",
    "reference/api.html",
    "reference/core.html",
    "reference/metrics.html",
    "reference/formats.html",
    "notebooks/read-a-store.html",
    "reference/components/attack.html",
    "smoke-v2.html",
    "boards.html",
    "changelog.html",
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built strictly: a link, an anchor or a page that is missing is an error."""
    out = tmp_path_factory.mktemp("site")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NO_MKDOCS_2_WARNING": "1"}
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(out)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return out


class Requested(HTMLParser):
    """What a page loads by itself, and its pictures without an alternative text."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.foreign: list[str] = []
        self.silent: list[str] = []
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {key: value or "" for key, value in attrs}
        source = values.get("href" if tag == "link" else "src", "") if values.get("rel") != "canonical" else ""
        if tag in ("link", "script", "img", "iframe") and re.match(r"(https?:)?//", source):
            self.foreign.append(source)
        if tag == "img" and not values.get("alt"):
            self.silent.append(source)


def test_pages_load_nothing_of_other_hosts_and_describe_pictures(site: Path) -> None:
    pages = [page for page in site.rglob("*.html") if not page.is_relative_to(site / "leaderboard")]
    assert len(pages) > 60
    read = {page.relative_to(site): Requested(page) for page in pages}
    assert not {page: seen.foreign + seen.silent for page, seen in read.items() if seen.foreign or seen.silent}


def test_the_boards_and_the_documentation_lead_to_each_other(browser: Any, site: Path) -> None:
    page = browser.new_page()
    page.goto((site / "leaderboard/boards/smoke-v2.defence.server.html").as_uri())
    colours = [page.evaluate("getComputedStyle(document.querySelector('header')).backgroundColor")]
    page.click("header a >> text=byzbench")
    page.wait_for_url((site / "index.html").as_uri())
    colours.append(page.evaluate("getComputedStyle(document.querySelector('header')).backgroundColor"))
    assert colours == ["rgb(11, 79, 168)"] * 2
    page.goto((site / "boards.html").as_uri())
    page.click("text=Open the boards")
    page.wait_for_url((site / "leaderboard/index.html").as_uri())
    page.close()


@pytest.mark.parametrize("width, scheme", [(390, "light"), (1280, "dark")])
def test_pages_open_from_files_and_can_be_searched(browser: Any, site: Path, width: int, scheme: str) -> None:
    wrong: list[str] = []
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page = context.new_page()
    page.on("console", lambda message: wrong.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("requestfailed", lambda request: wrong.append(request.url))
    page.on(
        "request", lambda request: None if request.url.startswith(("file:", "data:")) else wrong.append(request.url)
    )
    for path in PAGES:
        page.goto((site / path).as_uri())
        assert page.locator("h1").inner_text()
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, (
            f"{path} is wider than the screen"
        )
    colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", colour)[:3])) < 384) == (scheme == "dark")
    page.goto((site / "index.html").as_uri())
    if width < 960:
        page.locator("label.md-header__button[for=__search]").click()
    page.locator("input[name=query]").click()
    page.keyboard.type("trimmed mean")
    page.locator(".md-search-result__item").first.wait_for()
    assert "matching documents" in page.locator(".md-search-result__meta").inner_text()
    context.close()
    assert not wrong


@pytest.mark.parametrize("width, scheme", [(390, "dark"), (1280, "light")])
def test_a_report_opens_from_its_file(browser: Any, tmp_path: Path, width: int, scheme: str) -> None:
    store = fill(tmp_path / "runs", LEVELS, range(3))
    what = experiment()
    what["algorithm"]["name"] = HOSTILE[4]
    write(store, what, 100.0)
    load_results(store).to_html(tmp_path / "report.html")
    wrong: list[str] = []
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page = context.new_page()
    page.on("console", lambda message: wrong.append(message.text))
    page.on(
        "request", lambda request: None if request.url.startswith(("file:", "data:")) else wrong.append(request.url)
    )
    page.goto((tmp_path / "report.html").as_uri())
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    drawn = page.evaluate("[...document.images].map((image) => image.complete && image.naturalWidth > 200)")
    assert drawn == [True, True]
    assert page.evaluate("document.scripts.length") == 0
    colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", colour)[:3])) < 384) == (scheme == "dark")
    context.close()
    assert not wrong

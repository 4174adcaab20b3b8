"""The site of the leaderboards in a real browser: Debian's Chromium, from files, as a reader opens it."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hostile_submissions import HARMLESS
from synthetic_entries import ALIE, NOISE, SPLIT, SUITE, serve_suites, write_entry
from test_leaderboard_site import EVIL, hostile

from byzbench.leaderboard.site.build import site, write_site
from byzbench.leaderboard.site.collection import collect_entries

pytestmark = pytest.mark.slow

BOARD = "boards/synthetic-v1.defence.decentralised.html"
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
"""Without these, Chromium as root does not start, and looks for its maker's hosts when it does."""


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site of some forty entries, every third of them hostile."""
    with serve_suites(tmp_path_factory.mktemp("home")):
        return fill(tmp_path_factory.mktemp("leaderboards"))


def fill(root: Path) -> Path:
    rng = np.random.default_rng(0)
    for i in range(24):
        harm = dict(zip(("none", NOISE, ALIE, SPLIT), [0.0, *rng.uniform(0, 0.9, 3).tolist()], strict=True))
        about = {"name": f"Method {i}", "slug": f"entry-{i}", "authors": ["A. Author"], "license": "MIT"}
        skill, division = float(rng.uniform(0.4, 1.1)), "server" if i % 4 == 3 else "decentralised"
        write_entry(root, SUITE, f"entry-{i}", skill=skill, harm=harm, seed=i, division=division, entry=about)  # type: ignore[arg-type]
    for i, (text, track) in enumerate(zip(HARMLESS.values(), cycle(("defence", "attack", "reported")), strict=False)):
        slug = f"hostile-{i}"
        write_entry(root, SUITE, slug, track=track, notes="\n".join(EVIL), entry=hostile(slug, text))  # type: ignore[arg-type]
    aim = {"algo": "decbyzpg", "attack": "ipm(scale=3)", "against": "entry-0"}
    write_entry(root, SUITE, "hostile-aim", track="adaptive", method=aim, entry=hostile("hostile-aim"))
    all_of_them, findings = collect_entries(root)
    assert not findings
    write_site(dict(site(all_of_them)), folder := root / "site")
    return folder


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    if shutil.which("chromium") is None:
        subprocess.run(["apt-get", "update", "-qq"], check=True)
        subprocess.run(["apt-get", "install", "-qq", "-y", "chromium"], check=True, stdout=subprocess.DEVNULL)
    with sync_playwright() as play:
        one = play.chromium.launch(executable_path=shutil.which("chromium"), args=QUIET)
        yield one
        one.close()


@pytest.fixture
def opened(browser: Any, out: Path) -> Iterator[Any]:
    """Opens pages; when the test is over, whatever went wrong in one of them is an error."""
    wrong: list[str] = []
    contexts: list[Any] = []

    def open_page(path: str = BOARD, **options: Any) -> Any:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda console_message: wrong.append(f"{path}: said {console_message.text}"))
        page.on("pageerror", lambda error: wrong.append(f"{path}: {error}"))
        page.on("dialog", lambda dialog: (wrong.append(f"{path}: asked {dialog.message}"), dialog.dismiss()))
        page.on("request", lambda r: r.url.startswith(out.as_uri()) or wrong.append(f"{path}: asked for {r.url}"))
        page.on("requestfailed", lambda r: wrong.append(f"{path}: {r.url} is not there"))
        page.goto(f"{out.as_uri()}/{path}")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not wrong


def column(page: Any, number: int) -> list[str]:
    """The texts of a column of the first table, that of scores."""
    table = page.locator("table").first
    return [cell.strip() for cell in table.locator(f"tbody tr:visible > :nth-child({number})").all_inner_texts()]


def numbers(page: Any, number: int) -> list[float]:
    return [float(cell.split()[0].replace("\N{MINUS SIGN}", "-")) for cell in column(page, number) if cell]


def test_a_click_sorts_and_a_key_sorts_the_other_way(opened: Any) -> None:
    page = opened()
    head = page.get_by_role("columnheader", name="Clean")
    heads = page.locator("table").first.locator("thead th").all_inner_texts()
    clean = 1 + [head.split()[0] for head in heads].index("Clean")
    before = numbers(page, clean)
    assert before != sorted(before, reverse=True)
    assert head.get_attribute("aria-sort") is None
    head.get_by_role("button").click()
    assert numbers(page, clean) == sorted(before, reverse=True)
    assert head.get_attribute("aria-sort") == "descending"
    page.keyboard.press("Enter")  # the head has the focus
    assert numbers(page, clean) == sorted(before)
    assert head.get_attribute("aria-sort") == "ascending"
    page.get_by_role("columnheader", name="Ranks").get_by_role("button").click()
    assert head.get_attribute("aria-sort") is None
    ranks = [int(re.split(r"\D", rank)[0]) if rank else 10**6 for rank in column(page, 1)]
    assert ranks == sorted(ranks)
    assert ranks[0] == 1
    assert ranks[-1] == 10**6, "what is reported has no rank, and stands last"
    page.get_by_role("columnheader", name="Entry").first.get_by_role("button").click()
    names = [name for name in column(page, 2) if name.startswith("Method")]
    assert names == sorted(names)


def test_words_filter_rows(opened: Any) -> None:
    page = opened()
    count = len(column(page, 2))
    field = page.get_by_role("searchbox", name="Filter rows").first
    field.fill("REPLAYED not")
    shown = column(page, 2)
    assert 0 < len(shown) < count
    assert all("reported, not replayed" in name for name in shown)
    assert page.get_by_role("status").first.inner_text() == f"{len(shown)} of {count}"
    field.fill("")
    assert len(column(page, 2)) == count


def test_a_reader_goes_from_the_first_page_to_an_entry_and_its_flag(opened: Any) -> None:
    page = opened("index.html")
    page.get_by_role("link", name="synthetic-v1: methods without a server").click()
    page.get_by_role("rowheader").get_by_role("link", name="Method 0").first.click()
    assert page.get_by_role("heading", level=1).inner_text() == "Method 0"
    assert page.get_by_role("table", name="Mean score under each attack").is_visible()
    assert page.get_by_role("img", name=f"{ALIE}: from").count() == 1
    page.get_by_role("link", name="few-seeds").click()
    assert page.url.endswith("reading.html#few-seeds")
    assert page.locator(":target").inner_text() == "few-seeds"


def test_a_keyboard_reaches_everything(opened: Any) -> None:
    page = opened()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    assert page.locator(".skip").bounding_box()["x"] >= 0, "it is seen when it is reached"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "content"
    page.locator(".frame").first.focus()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.tagName") == "BUTTON"
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_without_a_script_all_of_it_is_there(opened: Any) -> None:
    page, scripted = opened(java_script_enabled=False), opened()
    assert column(page, 2) == column(scripted, 2)
    assert page.get_by_role("button").count() == 0, "nothing that would do nothing"
    assert page.get_by_role("searchbox").count() == 0
    assert page.get_by_role("columnheader", name="Score", exact=True).is_visible()


def test_dark_and_light(opened: Any) -> None:
    style = "(({backgroundColor, color}) => [backgroundColor, color])(getComputedStyle(document.body))"
    colours = {scheme: opened(color_scheme=scheme).evaluate(style) for scheme in ("light", "dark")}
    assert colours["light"] == ["rgb(255, 255, 255)", "rgb(26, 28, 32)"]
    assert colours["dark"] == ["rgb(20, 23, 28)", "rgb(232, 234, 238)"]


def test_a_phone_scrolls_tables_and_no_page(opened: Any, out: Path) -> None:
    page = opened(viewport={"width": 360, "height": 740})
    for path in sorted(out.rglob("*.html")):
        page.goto(path.as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") <= 360, path.name
    page.goto(f"{out.as_uri()}/{BOARD}")
    assert page.evaluate("(frame => frame.scrollWidth > frame.clientWidth)(document.querySelector('.frame'))")
    page.evaluate("document.querySelector('.frame').scrollLeft = 200")
    edges = page.evaluate(
        "[...document.querySelector('.frame').querySelectorAll('.names, tbody th')]"
        ".map(th => th.getBoundingClientRect().left)"
    )
    assert max(edges) - min(edges) < 1 < edges[0] < 30, "names stay in sight, and so does what they are"
    widths = page.evaluate("[...document.querySelectorAll('tbody th')].map(head => head.offsetWidth)")
    assert max(widths) < 180, "half of the window is left for numbers"


def test_no_page_logs_prompts_or_fetches_anything(opened: Any, out: Path) -> None:
    """The hostile entries' pages among them; the fixture has the checks."""
    page = opened()
    paths = sorted(out.rglob("*.html"))
    assert len([path for path in paths if "hostile" in path.name]) == len(HARMLESS) + 1
    for path in paths:
        page.goto(path.as_uri())
        assert page.evaluate("document.styleSheets.length") == 1, "the policy lets our own style through"
        assert page.locator("[onerror], [onload], [onfocus], iframe, object, img").count() == 0
    page.goto(f"{out.as_uri()}/entries/synthetic-v1.defence.hostile-0.html")
    assert page.locator("pre.notes").inner_text() == "\n".join(EVIL)


def test_the_policy_stops_a_script_that_got_in(browser: Any, out: Path) -> None:
    page = browser.new_page()
    page.goto(f"{out.as_uri()}/{BOARD}")
    page.evaluate(
        """() => {
            document.body.insertAdjacentHTML("beforeend", "<img src=x onerror='document.title = 1'>");
            const script = document.createElement("script");
            script.textContent = "document.title = 2";
            document.body.append(script);
        }"""
    )
    page.wait_for_timeout(200)
    assert "synthetic-v1" in page.title()
    page.close()

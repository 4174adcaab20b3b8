"""The site of the leaderboards: deterministic bytes, complete without a script, escaped, and accessible."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
import shlex
from collections.abc import Iterator
from html.parser import HTMLParser
from http.server import ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from hostile_submissions import HARMLESS, XSS
from synthetic_entries import ALIE, NOISE, SPLIT, SUITE, serve_suites, write_entry
from typer.testing import CliRunner

from byzbench.cli.leaderboard import app
from byzbench.experiments.experiment import Experiment
from byzbench.leaderboard import flags
from byzbench.leaderboard.boards import boards
from byzbench.leaderboard.documents import Refused
from byzbench.leaderboard.schema import EntryMetadata, validate
from byzbench.leaderboard.site.build import site
from byzbench.leaderboard.site.collection import Collection, collect_entries
from byzbench.leaderboard.site.component_pages import EXAMPLES
from byzbench.leaderboard.site.data import DIGITS, FORMULA
from byzbench.leaderboard.site.drawings import WIDTH, ScoreMark, score_chart
from byzbench.leaderboard.site.html import POLICY, page
from byzbench.leaderboard.site.reading import FLAGS
from byzbench.leaderboard.suites import suite
from byzbench.reports.estimators import Interval
from byzbench.reports.markup import el, outward, text

EVIL = [*HARMLESS.values(), "</pre><svg onload=alert(1)>", "' autofocus onfocus=alert(1) x='"]
ALLOWED = {
    *("html", "head", "meta", "title", "link", "script", "body", "header", "nav", "main", "footer"),
    *("h1", "h2", "h3", "p", "a", "ul", "li", "div", "span", "small", "strong", "code", "pre", "dl", "dt", "dd"),
    *("details", "summary"),
    *("table", "caption", "thead", "tbody", "tr", "th", "td"),
    *("figure", "figcaption", "svg", "g", "path", "circle", "rect", "text"),
}
VOID = {"meta", "link"}


@pytest.fixture(scope="module", autouse=True)
def _suites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with serve_suites(tmp_path_factory.mktemp("home")):
        yield


def write_all(root: Path) -> Path:
    """Submissions of every track, one of them as hostile as the schema lets it be."""
    submissions = root / "submissions"
    write_entry(submissions, SUITE, "plain", seed=1, notes="A line.\n")
    write_entry(submissions, SUITE, "hostile", skill=0.4, seed=2, notes="\n".join(EVIL), entry=hostile("hostile"))
    write_entry(submissions, SUITE, "central", seed=3, division="server")
    write_entry(submissions, SUITE, "told", seed=4, track="reported")
    write_entry(submissions, SUITE, "harm", seed=5, track="attack", entry=hostile("harm"))
    aim = {"algo": "decbyzpg", "attack": "elsewhere(scale=2)", "against": "plain"}
    write_entry(submissions, SUITE, "breaker", seed=6, track="adaptive", method=aim)
    return root


def hostile(slug: str, text: str = f"={XSS}") -> dict[str, object]:
    return {
        "name": text,
        "slug": slug,
        "authors": ["@a", *EVIL],
        "license": "MIT",
        "conflicts": f"{XSS} {text}",
        "paper": "https://example.org/?q='onmouseover=alert(1)&a=b",
    }


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Collection:
    all_of_them, findings = collect_entries(write_all(tmp_path_factory.mktemp("leaderboards")) / "submissions")
    assert not findings
    return all_of_them


@pytest.fixture(scope="module")
def files(catalogue: Collection) -> dict[str, bytes]:
    return dict(site(catalogue))


@pytest.fixture(scope="module")
def pages(files: dict[str, bytes]) -> dict[str, Page]:
    return {path: Page(content.decode()) for path, content in files.items() if path.endswith(".html")}


class Page(HTMLParser):
    """What a browser finds in a page: tags with attributes, in order, and the text."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.rows: list[tuple[str, list[dict[str, str | None]]]] = []
        self.words = ""
        self.feed(source)
        assert not self.open, "a tag is not closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs)
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append((self.open[-2], []))
        if tag in ("th", "td"):
            self.rows[-1][1].append({"tag": tag, **dict(attrs)})

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data

    def all(self, *names: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag in names]


def test_the_same_submissions_give_the_same_bytes(
    catalogue: Collection, files: dict[str, bytes], tmp_path: Path
) -> None:
    again, _ = collect_entries(write_all(tmp_path / "elsewhere") / "submissions")
    assert dict(site(again)) == files
    assert str(tmp_path) not in b"".join(files.values()).decode()
    assert {path.split("/")[0] for path in files if "/" in path} == {"attacks", "boards", "entries", "topologies"}
    assert len([path for path in files if path.startswith("entries/")]) == len(catalogue.entries) == 6


def test_no_text_of_a_submission_becomes_markup(pages: dict[str, Page]) -> None:
    for path, one in pages.items():
        assert {tag for tag, _ in one.tags} <= ALLOWED, path
        for _, attributes in one.tags:
            assert not [key for key in attributes if key.startswith("on") or key == "style"], path
    its = pages["entries/synthetic-v1.defence.hostile.html"]
    assert all(text in its.words for text in EVIL)
    assert [a["src"] for a in its.all("script", "img") if "src" in a] == ["../site.js"]
    assert {a["rel"] for a in its.all("a") if "://" in str(a["href"])} == {"noopener nofollow"}


def test_nothing_is_loaded_from_elsewhere(pages: dict[str, Page], files: dict[str, bytes]) -> None:
    for path, one in pages.items():
        policies = [a["content"] for a in one.all("meta") if a.get("http-equiv") == "Content-Security-Policy"]
        assert policies == [POLICY], path
        assert "unsafe" not in POLICY
        assert "http" not in POLICY
        up = "../" * path.count("/")
        assert [a["src"] for a in one.all("script")] == [f"{up}site.js"]
        assert [a["href"] for a in one.all("link")] == [f"{up}site.css"]
    assert not re.search(
        rb"https?:|//[a-z]|url\(|@import|fetch|innerHTML|eval", files["site.css"] + files["site.js"][80:]
    )
    assert files["site.js"].count(b"\n") < 100


def test_every_link_leads_somewhere(pages: dict[str, Page], files: dict[str, bytes]) -> None:
    anchors = {path: {str(a["id"]) for _, a in one.tags if "id" in a} for path, one in pages.items()}
    for path, one in pages.items():
        for link in one.all("a"):
            parts = urlsplit(str(link["href"]))
            if parts.scheme:
                assert parts.scheme == "https"
                continue
            folder = path.rpartition("/")[0]
            target = (Path(folder) / parts.path).as_posix() if parts.path else path
            target = target.replace(f"{folder}/../", "") if folder else target
            assert target in files, (path, link)
            assert not parts.fragment or parts.fragment in anchors[target], (path, link)


def test_tables_say_what_they_are(pages: dict[str, Page]) -> None:
    for path, one in pages.items():
        assert one.all("html") == [{"lang": "en"}]
        assert len(one.all("h1")) == len(one.all("main")) == 1, path
        assert one.all("a")[0] == {"class": "skip", "href": "#content"}
        levels = [int(tag[1]) for tag, _ in one.tags if re.fullmatch("h[1-6]", tag)]
        assert all(b <= a + 1 for a, b in pairwise(levels)), path
        assert len(one.all("table")) == len(one.all("caption")), path
        assert all(a.get("aria-label") or a.get("aria-hidden") for a in one.all("svg"))
        width = 0
        for part, cells in one.rows:
            scopes = [cell.get("scope") for cell in cells if cell["tag"] == "th"]
            if part == "thead":
                width = len(cells)
                assert scopes == ["col"] * width, path
            else:
                assert (scopes, len(cells)) == (["row"], width), path


def test_pages_link_to_the_documentation(catalogue: Collection) -> None:
    files = dict(site(catalogue, docs="../index.html"))
    for path, up in (("index.html", ""), ("boards/synthetic-v1.defence.server.html", "../")):
        assert f'<a href="{up}../index.html"><strong>byzbench</strong></a>' in files[path].decode()
    assert b'<a href="https://example.org/docs"><strong>' in page("x", docs="https://example.org/docs", depth=1)


def test_letters_stand_out_from_what_they_stand_on(files: dict[str, bytes]) -> None:
    css = files["site.css"].decode()
    pairs = re.findall(r"--(\w+): light-dark\((#\w+), (#\w+)\);", css)
    assert len(pairs) == 13
    for mode in ({name: light for name, light, _ in pairs}, {name: dark for name, _, dark in pairs}):
        assert contrast("#fff", mode["brand"]) >= 4.5
        for ink in ("ink", "soft", "link"):
            for ground in ("page", "band") + ("mark",) * (ink == "ink"):
                assert contrast(mode[ink], mode[ground]) >= 4.5, (ink, ground)
        assert (
            min(contrast(mode["page"], mode[ground]) for ground in ("byzantine", "soft")) >= 4.5
        )  # numbers on squares
        assert min(contrast(mode[line], mode["page"]) for line in ("dot", "spread", "seed", "edge", "byzantine")) >= 3
    shades = re.findall(r"\.h\d+ \{ --heat: (#\w+)", css)
    assert len(shades) == 11
    assert min(contrast("#1a1c20", shade) for shade in shades) >= 4.5


def contrast(one: str, other: str) -> float:
    """As WCAG 2.2 has it."""

    def luminance(colour: str) -> float:
        digits = colour[1:] if len(colour) == 7 else "".join(2 * c for c in colour[1:])
        parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    high, low = sorted([luminance(one), luminance(other)], reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_a_spreadsheet_finds_no_formula(files: dict[str, bytes]) -> None:
    rows = list(csv.DictReader(io.StringIO(files["board.csv"].decode())))
    texts = [row[key] for row in rows for key in ("name", "authors", "slug", "attack", "worst_attack", "flags")]
    assert not [text for text in texts if text.startswith(FORMULA)]
    assert sum(text.startswith("'=") for text in texts) == 2  # a row of the track defence, and one of attacks
    assert sum(text.startswith("'@") for text in texts) == 2


def test_the_downloads_have_every_row(catalogue: Collection, files: dict[str, bytes]) -> None:
    data = json.loads(files["board.json"])
    wanted = sum(len(board.rows) + len(board.attacks) for board in catalogue.boards)
    assert len(data["rows"]) == len(list(csv.reader(io.StringIO(files["board.csv"].decode())))) - 1 == wanted > 0
    board = next(b for b in catalogue.boards if b.division == "decentralised")
    top = next(r for r in data["rows"] if r["division"] == "decentralised" and r["rank_best"] == 1)
    first = board.rows[0]
    assert first.score
    assert first.joining is None
    assert (top["score"], top["cvar"]) == (round(first.score.worst.value, DIGITS), round(first.score.cvar, DIGITS))
    matrix = first.matrix["cartpole-complete-f2"]
    cells = top["cells"]["cartpole-complete-f2"]
    assert cells[NOISE]["score"] == round(matrix.means[NOISE], DIGITS), "sanity attacks are there too"
    assert cells[SPLIT]["retention"][0] == round(matrix.retention[SPLIT].value or 0, DIGITS)
    assert (top["messages"], top["bytes"], top["seconds"]) == (1000, 2e6, 1.5)
    assert data["suites"]["synthetic-v1"]["sha256"] == SUITE.sha256


def test_an_entry_shows_its_scores_its_flags_and_how_to_run_it(pages: dict[str, Page], catalogue: Collection) -> None:
    its = pages["entries/synthetic-v1.defence.hostile.html"]
    assert "byzbench leaderboard verify leaderboards/submissions/synthetic-v1/defence/hostile" in its.words
    words = shlex.split(re.search("byzbench run (--.*--seed [0-9]+)", its.words)[1])  # type: ignore[index]
    pairs = zip(words[::2], words[1::2], strict=True)
    options: dict[str, Any] = {key[2:]: int(value) if value.isdigit() else value for key, value in pairs}
    entry = next(e for e in catalogue.entries if e.slug == "hostile")
    its_score = catalogue.rows[entry.digest][1].matrix["cartpole-complete-f2"].means[SPLIT]
    place = next(SUITE.places("defence", entry.submission.method, "decentralised"))
    first = {**entry.submission.method.options, **place.stratum.options, "attack": place.attack}
    wanted = Experiment.create(**first, seed=SUITE.seed_values[0])
    assert Experiment.create(**options).hash == wanted.hash
    links = {str(a["href"]) for a in its.all("a")}
    assert "../reading.html#clean-below-reference" in links
    assert its.words.count(f"{its_score:.2f} worst") == 1, "one cell of the one stratum"
    assert len([a for a in its.all("svg") if a["class"] == "curves"]) == len(SUITE.attacks) - 1, "one is held out"
    assert f"1.5 seconds a cell, {1.5 * len(entry.cells) / 60:.1f} minutes in all" in its.words
    target = pages["entries/synthetic-v1.defence.plain.html"]
    assert "../entries/synthetic-v1.adaptive.breaker.html" in {str(a["href"]) for a in target.all("a")}
    assert "not part of byzbench" in pages["attacks/elsewhere.html"].words


def test_a_board_shows_scores_settings_and_costs_and_no_shared_flag_on_a_row(
    pages: dict[str, Page],
) -> None:
    board = pages["boards/synthetic-v1.defence.decentralised.html"]
    assert len(board.all("table")) == 3
    assert "Flags of every row: few-seeds" in board.words
    assert board.words.count("few-seeds") == 1
    assert [a["aria-label"] for a in board.all("svg")] == [
        a["aria-label"] for a in pages["index.html"].all("svg") if "2 rows" in str(a["aria-label"])
    ], "the first page has its chart"
    assert "1 of 1 pairs is separated: Entry plain is better than" in board.words
    assert "Sanity attacks, which no score depends on: large_noise(relative=False)" in board.words
    assert "RanksEntryScoreCleanRetentionJoiningWorst attackPaperFlags" in board.words
    assert "EntryCross-fittedCVaRCoordinatedMean over attacksFinal return" in board.words


def test_the_first_page_ranks_dates_and_names_ties(tmp_path: Path) -> None:
    about = {"name": "Twin", "slug": "twin", "authors": ["A. Author"], "license": "MIT", "submitted": "2026-11-30"}
    write_entry(tmp_path / "submissions", SUITE, "plain", seed=1)
    write_entry(tmp_path / "submissions", SUITE, "twin", seed=2, entry=about)
    write_entry(tmp_path / "submissions", SUITE, "weak", seed=3, skill=0.4)
    write_entry(tmp_path / "submissions", SUITE, "alone", seed=4, skill=0.05, harm={}, method={"algo": "solo"})
    index = Page(dict(site(collect_entries(tmp_path / "submissions")[0]))["index.html"].decode())
    assert re.search(r"(Entry plain and Twin|Twin and Entry plain) are not separated: the difference is", index.words)
    assert "RanksMethodScoreWorst attackPaperDateMB a cellSearch episodes" in index.words
    assert index.words.count("2026-11-30") == 1
    assert index.words.count("not recorded") == 3
    papers = [str(a["href"]).rpartition("/")[2] for a in index.all("a") if "arxiv.org" in str(a["href"])]
    assert papers == ["2401.03489"] * 3 + ["2202.00308"]
    (drawing,) = [a for a in index.all("svg") if a["class"] == "scores"]
    assert (drawing["role"], str(drawing["aria-label"])[:16]) == ("img", "Scores of 4 rows")
    assert [a["class"] for a in index.all("circle")] == ["clean", "dot"] * 4
    assert [[a["class"] for a in index.all("path")].count(one) for one in ("tie", "alone")] == [2, 1]
    assert re.search(r"learning alone without an attack, each at 95 %\. [^.]*: (Entry plain|Twin)", index.words)


def test_a_chart_ends_after_its_largest_number() -> None:
    marks = [ScoreMark("a" * 40, Interval(7.0, 6.5, 9.3), 8.0), ScoreMark("b", Interval(-0.2), 0.1)]
    drawn = Page(score_chart(marks, [range(2)], 0.5, "two rows"))
    assert drawn.words.startswith("two rows0246810"), "its title, and ticks"
    places = [int(str(a["cx"])) for a in drawn.all("circle") if a["class"] == "dot"]
    left, right = (int(re.match(r"M(\d+)", str(a["d"]))[1]) for a in (drawn.all("path")[0], drawn.all("path")[5]))  # type: ignore[index]
    assert places == [left + round(0.7 * (right - left)), left], "below 0 at 0"


def test_a_date_is_one_of_the_calendar() -> None:
    about = {"name": "X", "slug": "x", "authors": ["A. Author"], "license": "MIT"}
    assert validate(EntryMetadata, about | {"submitted": "2028-02-29"}, "entry").submitted == "2028-02-29"
    for wrong in ("2026-02-29", "20260101", "2026-W01-1"):
        with pytest.raises(Refused):
            validate(EntryMetadata, about | {"submitted": wrong}, "entry")


def test_undefined_retentions_are_grey(tmp_path: Path) -> None:
    write_entry(tmp_path / "submissions", SUITE, "weak", skill=0.1, harm=dict.fromkeys((NOISE, ALIE, SPLIT, "none"), 0))
    page_of = Page(
        dict(site(collect_entries(tmp_path / "submissions")[0]))["entries/synthetic-v1.defence.weak.html"].decode()
    )
    assert len([a for a in page_of.all("td") if a.get("class") == "n undefined"]) == 3
    assert "(0 of 2 defined)" in page_of.words


def test_curves_stand_at_their_dates(tmp_path: Path) -> None:
    folder = write_entry(tmp_path / "submissions", SUITE, "early")
    lines = [json.loads(line) for line in cells(folder)]
    rewrite(folder, [json.dumps(line | {"dates": list(range(50, 1050, 50))}).encode() for line in lines])
    page_of = Page(
        dict(site(collect_entries(tmp_path / "submissions")[0]))["entries/synthetic-v1.defence.early.html"].decode()
    )
    drawn = [str(a["d"]) for a in page_of.all("path") if a["class"] == "middle"]
    ends = {int(re.findall(r"[ML](\d+) ", path)[-1]) for path in drawn}
    assert ends == {WIDTH // 2}, "the last evaluation is at half of the budget"


def test_absurd_numbers_stop_no_page(tmp_path: Path) -> None:
    """The site is built from what the schema allows; checks refuse such returns only in verification."""
    folder = write_entry(tmp_path / "submissions", SUITE, "absurd")
    lines = [json.loads(line) for line in cells(folder)]
    absurd = {"curve": ["1e+300"] * 20, "return": "1e+300", "seconds": "-1e+300"}
    rewrite(folder, [json.dumps(line | absurd).encode() for line in lines])
    about = json.loads((folder / "submission.json").read_text())
    about["resolved"]["cartpole-complete-f2"]["algorithm"]["parameters"] |= {"lr": 1e300, "N": 10**18}
    (folder / "submission.json").write_text(json.dumps(about))
    all_of_them, findings = collect_entries(tmp_path / "submissions")
    assert not findings
    (row,) = json.loads(dict(site(all_of_them))["board.json"])["rows"]
    assert (row["lr"], row["batch_size"], row["seconds"]) == ([], [], None)
    assert row["final_returns"] == {"cartpole": SUITE.strata[0].high}


def test_closed_suites_are_named_and_not_shown(tmp_path: Path) -> None:
    write_entry(tmp_path / "submissions", suite("smoke-v1"), "old")
    all_of_them, findings = collect_entries(tmp_path / "submissions")
    assert not findings
    pages = dict(site(all_of_them))
    assert not [path for path in pages if "smoke-v1" in path]
    index = Page(pages["index.html"].decode()).words
    assert "No open suite has a submission yet." in index
    assert "smoke-v1: their rows can be verified, and are not shown." in index
    assert "synthetic-v1" in index


def test_every_flag_is_explained() -> None:
    raised = set(re.findall(r'Flag\("([a-z-]+)"', Path(str(flags.__file__)).read_text()))
    assert "few-seeds" in raised
    assert raised <= set(FLAGS)


def test_graphs_are_drawn_with_their_byzantine_agents(pages: dict[str, Page], catalogue: Collection) -> None:
    complete, star = pages["topologies/complete.html"], pages["topologies/star.html"]
    sizes = {(s.agents, s.byzantine) for _, s in catalogue.topologies["complete"]}
    assert len([a for a in complete.all("rect") if a["class"] == "byzantine"]) == EXAMPLES * sum(f for _, f in sizes)
    assert len([a for a in complete.all("circle") if a["class"] == "honest"]) == EXAMPLES * sum(k - f for k, f in sizes)
    edges = [str(a["d"]).count("M") for a in complete.all("path") if a["class"] == "edge"]
    assert sorted(edges) == sorted(EXAMPLES * [k * (k - 1) // 2 for k, _ in sizes])
    servers = [a for a in star.all("rect") if a["class"] == "server"]
    assert len(servers) == EXAMPLES * len({(s.agents, s.byzantine) for _, s in catalogue.topologies["star"]})


@pytest.mark.parametrize(
    "address", ["javascript:alert(1)", "http://example.org", "//example.org", "data:text/html,x", "/etc/passwd", "a b"]
)
def test_no_link_leads_astray(address: str) -> None:
    with pytest.raises(ValueError, match="address"):
        el("a", "x", href=address)
    assert outward(address, "<x>") == "&lt;x&gt;"


@pytest.mark.parametrize("key", ["onclick", "style", "a b", 'x"y'])
def test_no_attribute_runs_anything(key: str) -> None:
    with pytest.raises(ValueError, match="attribute"):
        el("a", **{key: "alert(1)"})


def test_all_that_is_no_markup_is_escaped() -> None:
    assert text(["<", None, 0, el("b", "&", title='"')]) == '&lt;0<b title="&quot;">&amp;</b>'
    assert b"<title>&lt;/title&gt;</title>" in page("</title>", "x")


def rewrite(folder: Path, lines: list[bytes]) -> None:
    """Other cells, and their digest: a submission that is well-formed still."""
    content = b"".join(line + b"\n" for line in lines)
    about = json.loads((folder / "submission.json").read_text())
    about["cells_sha256"] = hashlib.sha256(content).hexdigest()
    (folder / "cells.jsonl").write_bytes(content)
    (folder / "submission.json").write_text(json.dumps(about))


def cells(folder: Path) -> list[bytes]:
    return (folder / "cells.jsonl").read_bytes().splitlines()


def lose_a_cell(folder: Path) -> None:
    rewrite(folder, cells(folder)[:-1])


def refusals(root: Path) -> Iterator[tuple[str, str]]:
    lose_a_cell(write_entry(root, SUITE, "partial"))
    yield "partial", "completeness"
    double = write_entry(root, SUITE, "double")
    rewrite(double, [*cells(double), cells(double)[0]])
    yield "double", "completeness"
    write_entry(root, SUITE, "other", suite_sha256="0" * 64)
    yield "other", "suite"
    write_entry(root, SUITE, "aimless", track="adaptive", method={"algo": "byzpg", "attack": "ipm"})
    yield "aimless", "method"


def test_incomplete_entries_are_left_out_and_named(tmp_path: Path) -> None:
    root = tmp_path / "submissions"
    expected = dict(refusals(root))
    write_entry(root, SUITE, "plain")
    all_of_them, findings = collect_entries(root)
    assert [e.slug for e in all_of_them.entries] == ["plain"]
    assert {finding.where.split("/")[2]: finding.check for finding in findings} == expected


def test_a_reported_entry_may_have_gaps(tmp_path: Path) -> None:
    lose_a_cell(write_entry(tmp_path / "submissions", SUITE, "told", track="reported"))
    all_of_them, findings = collect_entries(tmp_path / "submissions")
    assert not findings
    assert not [row for board in boards(SUITE, all_of_them.entries) for row in board.rows]
    pages = dict(site(all_of_them))
    assert "not run" in pages["entries/synthetic-v1.reported.told.html"].decode()
    assert "entries/synthetic-v1.reported.told.html" in pages["index.html"].decode(), "it can be found all the same"


def test_build_writes_checks_and_tidies(tmp_path: Path) -> None:
    write_entry(tmp_path / "submissions", SUITE, "plain")
    out, runner = tmp_path / "out", CliRunner()
    options = ["build", "--from", str(tmp_path), "--out", str(out)]
    done = runner.invoke(app, options)
    assert done.exit_code == 0, done.output
    assert (out / "entries" / "synthetic-v1.defence.plain.html").is_file()
    assert runner.invoke(app, [*options, "--check"]).exit_code == 0
    (out / "entries" / "synthetic-v1.defence.gone.html").write_text("left over")
    (out / "index.html").write_text("changed")
    assert "2 files differ" in runner.invoke(app, [*options, "--check"]).output
    lose_a_cell(write_entry(tmp_path / "submissions", SUITE, "partial"))
    assert runner.invoke(app, options).exit_code == 1, "one submission is left out"
    assert not (out / "entries" / "synthetic-v1.defence.gone.html").exists()


def test_build_takes_no_folder_of_something_else(tmp_path: Path) -> None:
    (tmp_path / "submissions").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("mine")
    done = CliRunner().invoke(app, ["build", "--from", str(tmp_path), "--out", str(tmp_path / "out")])
    assert "holds no site" in str(done.exception)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["thesis.tex"]


def test_serve_is_for_this_machine_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "index.html").write_text("x")
    bound = []
    monkeypatch.setattr(ThreadingHTTPServer, "serve_forever", lambda self: bound.append(self.server_address[0]))
    done = CliRunner().invoke(app, ["serve", str(tmp_path), "--port", "0"])
    assert done.exit_code == 0, done.output
    assert bound == ["127.0.0.1"]
    assert "holds no site" in str(CliRunner().invoke(app, ["serve", str(tmp_path / "none")]).exception)


def test_an_entry_of_all_failures_has_a_page(tmp_path: Path) -> None:
    folder = write_entry(tmp_path / "submissions", SUITE, "broken")
    columns = ("cell", "stratum", "attack", "seed")
    failed = [
        {**{k: json.loads(line)[k] for k in columns}, "status": "failed", "reason": XSS} for line in cells(folder)
    ]
    rewrite(folder, [json.dumps(line).encode() for line in failed])
    all_of_them, findings = collect_entries(tmp_path / "submissions")
    assert not findings
    shown = Page(dict(site(all_of_them))["entries/synthetic-v1.defence.broken.html"].decode())
    count = len(list(SUITE.places("defence", all_of_them.entries[0].submission.method, "decentralised")))
    assert f"{count} of {count}; each scores 0." in shown.words
    assert XSS in shown.words

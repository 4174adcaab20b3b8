"""Entries that nobody ran, for tests of scoring, checks and the site: well-formed, complete, and made from a seed.

`SUITE` is an open suite with a reference on file; `serve_suites` puts it in place of the frozen ones.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from byzbench.canonical import SCHEMA
from byzbench.errors import ByzbenchError
from byzbench.leaderboard import suites
from byzbench.leaderboard.entries import Entry, read_entry
from byzbench.leaderboard.frozen import freeze_suite, frozen
from byzbench.leaderboard.plan import plan_submission
from byzbench.leaderboard.references import Reference, ReferenceRuns, suite_references, unit, write_reference
from byzbench.leaderboard.schema import Cell, Division, Method, Submission, Track, encode_document, validate
from byzbench.leaderboard.suites import CellKey, Suite

ALIE = "alie(z=1.5, on=both)"
SPLIT = "split_brain(alie(z=1.5, on=both))"
NOISE = "large_noise(relative=False)"
TEXT = f"""
name = "synthetic-v1"
title = "Entries that nobody ran."
seeds = 4
evaluations = 20
[[reference]]
division = "decentralised"
algo = "decbyzpg"
aggregator = "honest_mean"
agreement = "gossip(honest_mean)"
[[reference]]
division = "server"
algo = "fed_page_pg"
aggregator = "honest_mean"
[[attack]]
spec = "none"
[[attack]]
spec = "{NOISE}"
knows = "local"
role = "sanity"
[[attack]]
spec = "{ALIE}"
knows = "coordinated"
[[attack]]
spec = "{SPLIT}"
knows = "omniscient"
[[attack]]
spec = "min_max"
knows = "omniscient"
role = "held_out"
[[algorithm]]
spec = "decbyzpg"
division = "decentralised"
[[algorithm]]
spec = "byzpg"
division = "server"
"""
STRATUM = """
[[stratum]]
name = "cartpole-{graph}-f2"
division = "{division}"
env = "cartpole"
topology = "{graph}"
agents = 9
byzantine = 2
trajectories = 2000
low = 1.0
high = 500.0
random = 22.3
"""
GRAPHS = {"complete": "decentralised", "star": "server"}
_WHOLE = TEXT + "".join(STRATUM.format(graph=graph, division=own) for graph, own in GRAPHS.items())
SUITE = Suite.of(_WHOLE.encode(), "synthetic-v1")
RETURN_AT_1 = 400.0
"""The clean area of the reference of `SUITE`, in every stratum."""


@contextmanager
def serve_suites(home: Path) -> Iterator[None]:
    """Put `SUITE` with its reference at engine 1 in place of the frozen suites; only smoke-v1 stays."""
    packaged = suites.folder()
    (home / "suites").mkdir()
    for name in ("smoke-v1.toml", "smoke-v1.json"):
        (home / "suites" / name).write_bytes(packaged.joinpath(name).read_bytes())
    (home / "suites" / "synthetic-v1.toml").write_text(_WHOLE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(suites, "files", lambda package: home)
        forget_suites()
        freeze_suite(SUITE)
        runs = ReferenceRuns(method={}, areas=(repr(RETURN_AT_1),) * SUITE.seeds, traces=("0" * 64,) * SUITE.seeds)
        write_reference(SUITE, Reference(engine=1, components={}, strata={s.name: runs for s in SUITE.strata}))
        yield
    forget_suites()


def forget_suites() -> None:
    for cached in (suites.suite, suites.suites, frozen, suite_references):
        cached.cache_clear()


def digest(*words: object) -> str:
    return hashlib.sha256(repr(words).encode()).hexdigest()


def submission(suite: Suite, slug: str, track: Track = "defence", **changes: Any) -> dict[str, Any]:
    """`submission.json` as data, with a cells_sha256 that is not yet anybody's."""
    method = changes.get("method") or ({"attack": "ipm(scale=2)"} if track == "attack" else {"algo": "decbyzpg"})
    return {
        "schema": SCHEMA,
        "track": track,
        "suite": suite.name,
        "suite_sha256": suite.sha256,
        "entry": {"name": f"Entry {slug}", "slug": slug, "authors": ["A. Author"], "license": "MIT"},
        "method": method,
        "resolved": {} if track == "reported" else resolved(suite, track, Method(**method)),
        "code": {"byzbench": "0.1.0", "engine": 1, "source": digest("source")},
        "environment": {"versions": {"python": "3.11.7", "torch": "2.13.0+cpu"}, "cpu": "AVX2", "threads": 1},
        "cells_sha256": "0" * 64,
        **changes,
    }


@cache
def resolved(suite: Suite, track: Track, method: Method) -> dict[str, Any]:
    """A resolved method: the right one where it can be run in the suite, else one that only looks like it."""
    try:
        return plan_submission(suite, track, method).resolved
    except ByzbenchError:
        part = {"name": str(method.algo or method.attack).partition("(")[0], "parameters": {}}
        return {stratum.name: {"attack" if track == "attack" else "algorithm": part} for stratum in suite.strata}


def cell(suite: Suite, place: CellKey, slug: str, area: float, seconds: float = 1.5) -> dict[str, Any]:
    """A line of `cells.jsonl` as data, with an area under its curve. No two entries share a trace."""
    stratum, points = place.stratum, suite.evaluations
    value = (area - stratum.random / (2 * points)) / (1 - 1 / (2 * points))  # the first trapezoid starts at random
    value = float(np.clip(value, stratum.low, stratum.high))
    dates = [stratum.trajectories * (1 + i) // points for i in range(points)]
    return {
        "cell": digest(place.key, slug)[:16],
        "stratum": stratum.name,
        "attack": place.attack,
        "seed": place.seed,
        **({"algo": place.algo} if place.algo else {}),
        "status": "ok",
        "verdict": "ok",
        "return": repr(value),
        "curve": [repr(value)] * points,
        **({"dates": dates, "messages": 1000, "bytes": 2_000_000} if suite.references else {}),
        "opening": {"return": repr(stratum.random)},
        "disagreement": "0.0",
        "trajectories": stratum.trajectories,
        "steps": stratum.trajectories * stratum.agents * 20,
        "trace": digest(place.key, slug, "trace"),
        "seconds": repr(seconds),
    }


def write_entry(
    root: Path,
    suite: Suite,
    slug: str,
    *,
    skill: float = 0.8,
    harm: Mapping[str, float] | None = None,
    noise: float = 0.05,
    seed: int = 0,
    track: Track = "defence",
    division: Division = "decentralised",
    notes: str = "",
    **changes: Any,
) -> Path:
    """A submission on disk, at root/SUITE/TRACK/SLUG.

    Args:
        skill: the score without an attack.
        harm: by attack, how much of it is lost; else a tenth for each further attack of the suite.
        noise: the spread over seeds, normalised.
        seed: of the noise.
        changes: of `submission.json`.
    """
    about = validate(Submission, submission(suite, slug, track, **changes), "submission.json")
    rng = np.random.default_rng(seed)
    lost = harm if harm is not None else {a.spec: 0.1 * i for i, a in enumerate(suite.attacks)}
    lines = []
    for place in suite.places(track, about.method, None if track == "attack" else division):
        s = place.stratum
        level = skill - lost.get(place.attack, 0.3) + noise * rng.standard_normal()
        lines.append(cell(suite, place, slug, s.random + level * (unit(suite, s, 1) - s.random)))
    content = b"".join(encode_document(validate(Cell, line, "cell"), lines=True) for line in lines)
    folder = root / suite.name / track / slug
    folder.mkdir(parents=True)
    done = about.model_copy(update={"cells_sha256": hashlib.sha256(content).hexdigest()})
    (folder / "submission.json").write_bytes(encode_document(done))
    (folder / "cells.jsonl").write_bytes(content)
    if notes:
        (folder / "NOTES.md").write_text(notes)
    return folder


def entry(root: Path, suite: Suite, slug: str, **options: Any) -> Entry:
    return read_entry(write_entry(root, suite, slug, **options))


METHOD = Method(algo="decbyzpg")

"""Entries that nobody ran, for tests of scoring, checks and the site: well-formed, complete, and made from a seed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from byzbench.canonical import SCHEMA
from byzbench.errors import ByzbenchError
from byzbench.leaderboard.entries import Entry, read
from byzbench.leaderboard.plan import lot
from byzbench.leaderboard.schema import Cell, Division, Method, Submission, Track, validate, write
from byzbench.leaderboard.suites import Place, Suite


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
        return lot(suite, track, method).resolved
    except ByzbenchError:
        part = {"name": str(method.algo or method.attack).partition("(")[0], "parameters": {}}
        return {stratum.name: {"attack" if track == "attack" else "algorithm": part} for stratum in suite.strata}


def cell(place: Place, slug: str, value: float, seconds: float = 1.5) -> dict[str, Any]:
    """A line of `cells.jsonl` as data. No two entries share a trace."""
    stratum, rising = place.stratum, np.linspace(place.stratum.random, value, 20)
    return {
        "cell": digest(place.key, slug)[:16],
        "stratum": stratum.name,
        "attack": place.attack,
        "seed": place.seed,
        **({"algo": place.algo} if place.algo else {}),
        "status": "ok",
        "verdict": "ok",
        "return": repr(float(value)),
        "curve": [repr(float(x)) for x in [*rising[:-1], value]],
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
        skill: the normalised return without an attack.
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
        value = float(np.clip(s.random + level * (s.reference - s.random), s.low, s.high))
        lines.append(cell(place, slug, value))
    content = b"".join(write(validate(Cell, line, "cell"), lines=True) for line in lines)
    folder = root / suite.name / track / slug
    folder.mkdir(parents=True)
    done = about.model_copy(update={"cells_sha256": hashlib.sha256(content).hexdigest()})
    (folder / "submission.json").write_bytes(write(done))
    (folder / "cells.jsonl").write_bytes(content)
    if notes:
        (folder / "NOTES.md").write_text(notes)
    return folder


def entry(root: Path, suite: Suite, slug: str, **options: Any) -> Entry:
    return read(write_entry(root, suite, slug, **options))


METHOD = Method(algo="decbyzpg")

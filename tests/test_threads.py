"""Threads of linear algebra: runs use one, and records have the BLAS and its threads as they were."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import networkx as nx
import pytest
import scipy.linalg  # noqa: F401  its BLAS is one of those that count
import torch
from threadpoolctl import threadpool_info, threadpool_limits

import byzbench
from byzbench import threads
from byzbench.experiments.provenance import code_difference, provenance
from byzbench.federation.communication_graph import CommunicationGraph
from byzbench.federation.graph_diagnostics import fast_diagnostics

OPTIONS: dict[str, Any] = {"agents": 5, "byzantine": 1, "trajectories": 8, "attack": "ipm", "topology": "ring"}
OPTIONS |= {"parameters": {"algo": {"N": 4}}}


def counts() -> set[int]:
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}


@pytest.fixture
def two_threads() -> Iterator[None]:
    with threadpool_limits(2, user_api="blas"):
        assert counts() == {2}
        yield
        assert counts() == {2}


def test_every_blas_has_one_thread_in_a_run(two_threads: None, tmp_path: Path, monkeypatch: Any) -> None:
    seen = []

    def look(function: Any) -> Any:
        def looking(*arguments: Any, **options: Any) -> Any:
            seen.append(counts())
            return function(*arguments, **options)

        return looking

    monkeypatch.setattr(CommunicationGraph, "draw", staticmethod(look(CommunicationGraph.draw)))
    for name in ("algorithm", "placement"):  # an eigenvector centrality decides who is Byzantine
        cls = type(getattr(byzbench.Experiment.create(**OPTIONS), name))
        method = "start" if name == "algorithm" else "__call__"
        monkeypatch.setattr(cls, method, look(getattr(cls, method)))
    result = byzbench.run(**OPTIONS, out=tmp_path, callback=look(lambda line: None))
    assert len(seen) > 4
    assert all(numbers == {1} for numbers in seen)
    code = json.loads((Path(str(result.run)) / "experiment.json").read_text())["code"]
    assert (code["threads"], code["blas"]) == (1, threads.blas())


def test_diagnostics_of_graphs_use_one_thread(two_threads: None, monkeypatch: Any) -> None:
    members = CommunicationGraph(nx.cycle_graph(5), num_agents=5, byzantine_ids=(0,), assumed_byzantine=1)
    seen = []
    monkeypatch.setattr(CommunicationGraph, "bounds", property(lambda self: seen.append(counts()) or torch.ones(5)))
    fast_diagnostics(members)
    assert seen == [{1}]


def test_a_record_names_the_kernels_and_another_one_is_a_difference(monkeypatch: Any) -> None:
    code = provenance(byzbench.Experiment.create(**OPTIONS))
    for library in threadpool_info():
        if library["user_api"] == "blas":
            assert library["architecture"] in code["blas"]
            assert library["version"] in code["blas"]
    other = code | {"blas": "openblas 0.3.31 Haswell", "threads": 2}
    assert code_difference(other, code) == [
        f"blas: openblas 0.3.31 Haswell then, {code['blas']} now",
        "threads: 2 then, 1 now",
    ]
    old = {name: value for name, value in code.items() if name not in ("blas", "threads")}
    assert code_difference(old, code) == []
    monkeypatch.setattr(threads, "_libraries", lambda: [])
    assert threads.blas() == "scipy-openblas"  # what NumPy says of itself, for one without a number of threads
    assert threads.num_threads() == torch.get_num_threads()

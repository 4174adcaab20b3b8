"""Inboxes that share vectors: distances, widths and values are those of each inbox by itself."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from byzbench.core import Inbox, RuleContext
from byzbench.core import inbox as inbox_module
from byzbench.geometry import pairwise_distances as distances_module
from byzbench.geometry.pairwise_distances import PairwiseDistances
from byzbench.geometry.row_sets import RowLayout, RowSets
from byzbench.geometry.subsets import min_diameter_subsets
from byzbench.registry import make

MODES = {"separate": "_Separate", "shared": "_Selected", "private": "_WithPrivate"}


def equivocal_inbox(mode, agents=12, byzantine=3, d=40, seed=0, halves=False):
    """An exchange of agents of which the first are Byzantine, and send one vector on each edge, or one to each half.

    The modes are those in which products are computed: few rows for each receiver, few rows in all, and many rows of
    which most have one receiver.
    """
    rng = np.random.default_rng(seed)
    if mode == "private":
        agents, byzantine = 30, 9
    width = 6 if mode == "separate" else agents
    if mode == "separate":
        agents = 100
    honest = 100 + rng.standard_normal((agents, d))
    senders = (np.arange(agents)[:, None] + np.arange(width)) % agents
    authors, crafted, rows = senders.copy(), [], {}
    for receiver in range(agents):
        for column in range(1, width):
            author = senders[receiver, column]
            if author < byzantine:
                key = (author, receiver % 2) if halves else (author, receiver)
                if key not in rows:
                    rows[key] = agents + len(crafted)
                    crafted.append(rng.standard_normal(d) * 10.0 ** rng.integers(-2, 3))
                senders[receiver, column] = rows[key]
    base = torch.from_numpy(np.concatenate([honest, np.array(crafted)]).astype(np.float32))
    mask = torch.from_numpy(rng.random(senders.shape) < 0.9)
    mask[:, 0] = True
    f = torch.full((agents,), 1)
    return Inbox(base, *map(torch.from_numpy, (senders, authors)), mask, torch.zeros(agents).long(), f, base[:agents])


def direct_distances(inbox, receiver):
    x = inbox.base[inbox.senders[receiver]][inbox.mask[receiver]].double()
    return (x[:, None] - x).norm(dim=-1)


@pytest.mark.parametrize("mode", sorted(MODES))
@pytest.mark.parametrize("small", [0, 1 << 13])
def test_distances_are_those_of_each_inbox(mode, small, monkeypatch):
    monkeypatch.setattr(distances_module, "SMALL", small)
    inbox = equivocal_inbox(mode)
    for receivers, pairs in inbox.blocks:
        assert type(pairs).__name__ == MODES[mode]
        assert torch.equal(pairs.squared_distances, pairs.squared_distances.mT)
        expected_norms = inbox.base[inbox.senders[receivers]].double().norm(dim=-1) * inbox.mask[receivers]
        torch.testing.assert_close(pairs.norms, expected_norms, rtol=1e-9, atol=0)
        for row, receiver in enumerate(receivers):
            valid = inbox.mask[receiver]
            measured = pairs.distances[row][valid][:, valid]
            torch.testing.assert_close(measured, direct_distances(inbox, receiver), rtol=1e-7, atol=1e-6)
            assert not pairs.gram[row][~valid].any()


@pytest.mark.parametrize("mode", sorted(MODES))
def test_values_and_widths_do_not_depend_on_blocks_or_sharing(mode, monkeypatch):
    for block in (1 << 23, 2000):
        monkeypatch.setattr(inbox_module, "_BLOCK", block)
        inbox = equivocal_inbox(mode)
        assert (len(inbox.distinct_blocks) > 1) == (block == 2000)
        chosen = [
            min_diameter_subsets(direct_distances(inbox, r), torch.ones(int(n)).bool(), torch.tensor(1))
            for r, n in enumerate(inbox.n)
        ]
        torch.testing.assert_close(inbox.widths, torch.stack([width for _, width in chosen]), rtol=1e-6, atol=0)
        for name in ("mda", "krum", "nnm", "mean", "bulyan"):
            rule = make("aggregator", name)
            usable = inbox.select(torch.tensor([bool(rule.defined(int(n), 1)) for n in inbox.n]))
            for receivers, pairs in usable.blocks:
                context = RuleContext(mask=usable.mask[receivers], distances=pairs)
                values = rule.aggregate(usable.base[usable.senders[receivers]], usable.f[receivers], context).value
                for receiver, value in zip(receivers, values, strict=True):
                    x = usable.base[usable.senders[receiver]][usable.mask[receiver]]
                    torch.testing.assert_close(value, rule(x, 1).value, rtol=1e-6, atol=1e-5)


def test_a_remembered_structure_is_that_of_the_same_messages_only(monkeypatch):
    inbox = equivocal_inbox("private")
    assert replace(inbox, base=inbox.base + 1)._structure is inbox._structure
    without = inbox.mask.clone()
    without[0, 3] = False
    changes = {"mask": without, "f": inbox.f + 1, "own": inbox.own + 1, "senders": inbox.senders.flip(0)}
    for name, value in changes.items():
        changed = replace(inbox, **{name: value})
        assert changed._structure is not inbox._structure
        remembered = changed.widths, changed.distinct()[1]
        monkeypatch.setattr(inbox_module, "_FEW", 0)
        alone = replace(changed)
        assert torch.equal(alone.widths, remembered[0])
        assert torch.equal(alone.distinct()[1], remembered[1])
        monkeypatch.undo()


def test_a_subset_that_gave_the_width_is_not_searched_again(monkeypatch):
    inbox = equivocal_inbox("shared", halves=True)
    assert len(inbox.distinct()[0]) <= len(inbox.f)
    assert inbox.widths.isfinite().all()
    monkeypatch.setattr(distances_module, "min_diameter_subsets", None)
    ((receivers, pairs),) = inbox.distinct_blocks
    context = RuleContext(mask=inbox.mask[receivers], distances=pairs)
    x = inbox.base[inbox.senders[receivers]]
    assert make("aggregator", "mda").aggregate(x, inbox.f[receivers], context).value.isfinite().all()


def test_products_with_a_crafted_vector_are_computed_once_for_all_its_receivers():
    inbox = equivocal_inbox("shared", halves=True)
    doubled = Inbox(
        torch.cat([inbox.base, inbox.base[12:]]),
        torch.where(inbox.senders >= 12, inbox.senders + (torch.arange(12) % 4 // 2).unsqueeze(1) * 6, inbox.senders),
        *(inbox.authors, inbox.mask, inbox.own, inbox.f, inbox.sent),
    )
    merged = doubled.merge_equal(12)
    assert len(doubled.base), len(merged.base) == (24, 18)
    assert torch.equal(merged.base[merged.senders], doubled.base[doubled.senders])
    assert merged.merge_equal(12) is merged


@pytest.mark.parametrize("vector", [0.0, 1e30])
@pytest.mark.parametrize("sent_to", [1, 2])
def test_a_crafted_vector_leaves_the_distances_of_other_receivers_alone(vector, sent_to):
    rng = np.random.default_rng(0)
    honest = torch.from_numpy(1e4 + 1e-6 * rng.standard_normal((6, 50)))
    base = torch.cat([honest, torch.full((1, 50), vector, dtype=torch.float64)])
    index = np.tile(np.arange(6), (6, 1))
    index[:sent_to, 5] = 6
    pairs = RowSets(base, RowLayout(7, index, index >= 0, centres=np.arange(6))).select(torch.arange(6))
    expected = (honest[:, None] - honest).norm(dim=-1)
    torch.testing.assert_close(pairs.distances[3], expected, rtol=1e-6, atol=0)
    torch.testing.assert_close(pairs.distances[0][:5, :5], expected[:5, :5], rtol=1e-6, atol=0)


def test_distances_passed_by_a_user_are_not_read():
    x = [[1.0], [2.0], [3.0], [4.0], [100.0]]
    other = PairwiseDistances.of(torch.arange(5.0).flip(0)[:, None])
    krum = make("aggregator", "krum")
    assert krum(x, 1, RuleContext(distances=other)).value == krum(x, 1).value


def test_inboxes_are_unanimous_where_all_valid_vectors_are_equal():
    base = torch.tensor([[1.0, 2.0], [1.0, 2.0], [1.0, 2.0 + 2.0**-22]])
    senders = torch.tensor([[0, 1, 2], [0, 1, 2], [2, 2, 2]])
    mask = torch.tensor([[True, True, True], [True, True, False], [True, True, True]])
    inbox = Inbox(base, senders, senders, mask, torch.zeros(3).long(), torch.zeros(3).long(), base)
    assert inbox.unanimous.tolist() == [False, True, True]

"""Recommended parameters of the PAGE family by task, and their origin: the default preset `recommended`.

`byzbench show algorithm decbyzpg` prints both. With p=1 every round takes a large batch: the method then has no
variance reduction, and B has no effect.

Measured on CartPole with K=13, f=3, no attack, a budget of 500 trajectories per agent, p=1, three seeds: the mean area
under the evaluation curve, and the evaluation return at the end by seed.

    N   lr      decbyzpg and byzpg      dec_page_pg and fed_page_pg     solo
    8   0.005   221: 500, 498, 494      232: 500, 497, 494              116: 374, 244, 400
    8   0.01    320: 500, 471, 500      327: 500, 489, 500
    8   0.02    320: 500, 212, 212      390: 307, 440, 500
    4   0.003                                                           159: 432, 379, 421
    4   0.007                                                           229: 392, 345, 448
    4   0.01                                                            218: 254, 367, 308
    2   0.003                                                           244: 420, 422, 379
    2   0.005                                                           254: 389, 416, 304
    1   0.003                                                           231: 421, 370, 370

The search for DecByzPG on the suite smoke-v2 (300 trajectories) found N=6, B=5, p=0.825, lr=0.0083 and rfa(nu=0.061).
They are not recommended here. With 500 trajectories on the complete graph, seeds 0, 1, 2 end at 493, 495, 500 without
an attack, and at 75, 492, 485 under ALIE; with the default nu of rfa the means over these seeds are 282 and 371. N=8,
p=1, lr=0.01 end at 500, 471, 500 and 500, 482, 497.
"""

from __future__ import annotations

from collections.abc import Mapping

from byzbench.core import Recommendation

FEDERATED: Mapping[str, Recommendation] = {
    "cartpole": Recommendation(
        {"N": 8, "p": 1.0, "lr": 0.01},
        "probe of lr with K=13, 500 trajectories, three seeds, no attack; a smaller K needs a smaller lr",
    ),
}
"""Parameters for methods that average or aggregate the gradients of many agents."""

ALONE: Mapping[str, Recommendation] = {
    "cartpole": Recommendation(
        {"N": 2, "p": 1.0, "lr": 0.005},
        "probe of N and lr with 500 trajectories, three seeds: the largest area under the evaluation curve",
    ),
}
"""Parameters for an agent that learns alone."""

"""What an algorithm may touch: sampling, exchanging, aggregating, agreeing. It never learns who lies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from byzbench.contracts import Aggregator, Agreement, Channel, Coin, State, Task
from byzbench.federation.adversary import Adversary, LiarsTap
from byzbench.federation.inbox import Inbox
from byzbench.federation.ledger import Aggregation, Agreed, Ledger
from byzbench.federation.membership import Membership
from byzbench.federation.post import Post
from byzbench.federation.worlds import Worlds
from byzbench.geometry.cloud import Cloud
from byzbench.geometry.subsets import narrowest
from byzbench.learning.policies import Policy
from byzbench.learning.rollouts import EnvironmentBatch, Trajectories, rollout
from byzbench.randomness import Streams

_BLOCK = 1 << 23
"""Numbers gathered at once when many receivers aggregate: 64 MB in float64."""


class Federation:
    """K agents that learn together, driven in lock step: every method takes and returns all K rows at once.

    Attributes:
        agents: int64 [K], who the rows are.
        round: the round's number, from 0.
        progress: share of the trajectory budget spent, from 0 to 1.
        theta0: float32 [K, d], the common initial parameters.
        declared: int64 [K], what each agent is told about f.
        policy: the policy family.
        discount: gamma.
        worlds: what agents' environments have of their own.
    """

    def __init__(
        self,
        *,
        members: Membership,
        streams: Streams,
        task: Task,
        aggregator: Aggregator,
        agreement: Agreement,
        coin: Coin,
        channel: Channel,
        adversary: Adversary,
        policy: Policy,
        device: torch.device,
        seats: Callable[[int], Membership] | None = None,
    ) -> None:
        self.agents = torch.arange(members.agents)
        self.round, self.progress = 0, 0.0
        self.policy = policy
        theta0 = self.policy.initial(streams.generator("init")).to(device)
        self.theta0 = theta0.repeat(members.agents, 1)
        self.declared = torch.full((members.agents,), members.declared)
        self.discount = task.discount
        self.ledger = Ledger(torch.zeros(members.agents).long(), torch.zeros(members.agents).long())
        self._members, self._streams, self._task, self._device = members, streams, task, device
        self._seats = seats
        self._aggregator, self._agreement, self._coin, self._adversary = aggregator, agreement, coin, adversary
        self._post = Post(members, adversary, channel, streams, self.ledger)
        self.worlds = Worlds(task, streams, members.agents)
        self._environments: dict[tuple[int, int], EnvironmentBatch] = {}
        self._samples, self._served, self._uses = 0, 0, Counter[str]()

    def begin(self, round: int, progress: float) -> None:
        """Open a round: all streams start over under its number."""
        self.round, self.progress = round, progress
        self._samples, self._served, self._uses = 0, 0, Counter[str]()
        self.ledger.turn()
        seated = self._members if self._seats is None else self._seats(round)
        if seated.away != (away := self.worlds.away(progress)):
            seated = replace(seated, away=away)
        if seated is not self._members:
            self._members = seated
            self._adversary.meet(seated)
        self._adversary.begin(round)
        self._post.begin(round, self._members)

    @property
    def mail(self) -> State:
        """What a checkpoint keeps of the messages: see `byzbench.federation.post.Post.memory`."""
        return self._post.memory

    @mail.setter
    def mail(self, kept: State) -> None:
        self._post.memory = kept

    # What agents do alone.

    def sample(self, theta: Tensor, count: Tensor | int, agents: Sequence[int] | None = None) -> Trajectories:
        """Exactly count [K] complete episodes of each agent under its own parameters theta [K, d]."""
        who = list(range(len(theta))) if agents is None else list(agents)
        counts = torch.as_tensor(count).expand(len(who)).long().cpu()
        suffix = f"/{self._samples}" if self._samples else ""
        self._samples += 1
        tap = self._adversary.taps(who, int(counts.max()), self._samples, self.policy, theta)
        episodes = self._play(theta, counts, who, suffix, tap)
        self._charge_episodes(who, episodes)
        if self.ledger.returns is None or len(who) == len(self.agents):
            self.ledger.returns = torch.zeros(len(self.agents), dtype=torch.float64)
        self.ledger.returns[who] = episodes.returns
        paid = self.worlds.pay(episodes.rewards, episodes.mask, who, suffix, self.round)
        episodes = replace(episodes, rewards=paid)
        if tap:
            episodes = replace(episodes, rewards=tap.rewards(episodes.rewards))
        self._adversary.lived(who, episodes)
        return episodes.to(self._device)

    def draw(
        self, name: str, draw: Callable[[np.random.Generator], float], agents: Sequence[int] | None = None
    ) -> Tensor:
        """A value of `draw` for each agent, from a stream of its own: float64 [P]."""
        who = list(range(len(self.agents))) if agents is None else agents
        values = [draw(self._streams.generator(f"alone/{name}", self.round, a)) for a in who]
        return torch.tensor(values, dtype=torch.float64)

    def note(self, name: str, values: Tensor, agents: Sequence[int] | None = None) -> None:
        """Keep what agents [P], or all, measured in this round for the record: values [P]. No agent hears of it."""
        kept = self.ledger.noted.setdefault(name, torch.full((len(self.agents),), torch.nan, dtype=torch.float64))
        kept[slice(None) if agents is None else list(agents)] = values.detach().to(kept)

    def draw_at_server(self, name: str, draw: Callable[[np.random.Generator], float]) -> float:
        """A value of `draw` that the trusted server draws by itself: no coin and no liar has a part in it."""
        return draw(self._streams.generator(name, self.round))

    async def sample_at_server(self, theta: Tensor, count: int) -> Trajectories:
        """Exactly `count` episodes under theta [1, d] in an environment of the trusted server's own, charged to it."""
        self._served += 1
        episodes = self._play(theta, torch.tensor([count]), [len(self.agents)], f"/server/{self._served}", None)
        self.ledger.served += torch.stack([episodes.count.sum(), episodes.steps.sum()])
        return episodes.to(self._device)

    def _play(
        self, theta: Tensor, counts: Tensor, who: Sequence[int], suffix: str, tap: LiarsTap | None
    ) -> Trajectories:
        """Episodes of policies theta [P, d] with the streams of agents who [P]; the server has number K."""
        rows = int(counts.max())
        starts = [self._streams.generator(f"environment{suffix}", self.round, a) for a in who]
        noise = np.empty((len(who), rows, self._task.horizon, *self.policy.action_shape), np.float32)
        for a, out in zip(who, noise, strict=True):
            self.policy.draw(self._streams.generator(f"action{suffix}", self.round, a), out)
        batch = self._environments.get((len(who), rows))
        if batch is None:
            batch = self._environments[len(who), rows] = self._task.make(len(who), rows)
        if self._task.dynamics:
            factors = self.worlds.physics(who, self.progress)
            for name, theirs in (tap.dynamics() if tap else {}).items():
                factors[name] = factors.get(name, 1.0) * theirs
            self._task.alter(batch, factors)
        drawn = torch.from_numpy(noise).transpose(1, 2)
        counts = counts * torch.tensor([a not in self._members.away for a in who])
        return rollout(self.policy, theta.detach().cpu(), self.worlds.shown(batch, who), starts, drawn, counts, tap)

    def _charge_episodes(self, who: Sequence[int], episodes: Trajectories) -> None:
        self.ledger.trajectories.index_add_(0, torch.tensor(who), episodes.count)
        self.ledger.steps.index_add_(0, torch.tensor(who), episodes.steps)

    # Where agents meet.

    async def exchange(self, topic: str, x: Tensor, *, reliable: bool = False) -> Inbox:
        """Everybody sends its row of x [K, d] to its neighbours and hears theirs.

        With `reliable`, messages travel by reliable broadcast (Bracha, 1987: each is echoed twice by everybody who
        should hear it), so a liar cannot tell its neighbours different things: all of them hear what its first hears.
        """
        return await self._post.exchange(topic, x, reliable)

    async def gather(self, topic: str, x: Tensor, groups: int = 1) -> Inbox:
        """Everybody sends its row of x [K, d] to the server: an inbox for each group, agent a in group a mod G."""
        return await self._post.gather(topic, x, groups)

    async def broadcast(self, topic: str, y: Tensor) -> Tensor:
        """The server tells everybody y [1, d]; it is trusted, and heard in time as it spoke: [K, d]."""
        self._post.broadcast(topic, y)
        return y.expand(len(self.agents), -1).clone()

    async def common(self, name: str, draw: Callable[[np.random.Generator], float]) -> Tensor:
        """A value of `draw` that honest agents have in common, as far as the coin keeps its word: float64 [K]."""
        values = self._coin(draw, len(self.agents), self._streams.generator(name, self.round))
        self._adversary.toss(values)
        for copies, size in self._coin.cost(len(self.agents)):
            self.ledger.charge("coin", np.full(len(self.agents), copies), size)
        return values

    async def agree(self, theta: Tensor, state: State) -> tuple[Tensor, State]:
        """Bring the rows of theta [K, d] together by the experiment's agreement, whose part of the state is renewed."""
        prefix = "agreement."
        mine = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
        agreed, report, new = await self._agreement(self, theta, mine)
        self.ledger.agreed = Agreed(theta, agreed, report)
        return agreed, {**state, **{prefix + k: v for k, v in new.items()}}

    # What agents do with what they heard.

    def aggregate(self, inbox: Inbox, state: State) -> tuple[Tensor, State]:
        """The experiment's rule on every receiver's messages: [R, d], and the state with the rule's part renewed.

        Where the rule is undefined for what is left after screening, an agent keeps its own vector, and a server has
        no value: its row is NaN.
        """
        prefix = "aggregator."
        mine = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
        done = self.ledger.aggregation = self._apply("aggregator", self._aggregator, inbox, mine)
        self._adversary.learn("gradient", done)
        return done.value, {**state, **{prefix + k: v for k, v in done.state.items()}}

    def combine(self, rule: Aggregator, inbox: Inbox, state: State | None = None) -> tuple[Tensor, State]:
        """Any rule on every receiver's messages, [R, d]. Receivers that hear the same share one computation.

        A stateful rule's state has a row for each receiver: zeros until the rule was first defined for what it heard.
        """
        done = self._apply("agreement", rule, inbox, state or {})
        self.ledger.mixing = self.ledger.mixing or done
        self._adversary.learn("parameters", done)
        return done.value, done.state

    def _apply(self, purpose: str, rule: Aggregator, inbox: Inbox, state: State) -> Aggregation:
        usable = torch.tensor([rule.defined(n, f) for n, f in zip(inbox.n.tolist(), inbox.f.tolist(), strict=True)])
        self.ledger.kept += int((~usable).sum())
        nothing = torch.full_like(inbox.base[:1], torch.nan).repeat(len(usable), 1)
        value = nothing if inbox.sent is None else inbox.sent.clone()
        rows = usable.nonzero().squeeze(1)
        new, weights = dict(state), None
        if len(rows):
            heard = inbox.of(rows)
            alike = not (rule.self_centred or rule.stateful)
            first, kind = heard.distinct() if alike else (torch.arange(len(rows)), torch.arange(len(rows)))
            each = max(1, _BLOCK // (heard.senders.shape[1] * heard.base.shape[1]))
            self._uses[purpose] += 1
            stream = f"{purpose}/{self._uses[purpose] - 1}"
            parts, shares, states = [], [], []
            for block in first.split(each):
                some = heard.of(block)
                out, share, kept = rule(
                    some.base[some.senders],
                    some.f,
                    mask=some.mask,
                    own=some.own,
                    weights=some.weights,
                    age=some.age,
                    state={name: part[rows[block]] for name, part in new.items()},
                    rng=self._streams.generator(stream, self.round),
                    **self._favours(rule, some, stream),
                )
                parts.append(out)
                shares.append(share)
                states.append(kept)
            value[rows] = torch.cat(parts)[kind].to(value)
            if (found := [share for share in shares if share is not None]) and len(found) == len(shares):
                weights = torch.zeros(inbox.mask.shape, dtype=torch.float64)
                weights[rows] = torch.cat(found)[kind].cpu()
            for name in states[0]:
                part = torch.cat([kept[name] for kept in states])
                new[name] = new[name].clone() if name in new else part.new_zeros(len(usable), *part.shape[1:])
                new[name][rows] = part
        return Aggregation(inbox, value, weights, usable, new)

    def _favours(self, rule: Aggregator, inbox: Inbox, stream: str) -> dict[str, Any]:
        """What only some rules ask for."""
        asked: dict[str, Any] = {}
        if "honest" in rule.asks:
            asked["honest"] = ~self._members.byzantine[inbox.authors]
        if "judge" in rule.asks:
            asked["judge"] = partial(self._judge, inbox, stream)
        return asked

    def _judge(self, inbox: Inbox, stream: str, policies: Tensor, which: Tensor, episodes: int) -> Tensor:
        """See `byzbench.contracts.Judge`. All candidates of a receiver meet the same episodes, of its own streams."""
        assert inbox.receivers is not None
        receivers, candidates = which.nonzero(as_tuple=True)
        returns = torch.full(which.shape, torch.nan, dtype=torch.float64)
        if len(receivers):
            who = inbox.receivers[receivers].tolist()
            counts = torch.full((len(who),), episodes)
            played = self._play(policies[receivers, candidates], counts, who, f"/judge/{stream}", None)
            self._charge_episodes(who, played)
            returns[receivers, candidates] = played.returns
        return returns.to(policies.device)

    def width(self, inbox: Inbox) -> Tensor:
        """How far apart the narrowest n - f messages of each receiver lie: their diameter, float64 [R]."""
        first, kind = inbox.distinct()
        heard = inbox.of(first)
        # An empty inbox has no width: what was screened out of it stands as zeros in the base.
        mask = heard.mask | (heard.n == 0).unsqueeze(1)
        cloud = Cloud.of(heard.base[heard.senders], mask)
        return narrowest(cloud.distances, mask, heard.f)[1].to(heard.base.device)[kind]

"""Carries messages: puts the liars' words in place, packs them, loses and delays them, screens them, counts them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from torch import Tensor

from byzbench.contracts import Channel, Format, State
from byzbench.federation.adversary import Adversary
from byzbench.federation.inbox import Inbox
from byzbench.federation.ledger import Ledger
from byzbench.federation.membership import Membership
from byzbench.federation.screening import Screened
from byzbench.randomness import Streams


@dataclass(frozen=True)
class _Mail:
    """What was said in one exchange, R receivers of n: see `Inbox`.

    Attributes:
        base: float32 [M, d], finite.
        bad: bool [M], no vectors of finite numbers.
        silent: bool [M], nothing was said.
        senders: int64 [R, n], rows of `base`.
        due: int64 [R, n], the round in which it is heard; -1 for never.
    """

    base: Tensor
    bad: Tensor
    silent: Tensor
    senders: Tensor
    due: Tensor

    def __post_init__(self) -> None:
        """Refuse what a checkpoint cannot have kept."""
        rows, fits = len(self.base), self.senders.shape == self.due.shape
        if not (fits and self.base.ndim == 2 and self.bad.shape == self.silent.shape == (rows,)):
            raise ValueError("a message on its way has parts that do not fit each other")
        if self.senders.numel() and not 0 <= int(self.senders.min()) <= int(self.senders.max()) < rows:
            raise ValueError("a message on its way has no vector")


class Post:
    """The wires of one experiment. `round` and `members` are set by the federation.

    Args:
        members: who hears whom.
        adversary: who lies.
        channel: what happens to messages.
        streams: of the experiment.
        ledger: where messages are counted.
    """

    def __init__(
        self, members: Membership, adversary: Adversary, channel: Channel, streams: Streams, ledger: Ledger
    ) -> None:
        self.members, self.round = members, 0
        self._adversary, self._streams, self._ledger = adversary, streams, ledger
        self._parts = list(channel.parts)
        self._longest = sum(part.longest for part in self._parts)
        self._exchanges = Counter[str]()
        self._codes: dict[str, State] = {}
        self._flying: dict[str, dict[int, _Mail]] = {}

    def begin(self, round: int, members: Membership) -> None:
        """A new round, with who hears whom in it."""
        self.round, self.members, self._exchanges = round, members, Counter[str]()

    async def exchange(self, topic: str, x: Tensor, reliable: bool) -> Inbox:
        """See `Federation.exchange`."""
        members = self.members
        said = await self._adversary.speak(topic, x, members.lies[:, :2])
        senders = members.senders
        if said is not None and self._adversary.equivocates:
            senders = senders.clone()
            _, receiver, column = members.lies.T
            edge = members.first_lies if reliable else torch.arange(len(receiver))
            senders[receiver, column] = members.agents + edge
        base, bad, silent = self._spoken(x.detach(), said, self._adversary.equivocates)
        sent = members.others & ~silent[senders]
        copies = members.broadcasts if reliable else _by_author(sent, members.senders, members.agents, members.hops)
        inbox = Inbox(base, senders, members.senders, members.mask, members.own, members.bounds, x.detach())
        inbox = self._carry(topic, inbox, bad, silent, copies, wired=not reliable)
        return replace(inbox, weights=members.mixing, receivers=torch.arange(members.agents))

    async def gather(self, topic: str, x: Tensor, groups: int) -> Inbox:
        """See `Federation.gather`."""
        members = self.members
        liars = torch.arange(len(members.liars))
        edges = torch.stack([liars, torch.full_like(liars, members.agents)], 1)
        said = await self._adversary.speak(topic, x, edges, groups)
        base, bad, silent = self._spoken(x.detach(), said, equivocal=False)
        silent[list(members.away)] = True
        senders, mask = members.parted(groups)
        bounds = torch.tensor([members.bound(n) for n in mask.sum(1).tolist()])
        inbox = Inbox(base, senders, senders, mask, torch.full_like(bounds, -1), bounds, None)
        return self._carry(topic, inbox, bad, silent, (~silent).numpy().astype(np.int64), wired=True)

    def broadcast(self, topic: str, y: Tensor) -> None:
        """See `Federation.broadcast`."""
        copies = np.zeros(self.members.agents + 1, np.int64)
        copies[-1] = self.members.agents
        self._ledger.charge(topic, copies, Format(y.shape[1]).bytes)

    @property
    def memory(self) -> State:
        """What a checkpoint keeps: what codes left out, and what is on its way. Taken back, or a `ValueError`."""
        codes = {f"code/{where}/{name}": part for where, code in self._codes.items() for name, part in code.items()}
        mail = {
            f"mail/{where}/{sent}/{name}": part
            for where, flying in self._flying.items()
            for sent, one in flying.items()
            for name, part in vars(one).items()
        }
        return codes | mail

    @memory.setter
    def memory(self, kept: State) -> None:
        codes: dict[str, State] = {}
        mails: dict[tuple[str, int], State] = {}
        for path, part in kept.items():
            what, *where, name = path.split("/")
            if what == "code":
                codes.setdefault("/".join(where), {})[name] = part
            else:
                *place, sent = where
                mails.setdefault(("/".join(place), int(sent)), {})[name] = part
        if any(set(parts) != {f.name for f in fields(_Mail)} for parts in mails.values()):
            raise ValueError("a message on its way lacks a part")
        self._codes, self._flying = codes, {}
        for (here, then), parts in mails.items():
            self._flying.setdefault(here, {})[then] = _Mail(**parts)

    def _spoken(self, x: Tensor, said: Screened | None, equivocal: bool) -> tuple[Tensor, Tensor, Tensor]:
        """Everything that was said: vectors [M, d], malformed [M], silent [M].

        The liars' words stand in place of their rows of x; where each edge has words of its own, after all rows.
        """
        bad = ~x.isfinite().all(1).cpu()
        if said is None:
            return x, bad, torch.zeros_like(bad)
        if equivocal:
            return (
                torch.cat([x, said.vectors.to(x)]),
                torch.cat([bad, said.malformed]),
                torch.cat([torch.zeros_like(bad), said.silent]),
            )
        x, silent, liars = x.clone(), torch.zeros_like(bad), list(self.members.liars)
        x[liars], bad[liars], silent[liars] = said.vectors.to(x), said.malformed, said.silent
        return x, bad, silent

    def _carry(self, topic: str, inbox: Inbox, bad: Tensor, silent: Tensor, copies: np.ndarray, wired: bool) -> Inbox:
        """What arrives of an inbox [R, n] as it was sent, screened.

        Args:
            topic: of the exchange.
            inbox: everything that was said.
            bad: [M], of its base.
            silent: [M], of its base.
            copies: [K], how many messages each agent has sent.
            wired: whether messages can be late or lost. Reliable broadcast repeats them until they are there.
        """
        where = f"{topic}/{self._exchanges[topic]}"
        self._exchanges[topic] += 1
        if bad.any() or silent.any():
            inbox = replace(inbox, base=inbox.base.masked_fill((bad | silent).unsqueeze(1).to(inbox.base.device), 0.0))
        form, d = Format(inbox.base.shape[1]), inbox.base.shape[1]
        receivers, width = inbox.mask.shape
        missing, total = torch.zeros_like(inbox.mask), np.zeros(inbox.mask.shape, np.int64)
        parts = [(i, part) for i, part in enumerate(self._parts) if part.covers(topic)]
        for i, part in parts:
            rng = self._streams.generator(f"channel/{where}/{i}", self.round)
            form = part.pack(form, d)
            inbox = replace(inbox, base=self._encoded(f"{where}/{i}", part, inbox.base, bad | silent, rng))
            if wired and (late := part.late(receivers, width, rng)) is not None:
                total = np.where((late < 0) | (total < 0), -1, total + late)
        self._ledger.charge(topic, copies, form.bytes)
        if total.any() or where in self._flying:
            own = np.arange(total.shape[1]) == inbox.own.numpy()[:, None]
            inbox, bad, silent, missing = self._deliver(where, inbox, bad, silent, np.where(own, 0, total))
        if not (bad.any() or silent.any() or missing.any()):
            return inbox
        return self._screened(inbox, bad[inbox.senders], silent[inbox.senders] | missing)

    def _encoded(self, where: str, part: Channel, x: Tensor, unsaid: Tensor, rng: np.random.Generator) -> Tensor:
        """X [M, d] as it is read; each agent has a row of memory, and words on edges have none."""
        agents = self.members.agents
        memory = self._codes.get(where, {})
        edges = len(x) - agents
        rows = {name: torch.cat([kept, kept.new_zeros(edges, *kept.shape[1:])]) for name, kept in memory.items()}
        said, new = part.encode(x, rows, rng)
        if new:
            # Who said nothing readable has sent nothing, and corrects nothing.
            stays = unsaid[:agents].unsqueeze(1)
            before = {name: memory.get(name, torch.zeros_like(kept[:agents])) for name, kept in new.items()}
            self._codes[where] = {
                name: torch.where(stays.to(kept.device), before[name], kept[:agents]) for name, kept in new.items()
            }
        return said

    def _deliver(
        self, where: str, inbox: Inbox, bad: Tensor, silent: Tensor, late: np.ndarray
    ) -> tuple[Inbox, Tensor, Tensor, Tensor]:
        """What is heard now of this exchange and of those before it, and which [R, n] is not: of several the newest."""
        due = torch.from_numpy(np.where(late < 0, -1, late + self.round))
        flying = self._flying.setdefault(where, {})
        flying[self.round] = _Mail(inbox.base, bad, silent, inbox.senders, due)
        age, senders, parts, rows = torch.full_like(due, -1), inbox.senders, [], 0
        for sent in sorted(flying, reverse=True):
            mail = flying[sent]
            now = (mail.due == self.round) & (age < 0)
            if sent == self.round or now.any():
                senders = torch.where(now, mail.senders + rows, senders)
                age = torch.where(now, self.round - sent, age)
                parts.append(mail)
                rows += len(mail.base)
            if not (mail.due > self.round).any():
                del flying[sent]
        if not flying:
            del self._flying[where]
        base, bad, silent = (torch.cat([getattr(part, name) for part in parts]) for name in ("base", "bad", "silent"))
        return replace(inbox, base=base, senders=senders, age=age.clamp(min=0)), bad, silent, age < 0

    def _screened(self, inbox: Inbox, bad: Tensor, silent: Tensor) -> Inbox:
        """A malformed vector [R, n] proves a liar, so n and f fall by one; a missing one lowers n alone."""
        exposed, missing = bad & inbox.mask, silent & inbox.mask
        # What an agent says to itself is no message.
        others = torch.arange(inbox.mask.shape[1]) != inbox.own.unsqueeze(1)
        self._ledger.screened += int((exposed & others).sum())
        self._ledger.silent += int((missing & others).sum())
        f = (inbox.f - exposed.sum(1)).clamp(min=0)
        return replace(inbox, mask=inbox.mask & ~exposed & ~missing, f=f)


def _by_author(sent: Tensor, authors: Tensor, agents: int, hops: Tensor | None) -> np.ndarray:
    """How many messages each agent sends, [K], where it says something on the edges `sent` [R, n]."""
    weights = None if hops is None else hops[sent].numpy()
    return np.bincount(authors[sent].numpy(), weights, minlength=agents).astype(np.int64)

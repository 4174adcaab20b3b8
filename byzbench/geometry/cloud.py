"""What a set of vectors looks like from the inside: inner products and distances, without the coordinates."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

# Coordinates in float64 at one time, so that a block of them stays in the cache. Not a power of two: rows that begin a
# multiple of one apart compete for the same places in it.
BLOCK = 2000

# Numbers of a small set, 32 x 256. A call of NumPy takes a third of the time of one of torch, and its products of sets
# no larger than this start no threads.
SMALL = 1 << 13


def small(x: Tensor) -> bool:
    """Whether x [..., n, d] are sets for NumPy: n d <= `SMALL`, and n^2 d no more than 32 times that.

    How many sets there are does not matter, so that each is treated alike whatever others are beside it.
    """
    n, d = x.shape[-2:]
    return max(n, 32) * n * d <= 32 * SMALL and d <= BLOCK and x.is_cpu


def blocks(x: Tensor) -> Sequence[Tensor]:
    """The coordinates of x [..., d] in blocks of at most `BLOCK`."""
    return x.split(BLOCK, dim=-1) if x.shape[-1] > BLOCK else (x,)


def lengths(x: Tensor, origin: Tensor | None = None) -> Tensor:
    """||x_i - origin|| of x [..., n, d], a block of coordinates at a time: float64 [..., n].

    Args:
        x: vectors.
        origin: [..., 1, d], default: zero.
    """
    if small(x):
        rows = array(x).astype(np.float64)
        if origin is not None:
            rows -= array(origin)
        return tensor(np.sqrt(np.vecdot(rows, rows)), x)
    if origin is None:
        parts = [torch.linalg.vector_norm(part.double(), dim=-1) for part in blocks(x)]
    else:
        pairs = zip(blocks(x), blocks(origin), strict=True)
        parts = [torch.linalg.vector_norm(part.double() - start.double(), dim=-1) for part, start in pairs]
    return parts[0] if len(parts) == 1 else torch.linalg.vector_norm(torch.stack(parts, -1), dim=-1)


def array(x: Tensor) -> npt.NDArray[Any]:
    """The numbers of x on the CPU, in place if they are there: small sets take NumPy less time than torch a call."""
    return x.numpy(force=True)


def tensor(x: npt.NDArray[Any], like: Tensor) -> Tensor:
    """The way back, to the device of another."""
    found = torch.from_numpy(x)
    return found if like.is_cpu else found.to(like.device)


def picked(x: npt.NDArray[Any], index: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
    """One entry of each set: x [..., n, *] and index [...] to [..., *]."""
    if index.size == 1:
        return np.asarray(x.take(index.item(), axis=index.ndim))
    sets = x.reshape(-1, *x.shape[index.ndim :])
    return sets[np.arange(len(sets)), index.reshape(-1)].reshape((*index.shape, *sets.shape[2:]))


def vector_at(x: Tensor, index: Tensor) -> Tensor:
    """One vector of each set: x [..., n, d] and index [...] to [..., 1, d]."""
    if small(x):
        return tensor(picked(array(x), array(index))[..., None, :], x)
    return x.take_along_dim(index[..., None, None], -2)


def even(chosen: Tensor) -> Tensor:
    """Equal weights of sum one on the chosen of [..., n], who are one at least: float64 [..., n]."""
    marked = array(chosen)
    return tensor(marked / np.add.reduce(marked, -1, keepdims=True), chosen)


def squares_to(gram: npt.NDArray[np.float64], weights: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Squared distances of the y_i to the point sum_i w_i y_i, from gram [..., n, n] and w [..., n]: [..., n].

    Rounding may leave them just below zero.
    """
    towards = np.vecdot(gram, weights[..., None, :])
    length = np.vecdot(towards, weights)
    return np.asarray(gram.diagonal(axis1=-2, axis2=-1) - 2 * towards + length[..., None])


class Cloud(ABC):
    """n vectors x_i = c + y_i, known by the inner products of the y_i with each other and by their lengths.

    The centre c is the shortest valid vector; of a wide set, the shortest in each block of coordinates. Parameters of
    agents that agree are long and close together, so inner products of the vectors themselves would drown their
    distances. A mean as the centre could be carried off by one liar; the shortest is never longer than an honest one.

    Nothing is computed before it is asked for: a rule that reads lengths alone does not pay for inner products.

    Attributes:
        mask: bool [..., n], False where there is no vector.
        gram: float64 [..., n, n], <y_i, y_j>. Rows and columns of invalid vectors are zero.
        norms: float64 [..., n], ||x_i||; zero at invalid vectors.
        centre: float64 [...], ||c||^2.
    """

    mask: Tensor

    @property
    @abstractmethod
    def gram(self) -> Tensor:
        """See above."""

    @property
    @abstractmethod
    def norms(self) -> Tensor:
        """See above."""

    @property
    @abstractmethod
    def centre(self) -> Tensor:
        """See above."""

    @staticmethod
    def of(x: Tensor, mask: Tensor | None = None) -> Cloud:
        """The cloud of the finite vectors x [..., n, d], where `mask` [..., n] is True (default: everywhere).

        x must not change before the cloud has been used.
        """
        valid = torch.ones(x.shape[:-1], dtype=torch.bool, device=x.device) if mask is None else mask
        return _Small(x, valid) if small(x) else _Given(x, valid)

    @cached_property
    def squared_distances(self) -> Tensor:
        """float64 [..., n, n]: symmetric, zero on the diagonal and wherever either vector is invalid."""
        gram = array(self.gram)
        own = gram.diagonal(axis1=-2, axis2=-1)
        squares = own[..., :, None] + own[..., None, :]
        squares -= 2 * gram
        np.maximum(squares, 0, out=squares)
        return tensor(self._hide(squares), self.mask)

    @cached_property
    def distances(self) -> Tensor:
        """float64 [..., n, n]: square roots of `squared_distances`."""
        return tensor(np.sqrt(array(self.squared_distances)), self.mask)

    def distances_to(self, weights: Tensor) -> Tensor:
        """Distances of the vectors to the point sum_i w_i x_i, for weights [..., n] of sum one: float64 [..., n]."""
        squares = squares_to(array(self.gram), array(weights))
        return tensor(np.sqrt(np.maximum(squares, 0)) * array(self.mask), self.mask)

    def select(self, index: Tensor, mask: Tensor | None = None) -> Cloud:
        """The sub-clouds of R receivers, from a cloud without batch dimensions.

        Args:
            index: [R, n] rows of this cloud. Any row will do where `mask` is False.
            mask: [R, n], default: everywhere. Vectors invalid in this cloud stay so.

        Returns:
            A cloud of shape [R, n]. Its centre is still this cloud's, which need not be among a receiver's vectors.
        """
        return _Selected(self, index, self.mask[index] if mask is None else self.mask[index] & mask)

    def combine(self, weights: Tensor, mask: Tensor | None = None) -> Cloud:
        """The cloud of the m affine combinations P x, about the same centre.

        Args:
            weights: P [..., m, n], zero at invalid vectors. Valid rows sum to one, as only then is c + P y = P x.
            mask: [..., m], default: everywhere. Rows of P that are not valid are zero.
        """
        if mask is None:
            mask = weights.new_ones(weights.shape[:-1], dtype=torch.bool)
        return _Combined(self, weights, mask)

    @cached_property
    def _hidden(self) -> npt.NDArray[np.bool_] | None:
        """Pairs of which one or both vectors are invalid, or None if all are valid, as nearly always."""
        mask = array(self.mask)
        return None if mask.all() else ~(mask[..., :, None] & mask[..., None, :])

    def _hide(self, of_pairs: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        if self._hidden is not None:
            of_pairs[self._hidden] = 0
        return of_pairs

    def _symmetric(self, product: Tensor) -> Tensor:
        """A Gram matrix, of which a matrix product may have rounded (i, j) and (j, i) differently."""
        gram = array(product)
        gram = gram + gram.swapaxes(-1, -2)
        gram *= 0.5
        return tensor(self._hide(gram), product)


@dataclass(frozen=True, eq=False)
class _Small(Cloud):
    x: Tensor
    mask: Tensor

    @cached_property
    def norms(self) -> Tensor:
        return tensor(np.sqrt(np.where(array(self.mask), self._rows[1], 0)), self.mask)

    @cached_property
    def centre(self) -> Tensor:
        return tensor(np.asarray(self._rows[1].min(-1)), self.mask)

    @cached_property
    def gram(self) -> Tensor:
        rows, far = self._rows
        # In place, as nothing else reads them after their lengths: many sets fill more than a cache.
        rows -= picked(rows, np.asarray(far.argmin(-1)))[..., None, :]
        # NumPy sees that both are the same, and the product is symmetric to the bit.
        return tensor(self._hide(rows @ rows.swapaxes(-1, -2)), self.mask)

    @cached_property
    def _rows(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """The vectors, and ||x_i||^2; infinity at invalid ones."""
        rows = array(self.x).astype(np.float64)
        far = np.vecdot(rows, rows)
        return rows, far if self._hidden is None else np.where(array(self.mask), far, np.inf)


@dataclass(frozen=True, eq=False)
class _Given(Cloud):
    x: Tensor
    mask: Tensor

    @cached_property
    def norms(self) -> Tensor:
        return lengths(self.x).masked_fill_(~self.mask, 0)

    @property
    def gram(self) -> Tensor:
        return self._centred[0]

    @cached_property
    def centre(self) -> Tensor:
        return torch.cat(self._centred[1], -1).square().sum(-1)

    @cached_property
    def _centred(self) -> tuple[Tensor, list[Tensor]]:
        """The Gram matrix, and the length of the centre in each block [..., 1]."""
        products, shares = None, []
        for part in blocks(self.x):
            rows = part.to(torch.float64, copy=True)
            far = torch.linalg.vector_norm(rows, dim=-1)
            if self._hidden is not None:
                far.masked_fill_(~self.mask, torch.inf)
            least, shortest = far.min(-1, keepdim=True)
            rows -= rows.gather(-2, shortest.unsqueeze(-1).expand(*shortest.shape, rows.shape[-1]))
            shares.append(least)
            products = rows @ rows.mT if products is None else products.add_(rows @ rows.mT)
        assert products is not None
        return self._symmetric(products), shares


@dataclass(frozen=True, eq=False)
class _Selected(Cloud):
    whole: Cloud
    index: Tensor
    mask: Tensor

    @cached_property
    def norms(self) -> Tensor:
        return self.whole.norms[self.index] * self.mask

    @cached_property
    def centre(self) -> Tensor:
        return self.whole.centre.expand(self.index.shape[:-1])

    @cached_property
    def gram(self) -> Tensor:
        gram = self.whole.gram[self.index.unsqueeze(-1), self.index.unsqueeze(-2)]
        return gram * (self.mask.unsqueeze(-1) & self.mask.unsqueeze(-2))


@dataclass(frozen=True, eq=False)
class _Combined(Cloud):
    parts: Cloud
    weights: Tensor
    mask: Tensor

    @cached_property
    def norms(self) -> Tensor:
        # ||c + P y||^2, with <y_i, c> from the lengths of x_i, y_i and c.
        own, centre = self.parts.gram.diagonal(dim1=-2, dim2=-1), self.centre.unsqueeze(-1)
        towards = (self.parts.norms.square() - own - centre) * self.parts.mask
        squares = self.gram.diagonal(dim1=-2, dim2=-1) + (self.weights @ towards.unsqueeze(-1)).squeeze(-1) + centre
        return squares.clamp_min(0).sqrt() * self.mask

    @cached_property
    def centre(self) -> Tensor:
        return self.parts.centre

    @cached_property
    def gram(self) -> Tensor:
        parts = self.parts.gram
        if small(parts):
            shares = array(self.weights)
            return self._symmetric(tensor(shares @ array(parts) @ shares.swapaxes(-1, -2), parts))
        return self._symmetric(self.weights @ parts @ self.weights.mT)

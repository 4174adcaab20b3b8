"""Inner products and distances of a set of vectors, without their coordinates."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from itertools import repeat
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from byzbench.geometry.subsets import EFFORT, min_diameter_subsets

# Number of coordinates converted to float64 at one time, so that a block of them stays in the cache. It is not a power
# of two: rows whose starts are a multiple of one apart would map to the same cache lines.
BLOCK = 2000

# Maximum count of numbers of a small set, 32 x 256. A NumPy call takes a third of the time of a torch call, and its
# matrix products of sets up to this size start no threads.
SMALL = 1 << 13

# Minimum count of numbers of a large set, for which it pays to load compiled code.
LARGE = 1 << 21


def is_small(x: Tensor) -> bool:
    """Return whether NumPy computes on the sets x [..., n, d]: n d <= `SMALL`, and n^2 d at most 32 times that.

    The number of sets does not matter, so that the result of a set does not depend on the other sets of its batch.
    """
    n, d = x.shape[-2:]
    return max(n, 32) * n * d <= 32 * SMALL and d <= BLOCK and x.is_cpu


def is_large(x: Tensor) -> bool:
    """Return whether compiled code computes on the sets x [..., n, d], one after the other, without copies of them."""
    n, d = x.shape[-2:]
    return n * d >= LARGE and x.is_cpu and x.dtype in (torch.float32, torch.float64)


def coordinate_blocks(x: Tensor) -> Sequence[Tensor]:
    """Split the coordinates of x [..., d] into blocks of at most `BLOCK`."""
    return x.split(BLOCK, dim=-1) if x.shape[-1] > BLOCK else (x,)


def norms_from(x: Tensor, origin: Tensor | None = None) -> Tensor:
    """Return ||x_i - origin|| of x [..., n, d], computed in blocks of coordinates: float64 [..., n].

    Args:
        x: [..., n, d], the vectors.
        origin: [..., 1, d]; zero if None.

    Example:
        >>> norms_from(torch.tensor([[3.0, 4.0], [0.0, 1.0]]))
        tensor([5., 1.], dtype=torch.float64)
    """
    if is_small(x):
        rows = to_array(x).astype(np.float64)
        if origin is not None:
            rows -= to_array(origin)
        return to_tensor(np.sqrt(np.vecdot(rows, rows)), x)
    if is_large(x):
        from byzbench.geometry.large_sets import add_squares  # local, as loading Numba takes time

        squares = x.new_empty(x.shape[:-1], dtype=torch.float64)
        for values, start, lengths in _sets(x, origin, squares):
            add_squares(values, start, lengths)
        return squares.sqrt_()
    if origin is None:
        parts = [torch.linalg.vector_norm(part.double(), dim=-1) for part in coordinate_blocks(x)]
    else:
        pairs = zip(coordinate_blocks(x), coordinate_blocks(origin), strict=True)
        parts = [torch.linalg.vector_norm(part.double() - offset.double(), dim=-1) for part, offset in pairs]
    return parts[0] if len(parts) == 1 else torch.linalg.vector_norm(torch.stack(parts, -1), dim=-1)


def _sets(x: Tensor, origin: Tensor | None, *results: Tensor) -> Iterator[tuple[Any, ...]]:
    """Yield each set of x [..., n, d], its origin [1, d] in float64 or None, and its part of the results, as arrays."""
    count, values = x.shape[:-2].numel(), to_array(x).reshape(-1, *x.shape[-2:])
    origins: Iterable[Any] = [None] * count
    if origin is not None:
        origins = to_array(origin.double().expand(*x.shape[:-2], 1, -1)).reshape(count, 1, -1)
    parts = (to_array(result).reshape(count, -1) for result in results)
    yield from zip(values, origins, *parts, strict=True)


def to_array(x: Tensor) -> npt.NDArray[Any]:
    """Return the numbers of x as a NumPy array, without a copy if they are on the CPU.

    On small sets NumPy calls take less time than torch calls.
    """
    return x.numpy(force=True)


def to_tensor(x: npt.NDArray[Any], like: Tensor) -> Tensor:
    """Return the numbers of a NumPy array as a tensor on the device of `like`."""
    result = torch.from_numpy(x)
    return result if like.is_cpu else result.to(like.device)


def select_rows(x: npt.NDArray[Any], index: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
    """Return one entry of each set: from x [..., n, *] and index [...], an array [..., *]."""
    if index.size == 1:
        return np.asarray(x.take(index.item(), axis=index.ndim))
    sets = x.reshape(-1, *x.shape[index.ndim :])
    return sets[np.arange(len(sets)), index.reshape(-1)].reshape((*index.shape, *sets.shape[2:]))


def vector_at(x: Tensor, index: Tensor) -> Tensor:
    """Return one vector of each set: from x [..., n, d] and index [...], a tensor [..., 1, d]."""
    if is_small(x):
        return to_tensor(select_rows(to_array(x), to_array(index))[..., None, :], x)
    return x.take_along_dim(index[..., None, None], -2)


def uniform_weights(chosen: Tensor) -> Tensor:
    """Return equal weights of sum one on the chosen vectors: float64 [..., n].

    Args:
        chosen: [..., n] bool; each row has at least one True.

    Example:
        >>> uniform_weights(torch.tensor([True, False, True]))
        tensor([0.5000, 0.0000, 0.5000], dtype=torch.float64)
    """
    is_chosen = to_array(chosen)
    return to_tensor(is_chosen / np.add.reduce(is_chosen, -1, keepdims=True), chosen)


def weighted_sum(weights: Tensor, x: Tensor, scales: npt.NDArray[np.float64] | None = None) -> Tensor:
    """Return sum_i weights_i x_i for each set, [..., d] in the dtype of x.

    The sum is computed in float64. With `scales` it is that of `scale_vectors(scales, x)`, of which large sets need no
    copy.

    Args:
        weights: float64 [..., n].
        x: [..., n, d].
        scales: float64 [..., n].

    Example:
        >>> x = torch.tensor([[0.0, 0.0], [1.0, 2.0], [3.0, 4.0]])
        >>> weighted_sum(torch.tensor([0.5, 0.25, 0.25], dtype=torch.float64), x)
        tensor([1.0000, 1.5000])
    """
    if is_large(x):
        return _add_differences(weights, x, None, x.dtype, scales)
    if scales is not None:
        x = scale_vectors(scales, x)
    if is_small(x):
        rows = to_array(x)
        value = to_array(weights)[..., None, :] @ rows.astype(np.float64)
        return to_tensor(value[..., 0, :].astype(rows.dtype), x)
    parts = [(weights.unsqueeze(-2) @ part.double()).squeeze(-2).to(x.dtype) for part in coordinate_blocks(x)]
    return parts[0] if len(parts) == 1 else torch.cat(parts, -1)


def weighted_differences(weights: Tensor, x: Tensor, origin: Tensor) -> Tensor:
    """Return sum_i weights_i (x_i - origin) for each set: float64 [..., 1, d].

    Args:
        weights: float64 [..., n].
        x: [..., n, d].
        origin: float64 [..., 1, d].
    """
    if is_large(x):
        return _add_differences(weights, x, origin, torch.float64).unsqueeze(-2)
    pairs = zip(coordinate_blocks(x), coordinate_blocks(origin), strict=True)
    parts = [weights.unsqueeze(-2) @ (part.double() - start) for part, start in pairs]
    return parts[0] if len(parts) == 1 else torch.cat(parts, -1)


def _add_differences(
    weights: Tensor, x: Tensor, origin: Tensor | None, dtype: torch.dtype, scales: npt.NDArray[np.float64] | None = None
) -> Tensor:
    """Return sum_i weights_i (x_i - origin) of large sets, [..., d]; vectors of weight zero are not read."""
    from byzbench.geometry.large_sets import add_differences  # local, as loading Numba takes time

    total = x.new_empty((*x.shape[:-2], x.shape[-1]), dtype=dtype)
    all_scales: Iterable[Any] = repeat(None) if scales is None else scales.reshape(-1, x.shape[-2])
    for (values, start, shares, result), factors in zip(_sets(x, origin, weights, total), all_scales, strict=False):
        rows = np.flatnonzero(shares)
        add_differences(shares[rows], rows, values, start, factors, result)
    return total


def combine_vectors(matrix: Tensor, x: Tensor) -> Tensor:
    """Return the linear combinations matrix @ x, [..., m, d] in the dtype of x; they are computed in float64.

    Args:
        matrix: float64 [..., m, n], the weights.
        x: [..., n, d], the vectors.

    Example:
        >>> combine_vectors(torch.tensor([[0.5, 0.5], [1.0, 0.0]], dtype=torch.float64), torch.tensor([[0.0], [2.0]]))
        tensor([[1.],
                [0.]])
    """
    if is_small(x):
        rows = to_array(x)
        return to_tensor((to_array(matrix) @ rows.astype(np.float64)).astype(rows.dtype), x)
    result = x.new_empty((*matrix.shape[:-1], x.shape[-1]))
    for part, target in zip(coordinate_blocks(x), coordinate_blocks(result), strict=True):
        target.copy_(matrix @ part.double())
    return result


def scale_vectors(scales: npt.NDArray[np.float64], x: Tensor) -> Tensor:
    """Return scales_i x_i for each vector: [..., n, d] in the dtype of x. The products are computed in float64.

    Args:
        scales: [..., n].
        x: [..., n, d].

    Example:
        >>> scale_vectors(np.array([0.5, 2.0]), torch.tensor([[1.0], [3.0]]))
        tensor([[0.5000],
                [6.0000]])
    """
    if is_small(x):
        rows = to_array(x)
        return to_tensor((rows.astype(np.float64) * scales[..., None]).astype(rows.dtype), x)
    result = x.new_empty(x.shape)
    if is_large(x):
        from byzbench.geometry.large_sets import write_scaled  # local, as loading Numba takes time

        sets = zip(scales.reshape(-1, x.shape[-2]), _sets(x, None, result), strict=True)
        for shares, (values, _, target) in sets:
            write_scaled(shares, values, target.reshape(values.shape))
        return result
    columns = to_tensor(scales, x).unsqueeze(-1)
    for part, target in zip(coordinate_blocks(x), coordinate_blocks(result), strict=True):
        target.copy_(part * columns)
    return result


def squares_to(gram: npt.NDArray[np.float64], weights: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the squared distances [..., n] of the y_i to the point sum_i w_i y_i.

    Rounding may leave them just below zero.

    Args:
        gram: [..., n, n], the inner products of the y_i.
        weights: [..., n], the w_i.
    """
    products = np.vecdot(gram, weights[..., None, :])
    square = np.vecdot(products, weights)
    return np.asarray(gram.diagonal(axis1=-2, axis2=-1) - 2 * products + square[..., None])


class PairwiseDistances(ABC):
    """A set of n vectors x_i = c + y_i, represented by the inner products of the y_i and the lengths of the x_i.

    The centre c is the shortest valid vector; of sets with many coordinates, the shortest in each block of coordinates.
    Parameters of agents that agree are long and close together, so that inner products of the vectors themselves would
    lose their distances to rounding. A single Byzantine vector could move a mean by any amount; the shortest vector is
    never longer than an honest one.

    All values are computed when they are first read: a rule that reads lengths only does not pay for inner products.

    Attributes:
        mask: bool [..., n], False where there is no vector.
        gram: float64 [..., n, n], <y_i, y_j>. Rows and columns of invalid vectors are zero.
        norms: float64 [..., n], ||x_i||; zero at invalid vectors.
        centre: float64 [...], ||c||^2.

    Example:
        >>> PairwiseDistances.of(torch.tensor([[0.0, 0.0], [3.0, 4.0]])).distances
        tensor([[0., 5.],
                [5., 0.]], dtype=torch.float64)
    """

    mask: Tensor

    @property
    @abstractmethod
    def gram(self) -> Tensor:
        """Return the inner products of the y_i; see the class."""

    @property
    @abstractmethod
    def norms(self) -> Tensor:
        """Return the lengths of the x_i; see the class."""

    @property
    @abstractmethod
    def centre(self) -> Tensor:
        """Return the squared length of the centre; see the class."""

    @staticmethod
    def of(x: Tensor, mask: Tensor | None = None, centre: Tensor | None = None) -> PairwiseDistances:
        """Make the cloud of finite vectors.

        Args:
            x: [..., n, d], the vectors, which must not change before the cloud has been used.
            mask: bool [..., n], the valid vectors; by default all.
            centre: [1, d], a centre in place of the shortest vector, in the dtype of x.
        """
        valid = torch.ones(x.shape[:-1], dtype=torch.bool, device=x.device) if mask is None else mask
        return _Small(x, valid, centre) if is_small(x) else _Large(x, valid, centre)

    def min_diameter_subsets(self, f: Tensor, effort: int = EFFORT) -> tuple[Tensor, Tensor]:
        """Return the n - f vectors of least diameter of each set; see `subsets.min_diameter_subsets`.

        A second call with the same arguments returns the same tensors.

        Args:
            f: int64 [...], how many vectors to leave out.
            effort: the maximum effort of the search.
        """
        key = effort, *f.flatten().tolist()
        if key not in self._subsets:
            self._subsets[key] = min_diameter_subsets(self.distances, self.mask, f, effort)
        return self._subsets[key]

    def release(self, *, keep_distances: bool = False) -> None:
        """Free the memory of all values except subsets; they are computed again when they are read.

        Args:
            keep_distances: whether distances and their squares are kept, too.
        """
        kept = {"_subsets", *(entry.name for entry in fields(self))}  # type: ignore[arg-type]
        if keep_distances:
            kept |= {"distances", "squared_distances"}
        for name in vars(self).keys() - kept:
            del self.__dict__[name]

    @cached_property
    def _subsets(self) -> dict[tuple[int, ...], tuple[Tensor, Tensor]]:
        """Return the results of `min_diameter_subsets`, by its arguments."""
        return {}

    @cached_property
    def squared_distances(self) -> Tensor:
        """Return squared distances, float64 [..., n, n]: symmetric, zero on the diagonal and at invalid vectors."""
        gram = to_array(self.gram)
        square_lengths = gram.diagonal(axis1=-2, axis2=-1)
        squares = square_lengths[..., :, None] + square_lengths[..., None, :]
        squares -= 2 * gram
        np.maximum(squares, 0, out=squares)
        return to_tensor(self._zero_invalid(squares), self.mask)

    @cached_property
    def distances(self) -> Tensor:
        """Return the square roots of `squared_distances`, float64 [..., n, n]."""
        return to_tensor(np.sqrt(to_array(self.squared_distances)), self.mask)

    def distances_to(self, weights: Tensor) -> Tensor:
        """Return the distances of the vectors to the point sum_i w_i x_i, float64 [..., n].

        Args:
            weights: [..., n], of sum one.
        """
        squares = squares_to(to_array(self.gram), to_array(weights))
        return to_tensor(np.sqrt(np.maximum(squares, 0)) * to_array(self.mask), self.mask)

    def select(self, index: Tensor, mask: Tensor | None = None) -> PairwiseDistances:
        """Return the sub-clouds of R receivers, of a cloud without batch dimensions.

        Args:
            index: [R, n], rows of this cloud. Any row is allowed where `mask` is False.
            mask: [R, n], default: everywhere. Vectors invalid in this cloud stay invalid.

        Returns:
            A cloud of shape [R, n]. Its centre is that of this cloud, which need not be among a receiver's vectors.
        """
        return _Selected(self, index, self.mask[index] if mask is None else self.mask[index] & mask)

    def combine(self, weights: Tensor, mask: Tensor | None = None) -> PairwiseDistances:
        """Return the cloud of the m affine combinations P x, with the same centre.

        Args:
            weights: P [..., m, n], zero at invalid vectors. Valid rows sum to one, as only then c + P y = P x.
            mask: [..., m], default: everywhere. Rows of P that are not valid are zero.

        Returns:
            A cloud of shape [..., m].
        """
        if mask is None:
            mask = weights.new_ones(weights.shape[:-1], dtype=torch.bool)
        return _Combined(self, weights, mask)

    @cached_property
    def _invalid_pairs(self) -> npt.NDArray[np.bool_] | None:
        """Return the pairs of which at least one vector is invalid, or None if all are valid, as is usual."""
        mask = to_array(self.mask)
        return None if mask.all() else ~(mask[..., :, None] & mask[..., None, :])

    def _zero_invalid(self, pair_values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Set the values of invalid pairs to zero, in place."""
        if self._invalid_pairs is not None:
            pair_values[self._invalid_pairs] = 0
        return pair_values

    def _symmetrized(self, product: Tensor) -> Tensor:
        """Return a symmetric Gram matrix: a matrix product may round (i, j) and (j, i) differently."""
        gram = to_array(product)
        gram = gram + gram.swapaxes(-1, -2)
        gram *= 0.5
        return to_tensor(self._zero_invalid(gram), product)


@dataclass(frozen=True, eq=False)
class _Small(PairwiseDistances):
    """A cloud that is computed by NumPy."""

    x: Tensor
    mask: Tensor
    origin: Tensor | None = None

    @cached_property
    def norms(self) -> Tensor:
        return to_tensor(np.sqrt(np.where(to_array(self.mask), self._rows[1], 0)), self.mask)

    @cached_property
    def centre(self) -> Tensor:
        if self.origin is not None:
            return self.origin.double().square().sum()
        return to_tensor(np.asarray(self._rows[1].min(-1)), self.mask)

    @cached_property
    def gram(self) -> Tensor:
        rows, square_lengths = self._rows
        # In place, to save memory traffic: after their lengths, the rows are not read by anything else.
        if self.origin is None:
            rows -= select_rows(rows, np.asarray(square_lengths.argmin(-1)))[..., None, :]
        else:
            rows -= to_array(self.origin)
        # NumPy recognises the product of a matrix and its own transpose, so the result is exactly symmetric.
        return to_tensor(self._zero_invalid(rows @ rows.swapaxes(-1, -2)), self.mask)

    @cached_property
    def _rows(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return the vectors, and ||x_i||^2; infinity at invalid vectors."""
        rows = to_array(self.x).astype(np.float64)
        square_lengths = np.vecdot(rows, rows)
        return rows, square_lengths if self._invalid_pairs is None else np.where(
            to_array(self.mask), square_lengths, np.inf
        )


@dataclass(frozen=True, eq=False)
class _Large(PairwiseDistances):
    """A cloud that is computed by torch, in blocks of coordinates."""

    x: Tensor
    mask: Tensor
    origin: Tensor | None = None

    @cached_property
    def norms(self) -> Tensor:
        return norms_from(self.x).masked_fill_(~self.mask, 0)

    @property
    def gram(self) -> Tensor:
        return self._centred[0]

    @cached_property
    def centre(self) -> Tensor:
        if self.origin is not None:
            return self.origin.double().square().sum()
        return torch.cat(self._centred[1], -1).square().sum(-1)

    @cached_property
    def _centred(self) -> tuple[Tensor, list[Tensor]]:
        """Return the Gram matrix, and the length of the centre in each block, [..., 1], unless it was given."""
        products, centre_lengths = None, []
        parts = coordinate_blocks(self.x)
        origins = [None] * len(parts) if self.origin is None else coordinate_blocks(self.origin)
        for part, origin in zip(parts, origins, strict=True):
            rows = part.to(torch.float64, copy=True)
            if origin is not None:
                rows -= origin
            else:
                row_lengths = torch.linalg.vector_norm(rows, dim=-1)
                if self._invalid_pairs is not None:
                    row_lengths.masked_fill_(~self.mask, torch.inf)
                least_length, shortest = row_lengths.min(-1, keepdim=True)
                rows -= rows.gather(-2, shortest.unsqueeze(-1).expand(*shortest.shape, rows.shape[-1]))
                centre_lengths.append(least_length)
            products = rows @ rows.mT if products is None else products.add_(rows @ rows.mT)
        assert products is not None
        return self._symmetrized(products), centre_lengths


@dataclass(frozen=True, eq=False)
class _Selected(PairwiseDistances):
    """Sub-clouds of another cloud."""

    source: PairwiseDistances
    index: Tensor
    mask: Tensor

    @cached_property
    def norms(self) -> Tensor:
        return self.source.norms[self.index] * self.mask

    @cached_property
    def centre(self) -> Tensor:
        return self.source.centre.expand(self.index.shape[:-1])

    @cached_property
    def gram(self) -> Tensor:
        return self._pairs_of(self.source.gram)

    @cached_property
    def squared_distances(self) -> Tensor:
        return self._pairs_of(self.source.squared_distances)

    @cached_property
    def distances(self) -> Tensor:
        return self._pairs_of(self.source.distances)

    def _pairs_of(self, matrix: Tensor) -> Tensor:
        """Return the entries of the source's matrix for all pairs of each set."""
        entries = to_array(self.index)
        return to_tensor(self._zero_invalid(to_array(matrix)[entries[..., :, None], entries[..., None, :]]), matrix)


@dataclass(frozen=True, eq=False)
class _Combined(PairwiseDistances):
    """Affine combinations of the vectors of another cloud."""

    source: PairwiseDistances
    weights: Tensor
    mask: Tensor

    @cached_property
    def norms(self) -> Tensor:
        # ||c + P y||^2, with <y_i, c> from the lengths of x_i, y_i and c.
        square_lengths, centre = self.source.gram.diagonal(dim1=-2, dim2=-1), self.centre.unsqueeze(-1)
        centre_products = (self.source.norms.square() - square_lengths - centre) * self.source.mask
        squares = (
            self.gram.diagonal(dim1=-2, dim2=-1) + (self.weights @ centre_products.unsqueeze(-1)).squeeze(-1) + centre
        )
        return squares.clamp_min(0).sqrt() * self.mask

    @cached_property
    def centre(self) -> Tensor:
        return self.source.centre

    @cached_property
    def gram(self) -> Tensor:
        gram = self.source.gram
        if is_small(gram):
            weights = to_array(self.weights)
            return self._symmetrized(to_tensor(weights @ to_array(gram) @ weights.swapaxes(-1, -2), gram))
        return self._symmetrized(self.weights @ gram @ self.weights.mT)

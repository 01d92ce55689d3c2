"""What is measured at every step, kept on the device until it is fetched."""

from collections.abc import Sequence

import torch
from torch import Tensor

from .run import AVERAGE_DECAY, QUANTITIES


class WeightProbe:
    """Norms and products of weights, gradients and updates, for each weight at each step.

    Works with any model and optimiser: call `before_step` once the gradients are there and
    `after_step` once the optimiser has stepped. Nothing is copied to the host until `fetch`, for which
    there is room for ``steps`` steps. Sums are in float32, also of parameters in half precision.

    >>> probe = WeightProbe([w], steps=1)
    >>> loss.backward(); probe.before_step(); optimizer.step(); probe.after_step()
    >>> probe.fetch().shape  # steps, weights, quantities
    (1, 1, 6)

    With ``by_filter`` it also sums the same for each output filter, the rows of each weight of four dimensions.

    Raises TypeError for weights that are no list, ValueError for none at all or the same one twice.
    """

    def __init__(self, weights: list[Tensor], steps: int, by_filter: bool = False):
        if isinstance(weights, Tensor | dict):
            raise TypeError(
                f"weights is a {type(weights).__name__}; it must be a list: [w], list(d.values())"
            )
        self.weights = list(weights)
        if not self.weights or len({id(w) for w in self.weights}) < len(self.weights):
            raise ValueError(
                f"{len(self.weights)} weights were given; there must be some, none of them twice"
            )
        self.old = [torch.empty_like(w) for w in self.weights]
        self.average = [torch.zeros_like(w, dtype=_wide_type(w)) for w in self.weights]
        self.rows = torch.zeros(steps, len(QUANTITIES), len(self.weights), device=self.weights[0].device)
        self.step = 0
        # places in the list of the weights whose filters are summed, and the sums
        self.filtered = [i for i, w in enumerate(self.weights) if by_filter and w.dim() == 4]
        filters = sum(len(self.weights[i]) for i in self.filtered)
        self.filter_sums = torch.zeros(len(QUANTITIES), filters, device=self.weights[0].device)
        # versions of the weights, which tell whether an optimiser has written to them
        self.before, self.after, self.moved = None, self._versions(), True

    @torch.no_grad()
    def before_step(self) -> None:
        """Measures weights and gradients; the gradients must be those of the mean loss.

        Raises RuntimeError when steps were taken that it did not see, or more than it has room for,
        ValueError when a weight has no gradient.
        """
        self._check_before()
        self.before = self._versions()  # pyrefly: ignore[bad-assignment]
        weights, grads = wide(self.weights), wide([w.grad for w in self.weights if w.grad is not None])
        norms_sq = _norms_sq(grads)
        row = self.rows[self.step]
        row[0] = _norms_sq(weights)
        row[1] = norms_sq
        row[2] = _dots(weights, grads)
        row[4] = _dots(grads, self.average)
        row[5] = _norms_sq(self.average)
        if self.filtered:
            pairs = [(weights, weights), (grads, grads), (weights, grads)]
            pairs += [(grads, self.average), (self.average, self.average)]
            for quantity, pair in zip((0, 1, 2, 4, 5), pairs, strict=True):
                self.filter_sums[quantity] += self._filter_dots(*pair)
        # a gradient that overflowed is of this step alone; the average goes on without it
        kept = zip(norms_sq.isfinite(), grads, self.average, strict=True)
        grads = [torch.where(finite, g, v) for finite, g, v in kept]
        torch._foreach_lerp_(self.average, grads, 1 - AVERAGE_DECAY)
        torch._foreach_copy_(self.old, self.weights)

    @torch.no_grad()
    def after_step(self) -> None:
        """Measures the update and moves on to the next row.

        Raises RuntimeError when `before_step` was not called before.
        """
        if self.before is None:
            raise RuntimeError("after_step() needs a before_step() before it, once for each step")
        updates = torch._foreach_sub(wide(self.weights), wide(self.old))
        self.rows[self.step, 3] = _norms_sq(updates)
        if self.filtered:
            self.filter_sums[3] += self._filter_dots(updates, updates)
        self.step += 1
        self.after = self._versions()
        self.moved, self.before = self.after != self.before, None

    def fetch(self):
        """All rows since the last call, as a NumPy array ``(steps, weights, quantities)``, float32."""
        rows = self.rows[: self.step].transpose(1, 2).cpu().numpy().copy()
        self.step = 0
        return rows

    def fetch_filters(self):
        """Sums since the last call for each filter, as a NumPy array ``(filters, quantities)``, float32."""
        sums = self.filter_sums.T.cpu().numpy().copy()
        self.filter_sums.zero_()
        return sums

    def _filter_dots(self, left: Sequence[Tensor], right: Sequence[Tensor]) -> Tensor:
        return torch.cat([(left[i] * right[i]).sum(dim=(1, 2, 3)) for i in self.filtered])

    def _check_before(self) -> None:
        if self.before is not None:
            raise RuntimeError("before_step() was called twice; after_step() must follow each")
        if not self.moved and self._versions() != self.after:
            raise RuntimeError(
                "the weights moved, but not between before_step() and after_step(); "
                "call before_step() before optimizer.step(), after_step() after it"
            )
        if self.step == len(self.rows):
            raise RuntimeError(f"there is room for {self.step} steps; call fetch(), or give more as steps=")
        for i, w in enumerate(self.weights):
            if w.grad is None:
                raise ValueError(f"weights[{i}], of shape {tuple(w.shape)}, has no gradient; leave it out")

    def _versions(self) -> list[int]:
        return [w._version for w in self.weights]


def _wide_type(tensor: Tensor) -> torch.dtype:
    return torch.float32 if tensor.dtype in (torch.float16, torch.bfloat16) else tensor.dtype


def wide(tensors: list[Tensor]) -> list[Tensor]:
    """The tensors in a type whose sums do not overflow: themselves, but for half precision."""
    return [t.to(_wide_type(t)) for t in tensors]


def _norms_sq(tensors: tuple[Tensor, ...] | list[Tensor]) -> Tensor:
    return torch.stack(torch._foreach_norm(tensors)).square()


def _dots(left: list[Tensor], right: list[Tensor]) -> Tensor:
    return torch.stack([product.sum() for product in torch._foreach_mul(left, right)])

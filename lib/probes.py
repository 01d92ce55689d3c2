"""What is measured at every step, kept on the device until it is fetched."""

import torch
from torch import Tensor

from .run import AVERAGE_DECAY, QUANTITIES


class WeightProbe:
    """Norms and products of weights, gradients and updates, for each weight at each step.

    Works with any model and optimiser: call `before_step` once the gradients are there and
    `after_step` once the optimiser has stepped. Nothing is copied to the host until `fetch`.

    >>> probe = WeightProbe([w], steps=1)
    >>> loss.backward(); probe.before_step(); optimizer.step(); probe.after_step()
    >>> probe.fetch().shape  # steps, weights, quantities
    (1, 1, 6)
    """

    def __init__(self, weights: list[Tensor], steps: int):
        self.weights = list(weights)
        self.old = [torch.empty_like(w) for w in self.weights]
        self.average = [torch.zeros_like(w) for w in self.weights]
        self.rows = torch.zeros(steps, len(QUANTITIES), len(self.weights), device=self.weights[0].device)
        self.step = 0

    @torch.no_grad()
    def before_step(self) -> None:
        """Measures weights and gradients; the gradients must be those of the mean loss."""
        grads = [w.grad for w in self.weights]
        row = self.rows[self.step]
        row[0] = _norms_sq(self.weights)
        row[1] = _norms_sq(grads)
        row[2] = _dots(self.weights, grads)
        row[4] = _dots(grads, self.average)
        row[5] = _norms_sq(self.average)
        torch._foreach_lerp_(self.average, grads, 1 - AVERAGE_DECAY)
        torch._foreach_copy_(self.old, self.weights)

    @torch.no_grad()
    def after_step(self) -> None:
        """Measures the update and moves on to the next row."""
        self.rows[self.step, 3] = _norms_sq(torch._foreach_sub(self.weights, self.old))
        self.step += 1

    def fetch(self):
        """All rows since the last call, as a NumPy array ``(steps, weights, quantities)``, float32."""
        rows = self.rows[: self.step].transpose(1, 2).cpu().numpy().copy()
        self.step = 0
        return rows


def _norms_sq(tensors: list[Tensor]) -> Tensor:
    return torch.stack(torch._foreach_norm(tensors)).square()


def _dots(left: list[Tensor], right: list[Tensor]) -> Tensor:
    return torch.stack([product.sum() for product in torch._foreach_mul(left, right)])

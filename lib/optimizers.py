"""Stochastic gradient descent as the paper writes it, with foreach kernels."""

import torch


class SGD(torch.optim.Optimizer):
    """SGD with coupled weight decay, heavy-ball or Nesterov momentum.

    With g the gradient of the loss and d = g + α w, a step is ``v ← ρ v + d``, then
    ``w ← w − λ v`` (heavy-ball) or ``w ← w − λ (d + ρ v)`` (Nesterov). The learning rate is
    outside the buffer, as in `torch.optim.SGD`, whose steps these are. Gradients are left as they
    are, so that a probe can read them afterwards.

    Raises ValueError when a setting is out of range.
    """

    def __init__(self, params, lr, momentum=0, weight_decay=0, nesterov=False):
        if not lr >= 0:
            raise ValueError(f"lr={lr!r} is not allowed; it must be at least 0")
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum={momentum!r} is not allowed; it must be at least 0 and below 1")
        if not weight_decay >= 0:
            raise ValueError(f"weight_decay={weight_decay!r} is not allowed; it must be at least 0")
        if nesterov and momentum == 0:
            raise ValueError("nesterov=True needs a momentum above 0")
        super().__init__(params, dict(lr=lr, momentum=momentum, weight_decay=weight_decay, nesterov=nesterov))

    @torch.no_grad()
    def step(self, closure=None):
        """One step on every parameter that has a gradient; returns the closure's loss, if one is given."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            weights = [w for w in group["params"] if w.grad is not None]
            if weights:
                self._step_group(weights, group)
        return loss

    def _step_group(self, weights, group):
        momentum = group["momentum"]
        grads = [w.grad for w in weights]
        direction = torch._foreach_add(grads, weights, alpha=group["weight_decay"])
        if momentum:
            for w in weights:
                if "momentum_buffer" not in self.state[w]:
                    self.state[w]["momentum_buffer"] = torch.zeros_like(w)
            buffers = [self.state[w]["momentum_buffer"] for w in weights]
            torch._foreach_mul_(buffers, momentum)
            torch._foreach_add_(buffers, direction)
            if group["nesterov"]:
                torch._foreach_add_(direction, buffers, alpha=momentum)
            else:
                direction = buffers
        torch._foreach_add_(weights, direction, alpha=-group["lr"])

"""SGD and LARS as the paper writes them, with foreach kernels."""

import math
from collections.abc import Sequence
from numbers import Real

import torch
from torch import Tensor

LARS_FORMS = ("post", "page", "you")
PAGE_EPS = 1e-2  # added to |g| in the original code


class _ForeachOptimizer(torch.optim.Optimizer):
    """A step on all weights of a group at once; gradients are left as they are, for probes to read."""

    def add_param_group(self, param_group):
        """Adds parameters with settings of their own; raises ValueError when one is out of range."""
        if isinstance(param_group, dict):  # else torch itself says what it must be
            self._check_group({**self.defaults, **param_group})
        super().add_param_group(param_group)

    def load_state_dict(self, state_dict):
        """Takes over settings and buffers; raises ValueError when the settings are not this optimiser's."""
        groups = [self._own_group(group) for group in state_dict["param_groups"]]
        for group in groups:
            if missing := sorted({*self.defaults} - {*group}):
                raise ValueError(
                    f"the state has no {', '.join(missing)}: it is not that of a {type(self).__name__}, "
                    "and was left unused"
                )
            self._check_group(group)
        super().load_state_dict({**state_dict, "param_groups": groups})

    def _own_group(self, group: dict) -> dict:
        return group

    @staticmethod
    def _check_group(group: dict) -> None:
        """Raises ValueError when a setting is out of range."""

    def _step_group(self, weights: list[Tensor], grads: list[Tensor], group: dict) -> None:
        """A step on the weights of a group that have gradients."""

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
                self._step_group(weights, [w.grad for w in weights], group)
        return loss

    def _with_momentum(self, weights, direction, momentum: float, nesterov: bool) -> list[Tensor]:
        """Adds the direction d to each weight's buffer, ``v ← ρ v + d``; v, or for Nesterov d + ρ v."""
        if not momentum:
            return direction
        for w in weights:
            if self.state[w].get("momentum_buffer") is None:
                self.state[w]["momentum_buffer"] = torch.zeros_like(w)
        buffers = [self.state[w]["momentum_buffer"] for w in weights]
        torch._foreach_mul_(buffers, momentum)
        torch._foreach_add_(buffers, direction)
        return [*torch._foreach_add(direction, buffers, alpha=momentum)] if nesterov else buffers

    def _running_rms(self, weights, norms: Sequence[Tensor], decay: float) -> list[Tensor]:
        """Root mean square of each gradient's norm so far, with weights that fall by ``decay`` a step."""
        for w in weights:
            if "running" not in self.state[w]:  # sums of the squares and of their weights
                self.state[w]["running"] = torch.zeros(2, dtype=w.dtype, device=w.device)
        running = [self.state[w]["running"] for w in weights]
        now = [torch.stack([norm.square(), torch.ones_like(norm)]) for norm in norms]
        torch._foreach_lerp_(running, now, 1 - decay)
        return [(square / weight).sqrt() for square, weight in running]


class SGD(_ForeachOptimizer):
    """SGD with heavy-ball or Nesterov momentum, and coupled or decoupled weight decay.

    With g the gradient of the loss and d = g + α w, a step is ``v ← ρ v + d``, then
    ``w ← w − λ v`` (heavy-ball) or ``w ← w − λ (d + ρ v)`` (Nesterov). The learning rate is
    outside the buffer, as in `torch.optim.SGD`, whose steps these are. With ``decoupled`` decay,
    d = g and w is multiplied by 1 − λα instead, before the step (Loshchilov & Hutter's SGDW).
    It loads the state of a `torch.optim.SGD` and goes on from there.

    Raises ValueError when a setting is out of range, of a group or of a state that is loaded too.
    """

    def __init__(
        self,
        params,
        lr: float,
        momentum: float = 0,
        weight_decay: float = 0,
        nesterov: bool = False,
        *,
        decoupled: bool = False,
    ):
        super().__init__(
            params,
            dict(lr=lr, momentum=momentum, weight_decay=weight_decay, nesterov=nesterov, decoupled=decoupled),
        )

    def _own_group(self, group: dict) -> dict:
        """The settings of a `torch.optim.SGD` as ours, which are always coupled and never dampened."""
        for name in ("dampening", "maximize"):
            if group.get(name):
                raise ValueError(
                    f"the state has {name}={group[name]!r}, which this SGD does not know; it was left unused"
                )
        return {"decoupled": False, **group}

    @staticmethod
    def _check_group(group: dict) -> None:
        _check_numbers(group)
        if group["nesterov"] and group["momentum"] == 0:
            raise ValueError("nesterov=True needs a momentum above 0")

    def _step_group(self, weights, grads, group):
        lr, weight_decay = group["lr"], group["weight_decay"]
        if group["decoupled"]:
            torch._foreach_mul_(weights, 1 - lr * weight_decay)
            weight_decay = 0
        direction = torch._foreach_add(grads, weights, alpha=weight_decay)
        direction = self._with_momentum(weights, direction, group["momentum"], group["nesterov"])
        torch._foreach_add_(weights, direction, alpha=-lr)


class ClippedSGD(SGD):
    """SGD whose gradient is shortened, for each weight by itself, where it is long for that weight.

    To ``clip`` times the running rms of its norm |g|, in which a step counts ``decay`` as much as the next and
    this one is included. All else is as in `SGD`.

    Raises ValueError when a setting is out of range.
    """

    def __init__(
        self, params, lr: float, momentum: float = 0, weight_decay: float = 0, *, clip: float, decay: float
    ):
        super().__init__(params, lr, momentum, weight_decay)
        _require(0 < clip < math.inf, "clip", clip, "a finite number above 0")
        _require(0 <= decay < 1, "decay", decay, "at least 0 and below 1")
        self.clip, self.decay = clip, decay

    def _step_group(self, weights, grads, group):
        norms = torch._foreach_norm(grads)
        longest = torch._foreach_mul(self._running_rms(weights, norms, self.decay), self.clip)
        # a gradient of zero stays: 1, not 0/0
        factors = [
            torch.where(norm > most, most / norm, 1.0) for norm, most in zip(norms, longest, strict=True)
        ]
        super()._step_group(weights, [*torch._foreach_mul(grads, factors)], group)


class LARS(_ForeachOptimizer):
    """Layer-wise adaptive rate scaling: each layer's step in proportion to its weights.

    Three published forms, chosen by ``form``; λ is ``lr``, ρ ``momentum``, α ``weight_decay``:

    - ``"post"``, equation (4) with momentum: ``v ← ρ v + (|w|/|g|) g``, ``w ← w − λ v``, norms over
      a whole layer, no decay.
    - ``"page"``, the original code of that post: with r = |w|/(|g| + 0.01), norms over each output
      filter, ``d = λ r (g + α w)``, ``v ← ρ v + d``, ``w ← w − (d + ρ v)`` (Nesterov). Decay is
      scaled as the gradient is.
    - ``"you"``, You et al. 2017: ``v ← ρ v + λ η |w|/(|g| + α|w|) (g + α w)``, ``w ← w − v``, with
      η = ``trust``, norms over a whole layer.

    The last two have λ inside the buffer; that differs from the first whenever λ changes. Where
    |w| or |g| is zero there is nothing to scale, and the ratio is 1. With ``smoothing``, which only the form
    ``"post"`` has, |g| is its running rms, in which a step counts so many times as much as the next.

    Raises ValueError when a setting is out of range, or not one of the form's, of a group or of a state
    that is loaded too.
    """

    def __init__(
        self,
        params,
        lr: float,
        momentum: float = 0,
        weight_decay: float = 0,
        *,
        form: str = "post",
        trust: float = 0.001,
        smoothing: float = 0.0,
    ):
        super().__init__(
            params,
            dict(
                lr=lr,
                momentum=momentum,
                weight_decay=weight_decay,
                form=form,
                trust=trust,
                smoothing=smoothing,
            ),
        )

    def _own_group(self, group: dict) -> dict:
        """The settings of a state from before norms could be smoothed: they were not."""
        return {"smoothing": 0.0, **group}

    @staticmethod
    def _check_group(group: dict) -> None:
        _check_numbers(group)
        form, weight_decay, trust = group["form"], group["weight_decay"], group["trust"]
        if form not in LARS_FORMS:
            raise ValueError(f"form={form!r} is not known; it must be one of {', '.join(LARS_FORMS)}")
        if form == "post" and weight_decay:
            raise ValueError(
                f"weight_decay={weight_decay!r} is not allowed: LARS of the form 'post' has none"
            )
        _require(_is_number(trust) and 0 < trust < math.inf, "trust", trust, "a finite number above 0")
        smoothing, most = group["smoothing"], 1 if form == "post" else 0
        allowed = "at least 0 and below 1, and 0 unless form='post'"
        _require(
            _is_number(smoothing) and (smoothing == 0 or 0 < smoothing < most),
            "smoothing",
            smoothing,
            allowed,
        )

    def _step_group(self, weights, grads, group):
        form, weight_decay = group["form"], group["weight_decay"]
        direction = torch._foreach_add(grads, weights, alpha=weight_decay)
        torch._foreach_mul_(direction, self._ratios(weights, grads, form, weight_decay, group))
        lr_inside = form != "post"
        if lr_inside:
            torch._foreach_mul_(direction, group["lr"])
        direction = self._with_momentum(weights, direction, group["momentum"], nesterov=form == "page")
        torch._foreach_add_(weights, direction, alpha=-1.0 if lr_inside else -group["lr"])

    def _ratios(self, weights, grads, form: str, weight_decay: float, group: dict) -> list[Tensor]:
        """What each form multiplies the gradient with: a number a layer, or one for each output filter."""
        if form == "page":
            w_norms, g_norms = _filter_norms(weights), _filter_norms(grads)
            ratios = torch._foreach_div(w_norms, torch._foreach_add(g_norms, PAGE_EPS))
        else:
            w_norms, g_norms = torch._foreach_norm(weights), torch._foreach_norm(grads)
            if form == "you":
                both = torch._foreach_add(g_norms, w_norms, alpha=weight_decay)
                ratios = torch._foreach_mul(torch._foreach_div(w_norms, both), group["trust"])
            else:
                if group["smoothing"]:
                    g_norms = self._running_rms(weights, g_norms, group["smoothing"])
                ratios = torch._foreach_div(w_norms, g_norms)
        # torch.where, not a branch: a branch would wait for the device
        nothing = [(w == 0) | (g == 0) for w, g in zip(w_norms, g_norms, strict=True)]
        return [torch.where(zero, 1.0, ratio) for zero, ratio in zip(nothing, ratios, strict=True)]


def _filter_norms(tensors: list[Tensor]) -> list[Tensor]:
    """Norms over all but the first dimension, kept for broadcasting; of a vector, its one norm."""
    return [torch.linalg.vector_norm(t, dim=tuple(range(1, t.dim())) or None, keepdim=True) for t in tensors]


def _check_numbers(group: dict) -> None:
    for name, below, allowed in (
        ("lr", math.inf, "a finite number from 0 up"),
        ("momentum", 1, "at least 0 and below 1"),
        ("weight_decay", math.inf, "a finite number from 0 up"),
    ):
        _require(_is_number(group[name]) and 0 <= group[name] < below, name, group[name], allowed)


def _require(good: bool, name: str, value, allowed: str) -> None:
    if not good:
        raise ValueError(f"{name}={value!r} is not allowed; it must be {allowed}")


def _is_number(value) -> bool:
    return isinstance(value, Real) or (isinstance(value, Tensor) and value.numel() == 1)

"""Is your network in equilibrium? What each parameter does while any PyTorch optimiser trains it.

`watch` hooks the optimiser: the training loop stays as it is. At every `every`-th step it measures, on the
device, how long each weight and its gradient are, by which angle the weight turns, and what
`lib.laws` predicts at the settings of that very step. Sums over stretches of the training are kept.
"""

import math
import os
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from . import invariance, laws, stretches
from .invariance import Finding
from .machinery import files
from .probes import wide
from .stretches import COLUMNS

#: Columns of `Watch.table`.
TABLE = (
    "invariant", "why", "cos", "R", "R_error", "rotation", "rotation_over_predicted", "relaxation_steps",
    "verdict",
)  # fmt: skip

BLOCKS = 10  # of the second half of a training; their scatter gives the error of R
ORTHOGONAL = 2e-3  # root mean square cosine below which a parameter is taken for scale-invariant untested
TOLERANCE = 0.1  # how far from 1 R may be in equilibrium


def watch(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    loss: Callable[[], Tensor] | None = None,
    *,
    every: int = 1,
    correlation: bool = True,
    slices: Mapping[str, Sequence[slice]] | None = None,
) -> "Watch":
    """Watches the parameters of ``model`` that ``optimizer`` trains, from now until `Watch.close`.

    ``loss`` computes the loss of one fixed batch with the model in training mode; it is called a few
    times now, to find the scale-invariant parameters, and leaves no trace. Without it they are those
    whose gradients turn out orthogonal to them. ``every`` thins the measurement. ``correlation=False``
    saves the memory of one copy of the weights, and leaves predictions uncorrected for gradients
    that repeat earlier ones. ``slices`` as in `lib.invariance.scale_invariant`.

    Raises ValueError when ``every`` is below 1 or the optimiser has no parameter of the model, and what
    `lib.invariance.scale_invariant` raises.
    """
    if every < 1:
        raise ValueError(f"every={every!r} is not allowed; it must be a whole number from 1 up")
    inner = getattr(optimizer, "optimizer", None)
    while isinstance(inner, torch.optim.Optimizer):  # a library's wrapper
        optimizer, inner = inner, getattr(inner, "optimizer", None)
    return Watch(model, optimizer, loss, every, correlation, slices or {})


class Watch:
    """What `watch` returns; a context manager that closes itself."""

    def __init__(self, model, optimizer, loss, every, correlation, slices):
        self.model, self.optimizer = invariance.unwrapped(model), optimizer
        self.every, self.correlation = every, correlation
        self.parameters = dict(self.model.named_parameters())
        self.units = invariance.units(self.parameters, slices)
        trained = {id(p) for group in optimizer.param_groups for p in group["params"]}
        if not any(id(p) in trained for p in self.parameters.values()):
            raise ValueError("the optimizer has no parameter of the model; give the model that it trains")
        self.found = invariance.examine(model, loss, slices) if loss else {}
        self.steps = 0
        self.device = next(p.device for p in self.parameters.values() if id(p) in trained)
        self.stretches = stretches.Stretches(list(self.units), self.device)
        self.sums, self.laws, self.old = {}, {}, {}
        self.coefficients, self.on_device = [], torch.empty(0)
        # the last, after all that can fail: no error leaves a hook behind
        self.hooks = [
            optimizer.register_step_pre_hook(self._before),
            optimizer.register_step_post_hook(self._after),
        ]

    def close(self) -> None:
        """Takes the hooks off the optimiser; what was measured stays."""
        for hook in self.hooks:
            hook.remove()
        self.hooks, self.old = [], {}

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()

    @torch.no_grad()
    def _before(self, optimizer, args, kwargs) -> None:
        if self.steps % self.every == 0:
            members = {id(p) for group in optimizer.param_groups for p in group["params"]}
            self.old = {
                label: self.parameters[name][index].clone()
                for label, (name, index) in self.units.items()
                if id(self.parameters[name]) in members and self.parameters[name].requires_grad
            }

    @torch.no_grad()
    def _after(self, optimizer, args, kwargs) -> None:
        # after the step, since a closure has made the gradients only now
        try:
            used = self._used()
            if measured := {label: used[label] for label in used if label in self.old}:
                self._measure(measured)
            if self.correlation:
                self._sum_gradients(used)
        except BaseException:
            self.close()
            raise
        self.old = {}
        self.steps += 1

    def _used(self) -> dict:
        """Of each parameter with a gradient its group, itself and the gradient."""
        groups = {id(p): group for group in self.optimizer.param_groups for p in group["params"]}
        used = {}
        for label, (name, index) in self.units.items():
            p = self.parameters[name]
            if id(p) not in groups or p.grad is None:
                continue
            if p.grad.is_sparse:
                raise ValueError(f"the gradient of {name} is sparse, which cannot be watched")
            used[label] = groups[id(p)], p.detach()[index], p.grad[index]
        return used

    def _measure(self, used) -> None:
        rows, coefficients = [], []
        for label, (group, new, grad) in used.items():
            old, new, grad = wide([self.old[label], new, grad])
            update = new - old
            pairs = ((old, old), (grad, grad), (old, grad), (update, update), (old, update))
            dots = [torch.dot(a.reshape(-1), b.reshape(-1)) for a, b in pairs]
            dots.append(self._dot_sum(label, grad))
            rows.append(torch.stack([dot.to(self.device, torch.float32) for dot in dots]))
            self.laws[label] = law = laws.law(self.optimizer, group)
            coefficients.append((old.numel(), *(law or laws.Law())[: laws.COEFFICIENTS]))
        if coefficients != self.coefficients:  # settings that stay are not copied again
            self.coefficients = coefficients
            self.on_device = torch.tensor(coefficients, dtype=torch.float32, device=self.device).T
        self.stretches.add(self.steps, list(used), stretches.row(torch.stack(rows).T, self.on_device))

    def _dot_sum(self, label, grad) -> Tensor:
        """g·v; v starts anew if a gradient overflowed since it was last asked for."""
        if label not in self.sums:
            return torch.zeros((), device=grad.device)
        past = self.sums[label]
        dot = torch.dot(grad.reshape(-1), past.reshape(-1))
        past.mul_(dot.isfinite()).nan_to_num_(0.0)
        return dot

    def _sum_gradients(self, used) -> None:
        for label, (group, _, grad) in used.items():
            rho = laws.momentum(group)
            if not rho:
                continue
            (grad,) = wide([grad])
            if label in self.sums:
                torch.add(grad, self.sums[label], alpha=rho, out=self.sums[label])
            else:
                self.sums[label] = grad.clone()

    def table(self) -> pd.DataFrame:
        """One row a parameter, from the second half of what was watched.

        ``invariant`` and ``why``; ``cos`` of weight and gradient, root mean square; ``R``, the quotient of
        the measured λ|g|/|w| and that of equilibrium, or for Adam and Lion the equilibrium's length over the
        measured one, with its standard error ``R_error``; ``rotation`` in radians a step, and over its
        prediction; ``relaxation_steps``; ``verdict``. NaN where nothing is measured or predicted.
        """
        starts, sums = self.stretches.fetch()
        half = sums[starts >= self.steps / 2] if len(starts) > 1 else sums
        rows = {label: self._row_of(label, half[:, i], sums[:, i]) for i, label in enumerate(self.units)}
        table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("parameter")
        return table.astype({"invariant": bool})

    def _row_of(self, label, window, whole) -> dict:
        law = self.laws.get(label)
        numbers = stretches.numbers(window.sum(axis=0), law)
        finding = self._finding(label, numbers["cos"])
        row = {"invariant": finding.invariant, "why": finding.why, **numbers}
        parts = np.array([part.sum(axis=0) for part in np.array_split(window, BLOCKS) if len(part)])
        row["R_error"] = stretches.standard_error(parts, law) if len(parts) == BLOCKS else math.nan
        row["verdict"] = self._verdict(row, dict(zip(COLUMNS, whole.sum(axis=0), strict=True)), law)
        return {name: row[name] for name in TABLE}

    def _finding(self, label, cos) -> Finding:
        parameter = self.parameters[self.units[label][0]]
        found = self.found.get(label)
        if not parameter.requires_grad:
            return Finding(False, "frozen")
        if found and found.why != "frozen":
            return found
        if math.isnan(cos):
            return Finding(False, "no step was seen")
        orthogonal = cos < ORTHOGONAL
        seen = f"gradients were {'' if orthogonal else 'not '}orthogonal to it; rescaling was not tried"
        return Finding(orthogonal, seen)

    def _verdict(self, row, whole, law) -> str:
        if row["why"] == "frozen":
            return "frozen"
        if not whole["samples"]:
            return "no step was seen"
        if not row["invariant"]:
            return "not scale-invariant"
        if law is None:
            return f"no prediction for {type(self.optimizer).__name__}"
        if not whole["shrinkage"]:
            return "no weight decay: it grows"
        steps, R, error = row["relaxation_steps"], row["R"], row["R_error"]
        if self.steps * whole["relaxation"] / whole["samples"] < 0.5:
            return f"decay too small to matter in this run: {self.steps} of {steps:.0f} steps"
        if not error < 0.25:
            return "too few steps to tell"
        if abs(R - 1) <= TOLERANCE + 2 * error:
            return "in equilibrium"
        more = max(1, steps * math.log(abs(R**-2 - 1) / TOLERANCE))
        return f"{'still growing' if R > 1 else 'shrinking'}, {more:.0f} more steps"

    def scalars(self) -> dict[str, float]:
        """Of each scale-invariant parameter R, the rotation over its prediction, and cos, of late.

        For a logger: keys are ``R/name``, ``rotation_over_predicted/name`` and ``cos/name``; NaN is left out.
        """
        _, sums = self.stretches.fetch()
        recent = sums[-max(1, len(sums) // 8) :].sum(axis=0)
        scalars = {}
        for label, total in zip(self.units, recent, strict=True):
            numbers = stretches.numbers(total, self.laws.get(label))
            if self._finding(label, numbers["cos"]).invariant:
                kept = ("R", "rotation_over_predicted", "cos")
                scalars |= {f"{q}/{label}": numbers[q] for q in kept if math.isfinite(numbers[q])}
        return scalars

    def plot(self):
        """R and the rotation over its prediction against the step, as a matplotlib figure.

        Every scale-invariant parameter is a line, at 1 if they agree; of more than ten the median stands out.
        """
        import matplotlib.pyplot as plt

        figure, panels = plt.subplots(1, 2, figsize=(9, 3.4), sharex=True, layout="constrained")
        plt.close(figure)  # else pyplot would show it a second time
        few = (invariant := self.table()["invariant"]).sum() <= 10
        for axes, quantity in zip(panels, ("R", "rotation_over_predicted"), strict=True):
            lines = self.stretches.over_time(quantity, self.laws)[invariant.index[invariant]]
            for label, line in lines.items():
                axes.plot(line, label=label, **({"lw": 1} if few else {"lw": 0.4, "color": "0.6"}))
            if not few:
                axes.plot(lines.median(axis=1), lw=2, label="median")
            axes.axhline(1, color="black", lw=1)
            axes.set(xlabel="step", ylabel=quantity.replace("_over_", " / "))
            axes.set_yscale("log", base=2)
            axes.yaxis.set_major_formatter("{x:g}")
        if few and invariant.any():
            figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right upper", fontsize="small")
        return figure

    def save(self, path: str | os.PathLike) -> None:
        """Writes a Parquet file, whole or not at all: a row for each stretch of training and parameter.

        Its columns are ``parameter``, the ``step`` at which the stretch starts, the sums of
        `lib.stretches.COLUMNS`, and ``invariant`` and ``why``.
        """
        findings = self.table()[["invariant", "why"]]
        table = self.stretches.history().merge(findings, left_on="parameter", right_index=True)
        with files.whole(path) as file:
            table.to_parquet(file, index=False)

    def state_dict(self) -> dict:
        """All that was measured, as tensors, numbers and names, to be saved with the training."""
        return {
            "found": {label: list(finding) for label, finding in self.found.items()},
            "steps": self.steps,
            "stretches": self.stretches.state_dict(),
            "laws": {label: law and tuple(law) for label, law in self.laws.items()},
            "sums": {label: v.clone() for label, v in self.sums.items()},
        }

    def load_state_dict(self, state: dict) -> None:
        """Goes on from what `state_dict` gave.

        Raises ValueError when it is of other parameters.
        """
        self.stretches.load_state_dict(state["stretches"])
        self.found = {label: Finding(*finding) for label, finding in state["found"].items()}
        self.laws = {label: law and laws.Law(*law) for label, law in state["laws"].items()}
        self.steps = state["steps"]
        device = {label: self.parameters[name].device for label, (name, _) in self.units.items()}
        self.sums = {label: v.to(device[label], copy=True) for label, v in state["sums"].items()}

"""What is measured of a training, as sums over stretches of it whose number stays bounded."""

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from . import laws

#: Sums over a stretch of training, for each parameter.
COLUMNS = (
    "samples",  # steps that were measured and finite; what follows is summed over them
    "weight_norm_sq",  # |w|², before the step
    "grad_norm_sq",  # |g|², g as the optimiser uses it
    "cos_sq",  # squared cosine of w and g
    "turn_sq",  # squared angle between w before and after the step
    "radial",  # by how much of its length w becomes longer along itself
    "growth",  # what the step adds to |w|², in the unit of `lib.laws`
    "shrinkage",  # what decay takes from it
    "predicted_turn_sq",
    "relaxation",  # rate, per step
    "grad_dot_sum",  # g·v, v = Σ ρ^k g_{t−1−k}
)


#: What `numbers` makes of the sums.
NUMBERS = ("cos", "R", "rotation", "rotation_over_predicted", "relaxation_steps")

MOST = 128  # stretches; then pairs become one, twice as long


class Stretches:
    """Sums of `COLUMNS` for each of ``labels`` over stretches of training, on a device."""

    def __init__(self, labels: list[str], device: torch.device):
        self.labels, self.device = labels, device
        self.places = {label: i for i, label in enumerate(labels)}
        self.length, self.kept = 1, []  # steps of a whole stretch, and all of them

    def add(self, step: int, labels: list[str], values: Tensor) -> None:
        """Adds what `row` gave for some of the labels."""
        if not self.kept or self.kept[-1]["count"] == self.length:
            if len(self.kept) == MOST:
                self._join_pairs()
            sums = torch.zeros(len(COLUMNS), len(self.labels), device=self.device)
            self.kept.append({"start": step, "count": 0, "sums": sums})
        index = torch.tensor([self.places[label] for label in labels], device=self.device)
        self.kept[-1]["sums"].index_add_(1, index, values)
        self.kept[-1]["count"] += 1

    def _join_pairs(self) -> None:
        pairs = zip(self.kept[::2], self.kept[1::2], strict=True)
        self.kept = [
            {"start": a["start"], "count": a["count"] + b["count"], "sums": a["sums"] + b["sums"]}
            for a, b in pairs
        ]
        self.length *= 2

    def fetch(self) -> tuple[np.ndarray, np.ndarray]:
        """The step at which each stretch starts, and its sums, ``(stretches, labels, columns)``, float64."""
        starts = np.array([stretch["start"] for stretch in self.kept], dtype=int)
        if not self.kept:
            return starts, np.empty((0, len(self.labels), len(COLUMNS)))
        sums = torch.stack([stretch["sums"] for stretch in self.kept]).cpu().numpy()
        return starts, sums.transpose(0, 2, 1).astype(float)

    def history(self) -> pd.DataFrame:
        """The same as a table: ``parameter``, ``step`` and `COLUMNS`, a row for each stretch and label."""
        starts, sums = self.fetch()
        table = pd.DataFrame(sums.reshape(-1, len(COLUMNS)), columns=list(COLUMNS))
        table.insert(0, "parameter", self.labels * len(starts))
        table.insert(1, "step", np.repeat(starts, len(self.labels)))
        return table

    def over_time(self, quantity: str, by_label: Mapping[str, laws.Law | None]) -> pd.DataFrame:
        """One of `NUMBERS` by the law of each label: a row for each stretch, a column for each label."""
        starts, sums = self.fetch()
        found = [
            [numbers(sums[k, i], by_label.get(label))[quantity] for i, label in enumerate(self.labels)]
            for k in range(len(starts))
        ]
        return pd.DataFrame(found, index=starts, columns=self.labels)

    def state_dict(self) -> dict:
        """All of it as tensors, numbers and names."""
        kept = [{**stretch, "sums": stretch["sums"].clone()} for stretch in self.kept]
        return {"labels": self.labels, "length": self.length, "kept": kept}

    def load_state_dict(self, state: dict) -> None:
        """Takes over what `state_dict` gave; raises ValueError when it is of other labels."""
        if state["labels"] != self.labels:
            other = sorted(set(state["labels"]) ^ set(self.labels)) or ["their order"]
            raise ValueError(f"the state is of other parameters: {', '.join(other[:5])} differ")
        self.length = state["length"]
        self.kept = [{**s, "sums": s["sums"].to(self.device, copy=True)} for s in state["kept"]]


def row(measured: Tensor, coefficients: Tensor) -> Tensor:
    """`COLUMNS` of one step, ``(columns, parameters)``; 0, also samples, where a number is not finite."""
    w_sq, g_sq, w_dot_g, update_sq, w_dot_update, g_dot_sum = measured
    d, grad, size, weight, decay, decay_adam, decay_lars, turn, turn_adam, rate, rate_adam = coefficients
    w, g = w_sq.sqrt(), g_sq.sqrt()
    radial = w_dot_update / w_sq
    # from the update itself: of angles this small the cosine has lost its digits
    across = (update_sq - w_dot_update * radial).clamp(min=0).sqrt()
    steepness = d.sqrt() / g
    values = torch.stack(
        [
            torch.ones_like(w),
            w_sq,
            g_sq,
            w_dot_g.square() / (w_sq * g_sq),
            torch.atan2(across, w * (1 + radial)).square(),
            radial,
            grad * g_sq + size * d + weight * w_sq,
            (decay + decay_adam * steepness + decay_lars * w / g) * w_sq,
            turn + turn_adam * steepness,
            rate + rate_adam * steepness,
            g_dot_sum,
        ]
    )
    return torch.where(values.isfinite().all(dim=0), values, 0.0)


def numbers(total: np.ndarray, law: laws.Law | None) -> dict[str, float]:
    """`NUMBERS` from sums over some steps; NaN where nothing is measured or predicted."""
    sums = dict(zip(COLUMNS, map(float, total), strict=True))
    n, found = sums["samples"], {name: math.nan for name in NUMBERS}
    if not n:
        return found
    found["cos"], found["rotation"] = (math.sqrt(sums[q] / n) for q in ("cos_sq", "turn_sq"))
    if law is None:
        return found
    ratio, turn = laws.corrections(law, sums["grad_dot_sum"] / sums["grad_norm_sq"])
    if sums["shrinkage"] > 0:
        found["R"] = float(math.sqrt(sums["growth"] / sums["shrinkage"]) / ratio)
    if sums["predicted_turn_sq"] > 0:
        angle = found["rotation"] / math.sqrt(sums["predicted_turn_sq"] / n)
        found["rotation_over_predicted"] = float(angle / turn)
    found["relaxation_steps"] = n / sums["relaxation"] if sums["relaxation"] else math.inf
    return found


def standard_error(parts: np.ndarray, law) -> float:
    """Standard error of R from blocks of steps, each left out in turn."""
    left_out = np.array([numbers(parts.sum(axis=0) - part, law)["R"] for part in parts])
    return float(np.sqrt((len(parts) - 1) * left_out.var()))

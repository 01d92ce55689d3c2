"""What is predicted for the weights of a parameter group, from the settings of its optimiser.

The formulas are those of `lib.theory`. Here they are brought into one form for all optimisers: what a step
adds to |w|², what decay takes from it, the angle by which w turns, and how quickly both come to balance.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch

from . import theory


class Law(NamedTuple):
    """Coefficients of a prediction, for a scale-invariant weight w of d numbers with a gradient g.

    With s = √d/|g| a step lengthens |w|² by ``grad·|g|² + size·d + weight·|w|²`` and decay shortens it by
    ``(decay + decay_adam·s + decay_lars·|w|/|g|)·|w|²``, both in one unit of no importance: only their
    quotient R² is used. At balance w turns by √(``turn + turn_adam·s``) radians in each step. A deviation
    of 1/R² from 1 falls to 1/e in 1/(``rate + rate_adam·s``) steps.

    ``kind`` is what correlated gradients change: ``"sgd"``, ``"lars"``, or nothing; ``settings`` are those
    that `corrections` needs for it.
    """

    grad: float = 0.0
    size: float = 0.0
    weight: float = 0.0
    decay: float = 0.0
    decay_adam: float = 0.0
    decay_lars: float = 0.0
    turn: float = 0.0
    turn_adam: float = 0.0
    rate: float = 0.0
    rate_adam: float = 0.0
    kind: str = ""
    settings: tuple = ()


COEFFICIENTS = Law._fields.index("kind")  # how many fields are numbers


def law(optimizer: torch.optim.Optimizer, group: Mapping) -> Law | None:
    """The law of a parameter group at its present settings; None where none is known.

    Known are SGD in all its forms, SGDW, Adam, AdamW, Lion and the LARS of `lib.optimizers`, by the name of
    the class or of one that it inherits its ``step`` from. Raises ValueError when settings have no
    equilibrium, such as lr × weight_decay above 2.
    """
    for cls in type(optimizer).__mro__:
        if cls.__name__ in _LAWS:
            settings = {name: _plain(value) for name, value in group.items() if name in _SETTINGS}
            return _of_class(cls.__name__, tuple(sorted(settings.items())))
        if "step" in vars(cls):  # what it does is its own
            break
    return None


def corrections(law: Law, overlap):
    """Factors on the predicted λ|g|/|w| and on the predicted angle for gradients that repeat earlier ones.

    ``overlap`` is g·v/|g|² with v = Σ ρ^k g_{t−1−k}. Both are 1 at 0, and where no law for it is known.
    """
    settings, overlap = dict(law.settings), np.float64(overlap)
    with np.errstate(invalid="ignore", divide="ignore"):  # no prediction is a number, NaN
        if law.kind == "lars":
            factor = theory.correlation_correction(overlap, momentum=settings["momentum"])
            return factor, 1 / factor
        if law.kind == "sgd":
            form = {name: settings[name] for name in ("momentum", "nesterov")}
            angles = [theory.rotation(**settings, overlap=o) for o in (overlap, 0.0)]
            turn = angles[0] / angles[1] if settings["lr"] * settings["weight_decay"] else 1.0
            return theory.correlation_correction(overlap, **form), turn
    return 1.0, 1.0


def momentum(group: Mapping) -> float:
    """ρ of a group, with which earlier gradients are summed; 0 where an optimiser keeps no such sum."""
    return float(group.get("momentum") or 0.0)


def _plain(value):
    """A setting as plain numbers: a learning rate can be a tensor."""
    if isinstance(value, torch.Tensor | np.generic):
        return float(value)
    return tuple(map(_plain, value)) if isinstance(value, tuple | list) else value


@lru_cache(maxsize=1024)
def _of_class(name: str, settings: tuple) -> Law | None:
    found = _LAWS[name](**dict(settings))
    return found and found._replace(
        # pyrefly: ignore[bad-argument-type], for these fields are the numbers
        **{name: float(getattr(found, name)) for name in Law._fields[:COEFFICIENTS]}
    )


def _sgd(lr, weight_decay=0.0, momentum=0.0, nesterov=False, dampening=0.0, decoupled=False, **_):
    settings = {
        "lr": lr, "weight_decay": weight_decay, "momentum": momentum, "nesterov": nesterov,
        "dampening": dampening, "decoupled": decoupled,
    }  # fmt: skip
    if momentum and not decoupled:
        relaxed = theory.relaxation_steps(
            lr=lr * (1 - dampening), weight_decay=weight_decay, momentum=momentum
        )
    else:
        relaxed = theory.relaxation_steps(lr=lr, weight_decay=weight_decay)
    return Law(
        grad=lr**2,
        decay=theory.equilibrium_ratio(**settings) ** 2,
        turn=theory.rotation(**settings) ** 2,
        rate=1 / relaxed,
        kind="sgd" if momentum else "",
        settings=tuple(settings.items()),
    )


def _sgdw(**settings):
    return _sgd(**(settings | {"decoupled": True}))


def _adam(lr, betas, weight_decay=0.0, amsgrad=False, decoupled_weight_decay=False, **_):
    if amsgrad:
        return None  # divides by the largest of the past, not by the present size
    if decoupled_weight_decay:
        return Law(
            size=lr**2,
            decay=_shrinkage(lr, theory.adamw_rms(lr=lr, weight_decay=weight_decay)),
            turn=theory.adamw_rotation(lr=lr, weight_decay=weight_decay, beta1=betas[0]) ** 2,
            rate=2 * lr * weight_decay,
        )
    # λ/(|g|/√d) is the rate of a heavy ball whose buffer is an average: its λ̃ is that rate
    return Law(
        size=lr**2,
        decay_adam=2 * lr * weight_decay,
        turn_adam=2 * lr * weight_decay * (1 - betas[0]) / (1 + betas[0]),
        rate_adam=3 * lr * weight_decay,
    )


def _adamw(**settings):
    return _adam(**(settings | {"decoupled_weight_decay": True}))


def _lion(lr, betas, weight_decay=0.0, **_):
    settings = {"lr": lr, "weight_decay": weight_decay, "beta1": betas[0], "beta2": betas[1]}
    return Law(
        size=lr**2,
        decay=_shrinkage(lr, theory.lion_rms(**settings)),
        turn=theory.lion_rotation(**settings) ** 2,
        rate=2 * lr * weight_decay,
    )


def _lars(lr, momentum=0.0, weight_decay=0.0, form="post", trust=1.0, **_):
    lr = lr * (trust if form == "you" else 1.0)
    if form == "page":  # Nesterov: a step is the gradient, 1 + ρ times, and ρ² times the buffer
        turn = lr**2 * ((1 + momentum) ** 2 + momentum**4 / (1 - momentum**2))
    else:
        turn = theory.lars_rotation(lr=lr, momentum=momentum) ** 2
    summed = lr / (1 - momentum)
    return Law(
        weight=summed**2,
        decay_lars=2 * summed * weight_decay,
        turn=turn,
        rate=summed**2 if weight_decay else 0.0,
        kind="lars" if momentum and form != "page" else "",
        settings=(("momentum", momentum),),
    )


def _shrinkage(lr, rms):
    """What decay takes, where a step adds λ² for each number of w and balance is at that size."""
    return (lr / rms) ** 2


def _unknown(**_):
    """Of what inherits the step of one that has a law, and changes it."""
    return None


_LAWS = {
    "SGD": _sgd,
    "ClippedSGD": _unknown,
    "SGDW": _sgdw,
    "Adam": _adam,
    "AdamW": _adamw,
    "Lion": _lion,
    "LARS": _lars,
}
_SETTINGS = {
    "lr", "weight_decay", "momentum", "nesterov", "dampening", "decoupled", "betas", "amsgrad",
    "decoupled_weight_decay", "form", "trust",
}  # fmt: skip

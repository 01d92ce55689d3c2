"""Which optimisers move the weights of a run, and their settings at each step."""

from typing import NamedTuple

import numpy as np
import torch

from . import models, optimizers, theory
from .config import CONVOLUTIONS, Config
from .schedules import per_step

BETA2 = 0.999  # of Adam and AdamW, whose β₁ is the momentum


class Stepper(NamedTuple):
    """An optimiser and its settings by name: at each step ``(epochs, steps)``, or ``(steps,)`` of an epoch."""

    optimizer: torch.optim.Optimizer
    settings: dict[str, np.ndarray]

    def at(self, epoch: int) -> "Stepper":
        """With the settings of an epoch."""
        return Stepper(self.optimizer, {name: values[epoch] for name, values in self.settings.items()})

    def set(self, step: int) -> None:
        """Gives the optimiser the settings of a step."""
        for group in self.optimizer.param_groups:
            group.update({name: float(values[step]) for name, values in self.settings.items()})


def of(model, config: Config, lrs: np.ndarray) -> list[Stepper]:
    """Optimisers that together move all weights, where the learning rate of each step is one of ``lrs``."""
    special = _special(model, config)
    others = [w for w in model.parameters() if all(w is not s for s in special)]
    decays = np.full(lrs.shape, config.weight_decay)
    if config.decay_follows_lr:
        decays = per_step(config.weight_decay_schedule, config.epochs, config.steps_per_epoch).reshape(
            lrs.shape
        )
    found = _of_special(special, config, lrs, decays) if special else []
    sgd = optimizers.SGD(others, config.lr, config.momentum, config.weight_decay, config.nesterov)
    return [*found, Stepper(sgd, {"lr": lrs, "weight_decay": decays})]


def _special(model, config: Config) -> list[torch.Tensor]:
    """The weights with an optimiser, or settings of one, of their own."""
    if config.layers in ("", CONVOLUTIONS):
        own = config.layers or config.optimizer != "sgd" or config.clip
        return list(models.scale_invariant_weights(model).values()) if own else []
    return [models.probed_weights(model)[config.layers]]


def _of_special(weights, c: Config, lrs: np.ndarray, decays: np.ndarray) -> list[Stepper]:
    if c.optimizer == "lars":
        rates = theory.equilibrium_ratio(lr=lrs, weight_decay=c.weight_decay, momentum=c.momentum)
        if c.lag:
            rates = rates * _lags(c).reshape(lrs.shape)
        factors = theory.correlation_correction(np.array(c.overlap), momentum=c.momentum)
        layers = [weights] if len(factors) == 1 else [[w] for w in weights]
        return [
            Stepper(optimizers.LARS(of_rate, c.lr, c.momentum, smoothing=c.smoothing), {"lr": rates * factor})
            for of_rate, factor in zip(layers, factors, strict=True)
        ]
    settings = {"lr": c.layers_lr * lrs, "weight_decay": c.layers_decay * decays}
    if c.optimizer == "sgd" and c.clip:
        sgd = optimizers.ClippedSGD(weights, c.lr, c.momentum, clip=c.clip, decay=c.smoothing)
    elif c.optimizer == "sgd":
        sgd = optimizers.SGD(weights, c.lr, c.momentum, nesterov=c.nesterov)
    else:
        kind = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}[c.optimizer]
        sgd = kind(weights, betas=(c.momentum, BETA2))
    return [Stepper(sgd, settings)]


def _lags(config: Config) -> np.ndarray:
    """What the fall of λ makes of SGD's λ|g|/|w| at each step, by the closed form; 1 before the fall."""
    steps = config.epochs * config.steps_per_epoch
    left = steps - np.arange(steps) - 0.5
    falling = (config.epochs - config.fall_epoch) * config.steps_per_epoch
    lag = theory.final_decay_ratio(
        left,
        peak_lr=config.lr,
        decay_steps=falling,
        weight_decay=config.weight_decay,
        momentum=config.momentum,
    )
    return np.where(left < falling, lag, 1.0)

"""Published recipes of training, and what the theory says of them: how long norms take, and how far a step turns."""

from typing import NamedTuple

import numpy as np
import pandas as pd

from .. import scales, theory
from ..config import Config
from . import numbers
from .numbers import Numbers

#: What entries of maps in language models are often drawn with.
USUAL_START = 0.02


class Recipe(NamedTuple):
    """Settings of a training; ``lr`` is that of the peak, ``share`` its mean over that of the peak.

    ``momentum`` is β₁ where it is ``adamw``; ``steps`` and ``warm_up`` are in steps, and the rate rises linearly from
    ``first``, over the peak's.
    """

    lr: float
    weight_decay: float
    momentum: float
    steps: int
    warm_up: int
    share: float
    first: float = 0.0
    adamw: bool = False

    @property
    def relaxation(self) -> float:
        """Steps in which a deviation falls to 1/e at the peak: of |w|⁴, and with AdamW of |w|²."""
        if self.adamw:
            return float(2 * theory.relaxation_steps(lr=self.lr, weight_decay=self.weight_decay))
        return float(
            theory.relaxation_steps(lr=self.lr, weight_decay=self.weight_decay, momentum=self.momentum)
        )

    @property
    def relaxations(self) -> float:
        """How many of these times the training has, with its schedule."""
        return self.share * self.steps / self.relaxation

    @property
    def relaxations_of_warm_up(self) -> float:
        """How many the warm-up has."""
        return (1 + self.first) / 2 * self.warm_up / self.relaxation

    @property
    def turn(self) -> float:
        """Angle of a step at the peak, in degrees."""
        turn = theory.rotation(
            lr=self.lr, weight_decay=self.weight_decay, momentum=self.momentum, decoupled=self.adamw
        )
        return float(np.degrees(turn))


def _of_this_book() -> Recipe:
    c = scales.base("small")
    steps = c.steps_per_epoch
    warm_up = round(c.peak_epoch * steps)
    return Recipe(c.lr, c.weight_decay, c.momentum, c.epochs * steps, warm_up, share=1 / 2)


#: Of Goyal et al. 2017, for 256 and 8192 images a step; of DeiT-B, Touvron et al. 2021, and LLaMA 7B, Touvron et al. 2023.
#: Shares of steps of a tenth at epochs 30, 60 and 80 of 90, of a cosine to 0, and of one to a tenth.
RECIPES = {
    "this book": _of_this_book(),
    "ResNet-50, N = 256": Recipe(0.1, 1e-4, 0.9, steps=90 * 5004, warm_up=0, share=0.369),
    "ResNet-50, N = 8192": Recipe(3.2, 1e-4, 0.9, 90 * 156, 5 * 156, share=0.342, first=1 / 32),
    "DeiT-B": Recipe(1e-3, 0.05, 0.9, steps=300 * 1251, warm_up=5 * 1251, share=1 / 2, adamw=True),
    "LLaMA 7B": Recipe(3e-4, 0.1, 0.9, steps=250_000, warm_up=2000, share=0.55, adamw=True),
}


def table() -> pd.DataFrame:
    """The recipes with their relaxation time, how many of it they have, and the rotation, as text."""
    rows = {
        name: {
            "optimiser": "AdamW" if r.adamw else "SGD",
            "λ": f"{r.lr:g}",
            "α": f"{r.weight_decay:g}",
            "relaxation, steps": rounded(r.relaxation),
            "training, relaxations": rounded(r.relaxations),
            "warm-up, relaxations": rounded(r.relaxations_of_warm_up) if r.warm_up else numbers.NONE,
            "θ, degrees": rounded(r.turn),
        }
        for name, r in RECIPES.items()
    }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis(columns="recipe")


def rounded(value: float) -> str:
    """Two digits, which is what a recipe is good for: ``17,000``, ``5.2``, ``0.31``."""
    return f"{float(f'{value:.2g}'):,g}"


#: λ of ResNet-50 on ImageNet where its rotation was measured, at a constant rate and with α and ρ as above: Wan et al. 2021,
#: and Kosson et al. 2024, by the scripts of their paper.
MEASURED_AT = {"wan": 0.2, "kosson": 0.1}


def turns_of_others(config: Config) -> Numbers:
    """The angle of a step in equilibrium where others have measured it, and in a run of this book at its peak, in radians."""
    resnet = RECIPES["ResNet-50, N = 256"]
    turns = {
        name: theory.rotation(lr=lr, weight_decay=resnet.weight_decay, momentum=resnet.momentum)
        for name, lr in MEASURED_AT.items()
    }
    turns["here"] = theory.rotation(lr=config.lr, weight_decay=config.weight_decay, momentum=config.momentum)
    return {f"turn_{name}": f"{float(turn):.2g}" for name, turn in turns.items()}


def of_text() -> Numbers:
    """What sentences say of them."""
    llama = RECIPES["LLaMA 7B"]
    rms = float(theory.adamw_rms(lr=llama.lr, weight_decay=llama.weight_decay))
    return {
        "imagenet": rounded(RECIPES["ResNet-50, N = 256"].relaxation),
        "adamw": rounded(llama.relaxation),
        "adamw_warm_up": rounded(llama.relaxations_of_warm_up),
        "adamw_steps": f"{llama.warm_up:,}",
        "adamw_rms": rounded(rms),
        "adamw_start": f"{USUAL_START:g}",
        "adamw_turns": rounded(rms / USUAL_START),
        "forgotten": f"{100 * np.exp(-3):.0f}",
    }

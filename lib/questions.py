"""The runs of the post's open questions: what each experiment trains, from the base run of a scale.

Each function takes the base run, the same over fewer epochs, and how many seeds are few; it returns the name, the
config and the number of seeds of each of its forms. All keep averages instead of steps, eight in an epoch.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from .config import CONVOLUTIONS, Config, layers_of

Forms = list[tuple[str, Config, int]]
AVERAGES = 8


class Measured(NamedTuple):
    """What the recorded runs of a network say, of each convolution, in epochs 6 to 14.

    ``growth`` is |w| over that of the start, ``overlap`` o; ``adam_decay`` the α at which Adam with α|w|²/2 in the
    loss has, by `lib.theory.adam_l2_norm_sq` and the recorded c, the rotation of heavy-ball in the geometric mean
    of layers, at the rate `ADAM_LR`.
    """

    growth: tuple[float, ...]
    overlap: tuple[float, ...]
    adam_decay: float


#: Adam's peak λ, at which the α of AdamW that is matched to heavy-ball is 1.
ADAM_LR = 2e-3
#: By data set and width: of heavy-ball, and at width 64 of Nesterov, which alone is recorded there.
MEASURED = {
    ("digits", 8): Measured(
        growth=(2.07, 2.06, 2.04, 2.04, 2.15, 2.04, 1.52, 1.48),
        overlap=(-0.114, -0.028, -0.026, -0.017, -0.011, -0.016, -0.016, -0.030),
        adam_decay=0.0042,
    ),
    ("cifar10", 8): Measured(
        growth=(4.05, 3.29, 2.70, 2.37, 2.78, 2.56, 2.59, 2.05),
        overlap=(-0.321, -0.148, -0.126, -0.095, -0.096, -0.069, -0.067, -0.067),
        adam_decay=0.0102,
    ),
    ("cifar10", 64): Measured(
        growth=(1.57, 1.49, 1.43, 1.42, 1.37, 1.17, 1.02, 0.86),
        overlap=(-0.365, -0.213, -0.149, -0.135, -0.118, -0.091, -0.108, -0.119),
        adam_decay=0.00037,
    ),
}


def plateau(base: Config, short: Config, seeds: int) -> Forms:
    """The three forms of SGD with λ at its peak from epoch 2 to 16 of 24, filter by filter; without decay as a control.

    At demo half as many epochs.
    """
    held = replace(base, peak_epoch=base.epochs / 12, hold_epoch=base.epochs * 2 / 3)
    held = replace(held, averages=AVERAGES, by_filter=True)
    if _is_demo(base):
        held = held.stretched(base.epochs // 2)
    lr = round(base.lr / (1 - base.momentum), 12)
    return [
        ("sgd", replace(held, momentum=0.0, lr=lr), seeds),
        ("heavy-ball", held, seeds),
        ("nesterov", replace(held, nesterov=True), seeds),
        ("no-decay", replace(held, weight_decay=0.0), 1),
    ]


def lars_parts(base: Config, short: Config, seeds: int) -> Forms:
    """What could make LARS differ from SGD, one at a time, and both.

    The two are also runs of other experiments. Of these a machine of another kind may have drawn other images for the
    same seed, and then seeds do not pair.
    """
    base = replace(base, averages=AVERAGES)
    lars = replace(base, optimizer="lars")
    forms = {
        "heavy-ball": base,
        "lars": lars,
        "clipped": replace(base, clip=1.25, smoothing=0.99),
        "lars-smoothed": replace(lars, smoothing=0.99),
        "lars-annealed": replace(lars, lag=True),
        "lars-turning": replace(lars, lag=True, overlap=_measured(base).overlap),
        "decay-follows": replace(base, decay_follows_lr=True),
    }
    return [(name, config, seeds) for name, config in forms.items()]


def start(base: Config, short: Config, seeds: int) -> Forms:
    """SGD and LARS from convolutions of other sizes; SGD from the norms of equilibrium, with and without warm-up.

    None at demo.
    """
    if _is_demo(base):
        return []
    base = replace(base, averages=AVERAGES)
    forms = {
        f"{name}-x{scale:g}": replace(base, optimizer=optimizer, init_scale=(scale,))
        for name, optimizer in (("sgd", "sgd"), ("lars", "lars"))
        for scale in (0.125, 4.0, 8.0, 16.0)
    }
    at_equilibrium = replace(base, init_scale=_measured(base).growth)
    for warm_up in (5, 1):
        peak = base.epochs * warm_up / 24
        forms[f"equilibrium-warm-up{warm_up}"] = replace(at_equilibrium, peak_epoch=peak)
    return [(name, config, seeds) for name, config in forms.items()]


def decay(base: Config, short: Config, seeds: int) -> Forms:
    """Two networks, with no decay, the base run's and ten times as much, over rates: of the convolutions alone.

    None at demo.
    """
    if _is_demo(base):
        return []
    short = replace(short, averages=AVERAGES, layers=CONVOLUTIONS)
    return [
        (
            f"{architecture.lower().replace(':', '-')}-decay{base.weight_decay * more:g}-lr{base.lr * faster:g}",
            replace(short, architecture=architecture, layers_decay=more, layers_lr=faster),
            1,
        )
        for architecture in ("backbone", "Residual:L1+L2+L3")
        for more in (0.0, 1.0, 10.0)
        for faster in (0.25, 1.0, 2.0, 4.0, 8.0)
    ]


def layers(base: Config, short: Config, seeds: int) -> Forms:
    """One convolution at a time with λ eight times as high or low, or as high with α as low; and all as they are.

    With four times the decay, so that short runs reach equilibrium. None at demo.
    """
    if _is_demo(base):
        return []
    short = replace(short, averages=AVERAGES, weight_decay=4 * base.weight_decay)
    forms: Forms = [("baseline", short, 6)]
    for kind, lr, weight_decay in (("up", 8.0, 1.0), ("down", 0.125, 1.0), ("control", 8.0, 0.125)):
        for layer in list(layers_of(base.architecture))[:-1]:
            changed = replace(short, layers=layer, layers_lr=lr, layers_decay=weight_decay)
            forms.append((f"{kind}-{layer}", changed, 1))
    return forms


def adam(base: Config, short: Config, seeds: int) -> Forms:
    """AdamW and Adam with α in the gradient, for the convolutions, about the rate that turns as heavy-ball does.

    AdamW's λα is that of heavy-ball over 1−ρ; rates are half and twice that too. None at demo.
    """
    if _is_demo(base):
        return []
    alike = base.lr * base.weight_decay / (1 - base.momentum) / ADAM_LR
    base = replace(base, averages=AVERAGES, layers=CONVOLUTIONS)
    return [
        (
            f"{name}-x{factor:g}",
            replace(
                base,
                optimizer=optimizer,
                layers_lr=factor * ADAM_LR / base.lr,
                layers_decay=weight_decay / base.weight_decay,
            ),
            min(seeds, 2),
        )
        for name, optimizer, weight_decay in (
            ("adamw", "adamw", alike),
            ("l2", "adam", _measured(base).adam_decay),
        )
        for factor in (0.5, 1.0, 2.0)
    ]


def _is_demo(base: Config) -> bool:
    """Where runs are for a laptop's patience: most questions would take it many minutes."""
    return base.dataset == "digits"


def _measured(base: Config) -> Measured:
    if (base.dataset, base.width) not in MEASURED:
        raise ValueError(
            f"nothing is measured of width={base.width} on {base.dataset}, from which to start; "
            f"it must be one of {', '.join(f'{width} on {data}' for data, width in MEASURED)}"
        )
    return MEASURED[base.dataset, base.width]


#: In the order of importance.
QUESTIONS: dict[str, Callable[[Config, Config, int], Forms]] = {
    "plateau": plateau,
    "lars-parts": lars_parts,
    "start": start,
    "adam": adam,
    "layers": layers,
    "decay": decay,
}

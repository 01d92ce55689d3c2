"""The three sizes of the paper's runs, and what a reader may change of every run of one."""

from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from .config import Config

#: Where averages over seeds are compared by eye, three seeds do; the steps of more are not kept.
FEW_SEEDS = 3


@dataclass(frozen=True, kw_only=True)
class Scale:
    """The base run of a scale, which experiments change some settings of, and how much is run there.

    ``seeds`` is the most that a run is repeated with; ``architectures`` are the networks of the sweep,
    from those that cost little to those that cost most; its runs have ``short_epochs``: 20 as in the
    post's architecture search, fewer where a run is dear.
    """

    base: Config
    seeds: int = 5
    architectures: tuple[str, ...]
    short_epochs: int = 5

    @property
    def few_seeds(self) -> int:
        """Three seeds, or as many as there are."""
        return min(self.seeds, FEW_SEEDS)

    @property
    def short_base(self) -> Config:
        """The base run over fewer epochs, the first fifth of which warm up."""
        return replace(self.base, epochs=self.short_epochs, peak_epoch=self.short_epochs / 5)


SCALES = {
    "demo": Scale(
        base=Config(dataset="digits", width=8, batch_size=64),
        seeds=1,
        architectures=("backbone", "Residual:L1+L3"),
    ),
    "small": Scale(
        base=Config(dataset="cifar10", width=8),
        architectures=("backbone", "Extra:L1+L2+L3", "Residual:L1+L3", "Residual:L1+L2+L3"),
    ),
    "paper": Scale(
        base=Config(precision="bf16"),
        architectures=(
            "backbone",
            "Extra:L2",
            "Extra:L1+L2+L3",
            "Residual:L1",
            "Residual:L1+L3",
            "Residual:L2+L3",
            "Residual:L1+L2+L3",
        ),
        short_epochs=20,
    ),
}
DEFAULT_SCALE = "small"
#: Where what a reader has changed is trained, unless a scale is named: on any laptop.
OWN_SCALE = "demo"

#: What a reader may change of every run of a scale: settings of its base run, and how many seeds there are.
KNOBS = ("lr", "weight_decay", "momentum", "batch_size", "epochs", "architecture", "width", "seeds")
_KINDS: dict[str, Any] = {field.name: field.type for field in fields(Config)} | {"seeds": int}
MOST_SEEDS = 1000
#: Most that λα/(1−ρ) may be, which is λα of the run without momentum: more of it and decay lengthens weights.
MOST_DECAY = 2.0


@dataclass(frozen=True)
class Chosen:
    """Which runs: those of a scale, as recorded or with some of `KNOBS` changed. `chosen` makes it."""

    scale: str
    changes: tuple[tuple[str, float | int | str], ...] = ()

    def __str__(self):
        return " with ".join(filter(None, [self.scale, self.differences]))

    @property
    def differences(self) -> str:
        """What differs from the recorded settings: ``weight_decay=0.002, momentum=0.5``, or nothing."""
        return ", ".join(self.assignments)

    @property
    def options(self) -> str:
        """The options by which a command makes the same choice."""
        return " ".join([f"--scale {self.scale}", *(f"--set {one}" for one in self.assignments)])

    @property
    def assignments(self) -> list[str]:
        """What differs, each as ``weight_decay=0.002``."""
        return [f"{name}={value}" for name, value in self.changes]

    def without(self, name: str) -> "Chosen":
        """The same choice with one setting left as recorded."""
        return replace(self, changes=tuple(change for change in self.changes if change[0] != name))

    @property
    def at(self) -> Scale:
        """The scale from which every experiment starts. Raises ValueError when the changes make no run."""
        scale = SCALES[self.scale]
        changes: dict[str, Any] = dict(self.changes)
        seeds = int(changes.pop("seeds", scale.seeds))
        base = scale.base
        if "epochs" in changes:
            base = base.stretched(int(changes.pop("epochs")))
        short = max(1, round(scale.short_epochs * base.epochs / scale.base.epochs))
        return replace(scale, base=replace(base, **changes), seeds=seeds, short_epochs=short)


def chosen(scale: "str | Chosen", **changes: float | int | str | None) -> Chosen:
    """The runs of a scale with some of `KNOBS` changed: all runs that start from them keep their relations.

    What is None, or as recorded, is no change. Numbers may be given as text. Raises ValueError when the scale
    or a setting is not known, or a value makes no run.
    """
    if isinstance(scale, Chosen):
        return scale
    if scale not in SCALES:
        raise ValueError(f"scale={scale!r} is not known; it must be one of {', '.join(SCALES)}")
    for name in changes:
        if name not in KNOBS:
            raise ValueError(f"setting {name!r} is not known; it must be one of {', '.join(KNOBS)}")
    recorded = vars(SCALES[scale].base) | {"seeds": SCALES[scale].seeds}
    given = {name: _value(name, value) for name in KNOBS if (value := changes.get(name)) is not None}
    found = Chosen(scale, tuple((name, v) for name, v in given.items() if v != recorded[name]))
    base = found.at.base  # refuses what makes no run
    decay = base.lr / (1 - base.momentum) * base.weight_decay
    if decay > MOST_DECAY:
        raise ValueError(
            f"lr={base.lr:g} with weight_decay={base.weight_decay:g} and momentum={base.momentum:g} is not allowed, as "
            f"λα/(1−ρ) is {decay:g}; it must be at most {MOST_DECAY:g}, beyond which decay lengthens weights: lower one of them"
        )
    return found


def _value(name: str, value: float | int | str) -> float | int | str:
    """A value of a knob, as its type; raises ValueError when it is none."""
    kind = _KINDS[name]
    try:
        value = kind(value) if isinstance(value, str) or type(value) is int else value
    except (ValueError, OverflowError):
        number = "a whole number" if kind is int else "a number"
        raise ValueError(f"{name}={value!r} is not allowed; it must be {number}") from None
    if name == "seeds" and not (type(value) is int and 1 <= value <= MOST_SEEDS):
        raise ValueError(f"seeds={value!r} is not allowed; it must be a whole number from 1 to {MOST_SEEDS}")
    return value


def base(scale: str | Chosen) -> Config:
    """The base run of a scale; raises ValueError when the scale is not known."""
    return chosen(scale).at.base


def settings() -> dict[str, dict[str, object]]:
    """The settings of each scale's base run, by scale and name."""
    return {name: asdict(scale.base) for name, scale in SCALES.items()}

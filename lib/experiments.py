"""Which runs the paper is made of: each experiment, at each scale, as planned runs."""

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, NamedTuple

from .config import PRECISIONS, Config
from .questions import QUESTIONS

#: Where averages over seeds are compared by eye, three seeds do; the steps of more are not kept.
FEW_SEEDS = 3
#: Learning rates of the sweep, over that of the base run.
LR_FACTORS = tuple(2.0**k for k in range(-3, 4))
#: Those at which LARS and SGD are tuned: about the best of the sweep, which is higher where runs are short.
#: Up to 8, since the best of LARS was the last of those up to 4.
TUNED_FACTORS = (0.5, 1.0, 2.0, 4.0, 8.0)


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
        scale, changes = SCALES[self.scale], dict(self.changes)
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
    found.at  # noqa: B018  refuses what makes no run
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


class Form(NamedTuple):
    """A run of an experiment, to be repeated with seeds 0, 1, …

    Of its steps one in ``every`` is kept, and with 0 none: what only an accuracy is taken from needs
    none. Where ``may_diverge``, that is a result: the learning rate was too high.
    """

    name: str
    config: Config
    seeds: int
    every: int = 1
    may_diverge: bool = False


@dataclass(frozen=True)
class Planned:
    """A run that is planned at a scale; ``form`` and seed name it within its experiment.

    With ``own`` settings it is none of the book's.
    """

    scale: str
    experiment: str
    form: str
    config: Config
    every: int = 1
    may_diverge: bool = False
    own: bool = False

    @property
    def name(self) -> str:
        """Its name within its experiment, such as ``heavy-ball-seed0``."""
        return f"{self.form}-seed{self.config.seed}"

    @property
    def title(self) -> str:
        """Its name in messages."""
        return f"{self.experiment} {self.name}"

    def is_of(self, name: str) -> bool:
        """Whether a name means this run: that of its experiment, its form or itself, as ``dynamics/sgd-seed0``."""
        return name in (self.experiment, *(f"{self.experiment}/{x}" for x in (self.form, self.name)))


def dynamics(scale: Scale) -> list[Form]:
    """Weight norms and effective steps of the three forms of SGD.

    Without momentum the peak learning rate is 1/(1−ρ) = 10 times as high, which keeps λ/(1−ρ);
    at the same λ the norms would not reach equilibrium within the run.
    """
    base, seeds = scale.base, scale.seeds
    lr = round(base.lr / (1 - base.momentum), 12)  # 4, not 4.0…01
    return [
        Form("sgd", replace(base, momentum=0.0, lr=lr), seeds),
        Form("heavy-ball", base, seeds),
        Form("nesterov", replace(base, nesterov=base.momentum > 0), seeds),  # without momentum they are one
    ]


def lars(scale: Scale) -> list[Form]:
    """LARS at the rate that SGD has in equilibrium, to be held against the heavy-ball of `dynamics`.

    Without weight decay there is no equilibrium, and no rate: LARS would stand still.
    """
    if not scale.base.weight_decay:
        return []
    return [Form("lars", replace(scale.base, optimizer="lars"), scale.few_seeds)]


def batch_size(scale: Scale) -> list[Form]:
    """A quarter of the batch at a quarter of λ, to be held against the heavy-ball of `dynamics`.

    One step in four is kept: as many as of the run that it is held against.
    """
    base = scale.base
    quarter = replace(base, batch_size=base.batch_size // 4, lr=base.lr / 4)
    return [Form("quarter-batch", quarter, scale.few_seeds, every=4)]


def gradient_noise(scale: Scale) -> list[Form]:
    """Gradients at several batch sizes, at the weights of three moments of the base run and its start."""
    frozen = replace(scale.base, noise_every=max(1, scale.base.epochs // 3))
    return [Form("frozen", frozen, scale.few_seeds, every=0)]


def sweep(scale: Scale) -> list[Form]:
    """Several networks over a range of learning rates, trained as the post trains: with Nesterov."""
    base = replace(scale.short_base, nesterov=scale.base.momentum > 0)
    return [
        _at_rate(
            architecture.lower().replace(":", "-"),
            replace(base, architecture=architecture),
            factor,
            scale.few_seeds,
        )
        for architecture in scale.architectures
        for factor in LR_FACTORS
    ]


def tuning(scale: Scale) -> list[Form]:
    """LARS and heavy-ball, each at several learning rates about the base run's, as short as the sweep."""
    return [
        _at_rate(name, replace(scale.short_base, optimizer=optimizer), factor, scale.seeds)
        for name, optimizer in (("heavy-ball", "sgd"), ("lars", "lars"))
        if scale.base.weight_decay or optimizer == "sgd"
        for factor in TUNED_FACTORS
    ]


def precision(scale: Scale) -> list[Form]:
    """Two forms of `dynamics` in the other precision, to be held against them; none at demo.

    A laptop without units for bfloat16 would take ten minutes for a run.
    """
    if scale.base.dataset == "digits":
        return []
    (other,) = {*PRECISIONS} - {scale.base.precision}
    other_base = replace(scale, base=replace(scale.base, precision=other))
    return [form._replace(seeds=scale.few_seeds) for form in dynamics(other_base)[:2]]


def _at_rate(name: str, config: Config, factor: float, seeds: int) -> Form:
    lr = config.lr * factor
    return Form(f"{name}-lr{lr:g}", replace(config, lr=lr), seeds, every=0, may_diverge=True)


def _open(question: str) -> Callable[[Scale], list[Form]]:
    """One of the post's open questions as an experiment."""

    def experiment(scale: Scale) -> list[Form]:
        return [Form(*form) for form in QUESTIONS[question](scale.base, scale.short_base, scale.few_seeds)]

    return experiment


#: In the order of importance, which is that of `run`.
EXPERIMENTS: dict[str, Callable[[Scale], list[Form]]] = {
    "dynamics": dynamics,
    "lars": lars,
    "batch-size": batch_size,
    "gradient-noise": gradient_noise,
    "precision": precision,
    "sweep": sweep,
    "tuning": tuning,
    **{question: _open(question) for question in QUESTIONS},
}

_ALL_CLAIMS = ("dynamics", "lars", "batch-size", "gradient-noise", "sweep", "tuning")
#: The runs that each chapter is made from, by names as `Planned.is_of` has them.
CHAPTERS: dict[str, tuple[str, ...]] = {
    "index": ("dynamics",),
    "setup": ("dynamics",),
    "dynamics": ("dynamics/sgd",),
    "equilibrium": ("dynamics/sgd",),
    "batch-size": ("dynamics/sgd", "dynamics/heavy-ball", "batch-size", "gradient-noise"),
    "momentum": ("dynamics",),
    "lars": ("dynamics/heavy-ball", "lars", "tuning"),
    "learning-rates": ("dynamics/heavy-ball", "sweep"),
    "explorer": ("dynamics",),
    "claims": _ALL_CLAIMS,
    "conclusion": ("lars", *_ALL_CLAIMS),  # which it cannot do without
    "status": _ALL_CLAIMS,
}


def why_empty(chapter: str, scale: str | Chosen) -> str | None:
    """Why a chapter has nothing to show: what it begins with, or is named after, has no run. None where it has."""
    essential = [name.partition("/")[0] for name in CHAPTERS.get(chapter, ())[:1]]
    reasons = [why_no_run(name, scale) for name in (*essential, chapter) if name in EXPERIMENTS]
    return next(filter(None, reasons), None)


def why_no_run(experiment: str, scale: str | Chosen) -> str | None:
    """Why an experiment has no run at a scale or at settings of one's own; None where it has."""
    scale = chosen(scale)
    try:
        if EXPERIMENTS[experiment](scale.at):
            return None
        reason = "it is not planned there"
        if not scale.at.base.weight_decay:
            reason = "without weight decay the rate √(2λα(1−ρ)) is 0, and nothing would move"
    except ValueError as error:
        reason = str(error)
    return f"{experiment} has no run at scale {scale}: {reason}"


def planned(
    scale: str | Chosen, names: Iterable[str] | None = None, precision: str | None = None
) -> list[Planned]:
    """The runs of a scale in the order in which they are run: all, or those of some names, as `Planned.is_of` has it.

    Seed by seed: what is stopped early has recorded every form once. With ``precision``, in that and
    not in the base run's. Raises ValueError when a name, the scale or the precision is not known.
    An experiment of which settings of one's own make no run has none.
    """
    scale = chosen(scale)
    at = scale.at
    if precision is not None:
        at = replace(at, base=replace(at.base, precision=precision))
    wanted: dict[str, list[str]] = {}
    for name in EXPERIMENTS if names is None else names:
        wanted.setdefault(name.partition("/")[0], []).append(name)
    runs = []
    for experiment, some in wanted.items():
        found = _planned(scale, at, experiment)
        for name in some:
            if found and name != experiment and not any(one.is_of(name) for one in found):
                known = ", ".join(dict.fromkeys(f"{experiment}/{one.form}" for one in found))
                raise ValueError(f"form={name!r} is not known; it must be one of {known}")
        runs += [one for one in found if any(map(one.is_of, some))]
    return runs


def _planned(scale: Chosen, at: Scale, experiment: str) -> list[Planned]:
    """All runs of an experiment."""
    if experiment not in EXPERIMENTS:
        raise ValueError(
            f"experiment={experiment!r} is not known; it must be one of {', '.join(EXPERIMENTS)}"
        )
    own = bool(scale.changes)
    try:
        forms = EXPERIMENTS[experiment](at)
    except ValueError:
        if not own:
            raise
        forms = []  # `why_no_run` says why
    return [
        Planned(
            scale.scale, experiment, f.name, replace(f.config, seed=seed),
            f.every if seed < FEW_SEEDS else 0, f.may_diverge or own, own,
        )
        for seed in range(max((form.seeds for form in forms), default=0))
        for f in forms
        if seed < f.seeds
    ]  # fmt: skip


def base(scale: str | Chosen) -> Config:
    """The base run of a scale; raises ValueError when the scale is not known."""
    return chosen(scale).at.base


def settings() -> dict[str, dict[str, object]]:
    """The settings of each scale's base run, by scale and name."""
    return {name: asdict(scale.base) for name, scale in SCALES.items()}

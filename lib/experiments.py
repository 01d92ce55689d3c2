"""Which runs the paper is made of: each experiment, at each scale, as planned runs."""

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from typing import NamedTuple

from .config import PRECISIONS, Config

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
    """A run that is planned at a scale; ``form`` and seed name it within its experiment."""

    scale: str
    experiment: str
    form: str
    config: Config
    every: int = 1
    may_diverge: bool = False

    @property
    def name(self) -> str:
        """Its name within its experiment, such as ``heavy-ball-seed0``."""
        return f"{self.form}-seed{self.config.seed}"

    @property
    def title(self) -> str:
        """Its name in messages."""
        return f"{self.experiment} {self.name}"


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
        Form("nesterov", replace(base, nesterov=True), seeds),
    ]


def lars(scale: Scale) -> list[Form]:
    """LARS at the rate that SGD has in equilibrium, to be held against the heavy-ball of `dynamics`."""
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
    frozen = replace(scale.base, noise_every=scale.base.epochs // 3)
    return [Form("frozen", frozen, scale.few_seeds, every=0)]


def sweep(scale: Scale) -> list[Form]:
    """Several networks over a range of learning rates, trained as the post trains: with Nesterov."""
    base = replace(scale.short_base, nesterov=True)
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


#: In the order of importance, which is that of `run`.
EXPERIMENTS: dict[str, Callable[[Scale], list[Form]]] = {
    "dynamics": dynamics,
    "lars": lars,
    "batch-size": batch_size,
    "gradient-noise": gradient_noise,
    "precision": precision,
    "sweep": sweep,
    "tuning": tuning,
}


def planned(
    scale: str, experiments: Iterable[str] | None = None, precision: str | None = None
) -> list[Planned]:
    """The runs of some experiments, or of all, at a scale, in the order in which they are run.

    Seed by seed: what is stopped early has recorded every form once. With ``precision``, in that and
    not in the base run's. Raises ValueError when an experiment, the scale or the precision is not known.
    """
    base(scale)  # refuses an unknown scale
    at = SCALES[scale]
    if precision is not None:
        at = replace(at, base=replace(at.base, precision=precision))
    runs = []
    for experiment in EXPERIMENTS if experiments is None else experiments:
        if experiment not in EXPERIMENTS:
            raise ValueError(
                f"experiment={experiment!r} is not known; it must be one of {', '.join(EXPERIMENTS)}"
            )
        forms = EXPERIMENTS[experiment](at)
        for seed in range(at.seeds):
            every = {form.name: form.every if seed < FEW_SEEDS else 0 for form in forms}
            runs += [
                Planned(scale, experiment, f.name, replace(f.config, seed=seed), every[f.name], f.may_diverge)
                for f in forms
                if seed < f.seeds
            ]
    return runs


def base(scale: str) -> Config:
    """The base run of a scale; raises ValueError when the scale is not known."""
    if scale not in SCALES:
        raise ValueError(f"scale={scale!r} is not known; it must be one of {', '.join(SCALES)}")
    return SCALES[scale].base


def settings() -> dict[str, dict[str, object]]:
    """The settings of each scale's base run, by scale and name."""
    return {name: asdict(scale.base) for name, scale in SCALES.items()}

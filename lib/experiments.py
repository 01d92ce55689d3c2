"""Which runs the paper is made of: each experiment, at each scale, as planned runs."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import NamedTuple

from .config import PRECISIONS, Config
from .questions import QUESTIONS
from .scales import FEW_SEEDS, Chosen, Scale, chosen

#: Learning rates of the sweep, over that of the base run.
LR_FACTORS = tuple(2.0**k for k in range(-3, 4))
#: Those at which LARS and SGD are tuned: about the best of the sweep, which is higher where runs are short.
#: Up to 8, since the best of LARS was the last of those up to 4.
TUNED_FACTORS = (0.5, 1.0, 2.0, 4.0, 8.0)


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
    lr = float(f"{base.lr / (1 - base.momentum):.12g}")  # 4, not 4.0…01
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
    "plateau": ("plateau",),
    "lars-parts": ("lars-parts", "dynamics/heavy-ball", "lars"),
    "start": ("start", "lars-parts/heavy-ball", "lars-parts/lars"),
    "adam": ("adam", "dynamics/heavy-ball", "lars"),
    "layers": ("layers",),
    "decay": ("decay",),
    "explorer": ("dynamics",),
    "claims": _ALL_CLAIMS,
    # begins with what it cannot do without
    "conclusion": ("lars", *_ALL_CLAIMS),
    "status": _ALL_CLAIMS,
    "summary": ("lars/lars", "dynamics/sgd", "dynamics/heavy-ball", "batch-size", "sweep"),
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


def check_has_runs(scale: Chosen, names: Iterable[str]) -> None:
    """Raises ValueError when settings of one's own make no run of an experiment that is named, or of one with a form."""
    for name in names if scale.changes else ():
        if reason := why_no_run(name.partition("/")[0], scale):
            raise ValueError(reason)


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
            f.every if seed < FEW_SEEDS else 0, f.may_diverge, own,
        )
        for seed in range(max((form.seeds for form in forms), default=0))
        for f in forms
        if seed < f.seeds
    ]  # fmt: skip

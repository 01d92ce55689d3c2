"""Each experiment of the paper, at each scale, as named configs."""

from dataclasses import asdict, replace

from .config import Config

#: One base run for each scale; experiments change some of its settings.
SCALES = {
    "demo": Config(dataset="digits", width=8, batch_size=64),
    "small": Config(dataset="cifar10", width=8),
    "paper": Config(precision="bf16"),
}
DEFAULT_SCALE = "small"
#: How many seeds a run is repeated with, at most.
SEEDS = {"demo": 1, "small": 5, "paper": 5}
#: Where two averages are compared by eye, three seeds do.
FEW_SEEDS = 3
#: Learning rates of the sweep, over that of the base run.
LR_FACTORS = tuple(2.0**k for k in range(-3, 4))
#: Those at which LARS and SGD are tuned: about the best of the sweep, which is higher where runs are short.
TUNED_FACTORS = (0.5, 1.0, 2.0, 4.0)
#: The sweep's networks at each scale, from those that cost little to those that cost most.
SWEPT_ARCHITECTURES = {
    "demo": ("backbone", "Residual:L1+L3"),
    "small": ("backbone", "Extra:L1+L2+L3", "Residual:L1+L3", "Residual:L1+L2+L3"),
    "paper": (
        "backbone",
        "Extra:L2",
        "Extra:L1+L2+L3",
        "Residual:L1",
        "Residual:L1+L3",
        "Residual:L2+L3",
        "Residual:L1+L2+L3",
    ),
}
#: Epochs of the sweep: 20 as in the post's architecture search, fewer where a run is dear.
SWEPT_EPOCHS = {"demo": 5, "small": 5, "paper": 20}


def dynamics(scale: str) -> dict[str, Config]:
    """Weight norms and effective steps of the three forms of SGD.

    Without momentum the peak learning rate is 1/(1−ρ) = 10 times as high, which keeps λ/(1−ρ);
    at the same λ the norms would not reach equilibrium within the run.
    """
    start = base(scale)
    return _seeded(
        {
            "sgd": replace(
                start, momentum=0.0, lr=round(start.lr / (1 - start.momentum), 12)
            ),  # 4, not 4.0…01
            "heavy-ball": start,
            "nesterov": replace(start, nesterov=True),
        },
        SEEDS[scale],
    )


def lars(scale: str) -> dict[str, Config]:
    """LARS at the rate that SGD has in equilibrium, to be held against the heavy-ball of `dynamics`."""
    return _seeded({"lars": replace(base(scale), optimizer="lars")}, _few(scale))


def batch_size(scale: str) -> dict[str, Config]:
    """A quarter of the batch at a quarter of λ, to be held against the heavy-ball of `dynamics`."""
    start = base(scale)
    quarter = replace(start, batch_size=start.batch_size // 4, lr=start.lr / 4)
    return _seeded({"quarter-batch": quarter}, _few(scale))


def sweep(scale: str) -> dict[str, Config]:
    """Several networks over a range of learning rates, trained as the post trains: with Nesterov."""
    start = replace(_shortened(base(scale), SWEPT_EPOCHS[scale]), nesterov=True)
    return _seeded(
        {
            f"{architecture.lower().replace(':', '-')}-lr{start.lr * factor:g}": replace(
                start, architecture=architecture, lr=start.lr * factor
            )
            for architecture in SWEPT_ARCHITECTURES[scale]
            for factor in LR_FACTORS
        },
        _few(scale),
    )


def gradient_noise(scale: str) -> dict[str, Config]:
    """Gradients at several batch sizes, at the weights of three moments of the base run and its start."""
    start = base(scale)
    return _seeded({"frozen": replace(start, noise_every=start.epochs // 3)}, _few(scale))


def tuning(scale: str) -> dict[str, Config]:
    """LARS and heavy-ball, each at several learning rates about the base run's, as short as the sweep."""
    start = _shortened(base(scale), SWEPT_EPOCHS[scale])
    return _seeded(
        {
            f"{name}-lr{start.lr * factor:g}": replace(start, optimizer=optimizer, lr=start.lr * factor)
            for name, optimizer in (("heavy-ball", "sgd"), ("lars", "lars"))
            for factor in TUNED_FACTORS
        },
        SEEDS[scale],
    )


def _shortened(config: Config, epochs: int) -> Config:
    """The run over fewer epochs, the first fifth of which warm up."""
    return replace(config, epochs=epochs, peak_epoch=epochs / 5)


def _few(scale: str) -> int:
    return min(SEEDS[scale], FEW_SEEDS)


def _seeded(forms: dict[str, Config], seeds: int) -> dict[str, Config]:
    # seed by seed: a run that is stopped early has recorded every form once
    return {
        f"{form}-seed{seed}": replace(config, seed=seed)
        for seed in range(seeds)
        for form, config in forms.items()
    }


#: In the order of importance, which is that of `run`.
EXPERIMENTS = {
    "dynamics": dynamics,
    "lars": lars,
    "batch-size": batch_size,
    "gradient-noise": gradient_noise,
    "sweep": sweep,
    "tuning": tuning,
}

#: Those over a range of learning rates, where a run that diverges says that the rate was too high.
MAY_DIVERGE = ("sweep", "tuning")


def steps_kept(experiment: str, config: Config) -> int:
    """Every how many steps a run's record keeps one; 0 for its epochs only.

    What only an accuracy is taken from needs no steps. A run of smaller batches keeps as many
    steps as the one that it is held against.
    """
    if experiment in ("sweep", "tuning", "gradient-noise") or config.seed >= FEW_SEEDS:
        return 0
    return 4 if experiment == "batch-size" else 1


def base(scale: str) -> Config:
    """The base run of a scale; raises ValueError when the scale is not known."""
    if scale not in SCALES:
        raise ValueError(f"scale={scale!r} is not known; it must be one of {', '.join(SCALES)}")
    return SCALES[scale]


def form(name: str) -> str:
    """The name of a run without its seed: ``sgd`` of ``sgd-seed0``."""
    return name.rpartition("-seed")[0]


def configs(experiment: str, scale: str) -> dict[str, Config]:
    """The runs of an experiment at a scale, by name, in the order in which they are run.

    Raises ValueError when the experiment or the scale is not known.
    """
    if experiment not in EXPERIMENTS:
        raise ValueError(
            f"experiment={experiment!r} is not known; it must be one of {', '.join(EXPERIMENTS)}"
        )
    base(scale)  # refuses an unknown scale
    return EXPERIMENTS[experiment](scale)


def settings() -> dict[str, dict[str, object]]:
    """The settings of each scale's base run, by scale and name."""
    return {scale: asdict(config) for scale, config in SCALES.items()}

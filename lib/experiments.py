"""Each experiment of the paper, at each scale, as named configs."""

from dataclasses import asdict, replace

from lib.config import Config

#: One base run for each scale; experiments change some of its settings.
SCALES = {
    "demo": Config(dataset="digits", width=8, batch_size=64),
    "small": Config(dataset="cifar10", width=8),
    "paper": Config(),
}
DEFAULT_SCALE = "small"
#: How many seeds a run is repeated with.
SEEDS = {"demo": 1, "small": 3, "paper": 5}


def dynamics(base: Config, seeds: int) -> dict[str, Config]:
    """Weight norms and effective steps of the three forms of SGD.

    Without momentum the peak learning rate is 1/(1−ρ) = 10 times as high, which keeps λ/(1−ρ);
    at the same λ the norms would not reach equilibrium within the run.
    """
    forms = {
        "sgd": replace(base, momentum=0.0, lr=round(base.lr / (1 - base.momentum), 12)),  # 4, not 4.000…01
        "heavy-ball": base,
        "nesterov": replace(base, nesterov=True),
    }
    # seed by seed: a run that is stopped early has recorded every form once
    return {
        f"{form}-seed{seed}": replace(config, seed=seed)
        for seed in range(seeds)
        for form, config in forms.items()
    }


EXPERIMENTS = {"dynamics": dynamics}


def base(scale: str) -> Config:
    """The base run of a scale; raises ValueError when the scale is not known."""
    if scale not in SCALES:
        raise ValueError(f"scale={scale!r} is not known; it must be one of {', '.join(SCALES)}")
    return SCALES[scale]


def configs(experiment: str, scale: str) -> dict[str, Config]:
    """The runs of an experiment at a scale, by name, in the order in which they are run.

    Raises ValueError when the experiment or the scale is not known.
    """
    if experiment not in EXPERIMENTS:
        raise ValueError(
            f"experiment={experiment!r} is not known; it must be one of {', '.join(EXPERIMENTS)}"
        )
    return EXPERIMENTS[experiment](base(scale), SEEDS[scale])


def settings() -> dict[str, dict[str, object]]:
    """The settings of each scale's base run, by scale and name."""
    return {scale: asdict(config) for scale, config in SCALES.items()}

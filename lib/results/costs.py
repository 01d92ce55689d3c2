"""What trainings cost: tables of measured speeds, and of the operations that a network takes."""

import numpy as np
import pandas as pd

from .. import config as settings
from ..config import EPOCH_IMAGES, Config
from ..machinery.speeds import VARIANTS, Bench, Sweep

BATCH_SIZE, EPOCHS = Config().batch_size, Config().epochs


def operations(config: Config) -> pd.DataFrame:
    """Floating-point operations of a training step for one CIFAR-10 image, by layer, in millions.

    Columns: ``layer``, ``forward``, and ``training``: forward, the gradient of the weights and that of
    the input, which the first layer need not pass on. A multiplication and an addition are two.
    """
    found = settings.operations(config.architecture, config.width)
    rows = [(name, *counts) for name, counts in found.items()]
    return pd.DataFrame(rows, columns=["layer", "forward", "training"])


def speeds(measured: list[Bench]) -> pd.DataFrame:
    """Images per second of each variant, medians, by ``width`` and ``batch_size``."""
    rows = {
        (b.width, b.batch_size): {name: round(np.median(b.images_per_second[name])) for name in VARIANTS}
        for b in measured
    }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis(index=["width", "batch_size"])


def per_image(measured: list[Bench]) -> pd.DataFrame:
    """Milliseconds for an image: ``width``, ``batch_size``, ``variant`` and ``ms``, the median over rounds."""
    rows = [
        (b.width, b.batch_size, name, 1000 / np.median(b.images_per_second[name]))
        for b in measured
        for name in VARIANTS
    ]
    return pd.DataFrame(rows, columns=["width", "batch_size", "variant", "ms"])


def numbers(measured: list[Bench], sweeps: list[Sweep]) -> dict[str, float | int | str]:
    """What the page on cost says of them: the machine, the smallest and largest network, and a sweep."""
    small, *_, large = sorted((b for b in measured if b.batch_size == BATCH_SIZE), key=lambda b: b.width)
    sweep, *_ = sweeps
    found = _network_numbers("small", small) | _network_numbers("large", large)
    return found | {
        "gigaflops": round(
            found["large_operations"] * np.median(large.images_per_second["arithmetic"]) / 1000
        ),
        "times_operations": round(found["large_operations"] / found["small_operations"]),
        "times_time": round(found["small_images"] / found["large_images"]),
        "memory": round(small.memory_mib / 1024, 1),
        "sweep_runs": sweep.runs,
        "sweep_jobs": sweep.jobs,
        "sweep_seconds": round(sweep.together, 1),
        "sweep_alone": round(float(np.median(sweep.alone)), 1),
        "sweep_ratio": round(sweep.ratio, 2),
        **{name: small.machine[name] for name in ("processor", "cores", "threads", "torch", "date")},
    }


def _network_numbers(size: str, b: Bench) -> dict[str, float | int]:
    speed = {name: float(np.median(of_rounds)) for name, of_rounds in b.images_per_second.items()}
    numbers = {
        "width": b.width,
        "operations": round(float(operations(Config(width=b.width))["training"].sum()), 1),
        "images": round(speed["trainer"]),
        "share": round(100 * b.ratio("convolutions")[0]),
        "of_arithmetic": round(100 * speed["convolutions"] / speed["arithmetic"]),
        "minutes": round(EPOCHS * EPOCH_IMAGES["cifar10"] / speed["trainer"] / 60),
    }
    return {f"{size}_{name}": value for name, value in numbers.items()}

"""What trainings cost: tables of measured speeds, and of the operations that a network takes."""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from .. import config as settings
from ..config import EPOCH_IMAGES, PRECISIONS, Config
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
    """Images per second of each variant, medians, by ``width``, ``batch_size`` and ``precision``."""
    rows = {
        (b.width, b.batch_size, b.precision): {
            name: round(np.median(b.images_per_second[name])) for name in VARIANTS
        }
        for b in measured
    }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis(
        index=["width", "batch_size", "precision"]
    )


def per_image(measured: list[Bench]) -> pd.DataFrame:
    """Milliseconds for an image in fp32: ``width``, ``batch_size``, ``variant`` and ``ms``, the median over rounds."""
    rows = [
        (b.width, b.batch_size, name, 1000 / np.median(b.images_per_second[name]))
        for b in in_fp32(measured)
        for name in VARIANTS
    ]
    return pd.DataFrame(rows, columns=["width", "batch_size", "variant", "ms"])


def in_fp32(measured: list[Bench]) -> list[Bench]:
    """The measurements in single precision."""
    return [b for b in measured if b.precision == "fp32"]


def minutes(measured: list[Bench]) -> pd.DataFrame:
    """Minutes of a run of 24 epochs of CIFAR-10: a row for each width, a column for each precision that is measured."""
    of_full_batches = [b for b in measured if b.batch_size == BATCH_SIZE]
    table = pd.DataFrame(
        [
            (b.width, b.precision, _minutes(np.median(b.images_per_second["trainer"])))
            for b in of_full_batches
        ],
        columns=["width", "precision", "minutes"],
    )
    wide = table.pivot_table("minutes", "width", "precision")
    return wide[[precision for precision in PRECISIONS if precision in wide]]


def _minutes(images_per_second: float) -> float:
    return EPOCHS * EPOCH_IMAGES["cifar10"] / images_per_second / 60


def bf16_text(measured: list[Bench]) -> str:
    """How much faster or slower the trainer is in bf16, in a sentence."""
    both = minutes(measured).dropna()
    if len(both.columns) < len(PRECISIONS) or both.empty:
        return "On this machine bf16 has not been measured yet."
    factors = both["fp32"] / both["bf16"]
    of_widths = ", ".join(f"{factor:.2f} at width {width}" for width, factor in factors.items())
    wrong = [str(width) for width in factors.index[factors <= 1]]
    verdict = (
        f"It is the wrong choice here at width {', '.join(wrong)}."
        if wrong
        else "It is faster at every width."
    )
    return f"On this machine bf16 makes the trainer so many times as fast as fp32: {of_widths}. {verdict}"


def gpu_text(measured: list[Bench]) -> str:
    """What was measured on a GPU, a network for each width, in a few sentences."""

    def listed(texts: Iterable[str]) -> str:
        return " and ".join(texts)

    trainer, plain = (
        [np.median(b.images_per_second[name]) for b in measured] for name in ("trainer", "plain")
    )
    of_probes = [100 * (1 - b.ratio("no_probes")[0]) for b in measured]
    widths = listed(str(b.width) for b in measured)
    return (
        f"On one {measured[0].machine['device']}, in {measured[0].precision}, the networks of width {widths} train at "
        f"{listed(f'{s:,.0f}' for s in trainer)} images per second. The 24 epochs of a run take "
        f"{listed(f'{60 * _minutes(s):.0f}' for s in trainer)} seconds there. The plain loop, which one core "
        f"feeds, has {listed(f'{s:,.0f}' for s in plain)}. Such networks do not fill a GPU. It waits for the "
        "processor to start one small operation after the other; so a network of eight times the width takes hardly "
        "longer, and the measurements of every step, which are many such operations, cost "
        f"{listed(f'{lost:.0f} %' for lost in of_probes)} of the speed."
    )


def numbers(measured: list[Bench], sweeps: list[Sweep]) -> dict[str, float | int | str]:
    """What the page on cost says of them: the machine, the smallest and largest network, and a sweep."""
    small, *_, large = sorted(
        (b for b in in_fp32(measured) if b.batch_size == BATCH_SIZE), key=lambda b: b.width
    )
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
        "bf16": bf16_text(measured),
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
        "minutes": round(_minutes(speed["trainer"])),
    }
    return {f"{size}_{name}": value for name, value in numbers.items()}

"""What trainings cost: the recorded measurements of speed, and how they compare with what was aimed at."""

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from .. import experiments, paths
from ..config import EPOCH_IMAGES, Config
from ..machinery import files, machine
from ..running.bench import RATIOS, VARIANTS, Bench, operations

#: Width and batch size of what the page on cost shows.
PLAN = ((8, 512), (16, 512), (32, 512), (64, 512), (8, 128), (8, 2048))
#: The least speed of the trainer that was aimed at, over that of another variant, by width.
AIMS = {
    "no_probes": {8: 0.97, 16: 0.97, 64: 0.97},
    "plain": {8: 2.0, 16: 1.3},
    "convolutions": {8: 0.6, 16: 0.75, 64: 0.85},
}
#: The most time of a sweep that was aimed at, over runs / jobs times that of a run by itself.
SWEEP_AIM = 1.15
#: How often the run by itself is timed.
REPEATS = 3
BATCH_SIZE, EPOCHS = Config().batch_size, Config().epochs


@dataclass(frozen=True)
class Sweep:
    """Seconds by the clock, start and end included, of one run at a time and of several side by side.

    ``alone`` are those of a command that trains one run on one core, each time it was given;
    ``together`` those of one that trains ``runs`` such runs, ``jobs`` at a time.
    """

    runs: int
    jobs: int
    alone: list[float]
    together: float
    machine: dict[str, str | int]

    @property
    def ratio(self) -> float:
        """Time of the sweep over runs / jobs times that of a run by itself."""
        return self.together / (self.runs / self.jobs * float(np.median(self.alone)))

    def text(self) -> str:
        """What `python -m lib bench` prints."""
        return (
            f"a sweep of {self.runs} runs, {self.jobs} at a time: {self.together:.1f} s\n"
            f"  one run by itself on one core: {np.median(self.alone):.1f} s\n"
            f"  sweep / ({self.runs}/{self.jobs} of such a run): {self.ratio:.2f}"
        )


def sweep(jobs: int) -> Sweep:
    """Trains a run of demo scale by itself, some times over, then an experiment of such runs.

    Raises RuntimeError when that fails.
    """
    base, *_ = configs = list(experiments.configs("tuning", "demo").values())
    alone = [_seconds("train", "--epochs", base.epochs) for _ in range(REPEATS)]
    together = _seconds("run", "tuning", "--scale", "demo", "--jobs", jobs)
    here = machine.describe(torch.device("cpu")) | {"threads": 1}
    return Sweep(len(configs), jobs, alone, together, here)


def _seconds(*arguments: object) -> float:
    """Seconds that a command of `lib` takes on one thread, with a folder of its own for records."""
    command = [sys.executable, "-m", "lib", *map(str, arguments)]
    with tempfile.TemporaryDirectory() as folder:
        places = {"RECORDS_ROOT": folder, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        start = time.perf_counter()
        done = subprocess.run(
            command, cwd=paths.ROOT, env=os.environ | places, capture_output=True, text=True
        )
        if done.returncode:
            raise RuntimeError(f"the sweep failed: {done.stderr.strip()}")
        return round(time.perf_counter() - start, 2)


def write(speeds: list[Bench], sweeps: list[Sweep], path: str | os.PathLike) -> None:
    """Writes the measurements to a JSON file."""
    measured = {"speeds": [asdict(b) for b in speeds], "sweeps": [asdict(s) for s in sweeps]}
    with files.whole(path) as file:
        file.write((json.dumps(measured, indent=1) + "\n").encode())


def read(path: str | os.PathLike | None = None) -> tuple[list[Bench], list[Sweep]]:
    """The measurements that `write` wrote, by default those that the page on cost is made from.

    ``python -m lib bench --all --jobs 2 --out book/bench.json`` makes these.
    """
    measured = json.loads(Path(path or paths.BOOK / "bench.json").read_text(encoding="utf-8"))
    return [Bench(**b) for b in measured["speeds"]], [Sweep(**s) for s in measured["sweeps"]]


def speeds(measured: list[Bench]) -> pd.DataFrame:
    """Images per second of each variant, medians, by ``width`` and ``batch_size``."""
    rows = {
        (b.width, b.batch_size): {name: round(np.median(b.images_per_second[name])) for name in VARIANTS}
        for b in measured
    }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis(index=["width", "batch_size"])


def aims(measured: list[Bench], sweeps: list[Sweep]) -> pd.DataFrame:
    """What was aimed at, what was measured, with its range over rounds, and whether it is reached."""
    rows = []
    for other in RATIOS:
        for b in measured:
            aim = AIMS[other].get(b.width)
            if b.batch_size == BATCH_SIZE and aim is not None:
                median, low, high = b.ratio(other)
                text = f"{median:.2f} ({low:.2f} to {high:.2f})"
                rows.append((f"trainer / {other}", f"width {b.width}", f"≥ {aim:g}", text, median >= aim))
    for s in sweeps:
        of = f"{s.runs} runs, {s.jobs} at a time"
        rows.append(
            ("sweep / runs one by one", of, f"≤ {SWEEP_AIM:g}", f"{s.ratio:.2f}", s.ratio <= SWEEP_AIM)
        )
    table = pd.DataFrame(rows, columns=["ratio", "of", "aim", "measured", "reached"])
    return table.replace({"reached": {True: "yes", False: "no"}}).set_index(["ratio", "of"])


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

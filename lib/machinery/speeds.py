"""Measured speeds: values, and the file in which they are kept."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from .. import paths
from . import files

VARIANTS = {
    "trainer": "the trainer with its probes",
    "no_probes": "the trainer without probes",
    "plain": "a plain loop in fp32: DataLoader, torchvision transforms, torch.optim.SGD",
    "convolutions": "the convolutions alone, forward and backward",
    "arithmetic": "as many operations, in products of large matrices",
}
#: What the trainer's speed is divided by.
RATIOS = ("no_probes", "plain", "convolutions")
#: What it is to reach with its probes, over itself without.
PROBES_GOAL = 0.97
#: And in bf16 over the plain loop, by width, on a device with units for bf16.
PLAIN_GOALS = {8: 2.5, 16: 2.2, 64: 1.7}


@dataclass(frozen=True)
class Bench:
    """Images per second in every round, by variant, and on what machine; ``memory_mib`` at the process's peak so far."""

    width: int
    batch_size: int
    images_per_second: dict[str, list[float]]
    memory_mib: float
    machine: dict[str, str | int]
    precision: str = "fp32"

    def ratio(self, other: str) -> tuple[float, float, float]:
        """Speed of the trainer over that of another variant: median, least and greatest over rounds."""
        quotients = np.divide(self.images_per_second["trainer"], self.images_per_second[other])
        return float(np.median(quotients)), float(quotients.min()), float(quotients.max())

    def goal(self, other: str) -> float | None:
        """What the ratio to that variant is to reach in the median; None where nothing is asked."""
        if other == "no_probes":
            return PROBES_GOAL
        asked = other == "plain" and self.precision == "bf16" and self.machine.get("bf16_units")
        return PLAIN_GOALS.get(self.width) if asked else None

    def text(self) -> str:
        """What `python -m lib bench` prints."""
        lines = [
            f"width {self.width}, batch size {self.batch_size}, {self.precision}, {self.machine['device']}"
        ]
        for name, meaning in VARIANTS.items():
            lines.append(f"  {np.median(self.images_per_second[name]):8,.0f} images/s  {meaning}")
        for other in RATIOS:
            median, low, high = self.ratio(other)
            goal = self.goal(other)
            judged = "" if goal is None else f", goal {goal:g} {'reached' if median >= goal else 'missed'}"
            lines.append(f"  trainer / {other}: {median:.2f} ({low:.2f} to {high:.2f}){judged}")
        return "\n".join([*lines, f"  peak memory of this process so far: {self.memory_mib:,.0f} MiB"])


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


def write(speeds: list[Bench], sweeps: list[Sweep], path: str | os.PathLike) -> None:
    """Writes the measurements to a JSON file."""
    measured = {"speeds": [asdict(b) for b in speeds], "sweeps": [asdict(s) for s in sweeps]}
    with files.whole(path) as file:
        file.write((json.dumps(measured, indent=1) + "\n").encode())


def read(path: str | os.PathLike | None = None) -> tuple[list[Bench], list[Sweep]]:
    """The measurements that `write` wrote, by default those that the page on cost is made from.

    ``python -m lib bench --all --jobs 2 --out book/bench.json`` makes these; those of a GPU are in ``bench-gpu.json``.
    """
    measured = json.loads(Path(path or paths.BOOK / "bench.json").read_text(encoding="utf-8"))
    return [Bench(**b) for b in measured["speeds"]], [Sweep(**s) for s in measured["sweeps"]]

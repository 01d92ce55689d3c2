"""What is recorded, from where and by what; and the findings in the README, from the same records."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from .. import experiments, paths, records
from ..machinery import files, machine
from ..results import analysis, prose
from ..running import runner
from ..training import Run

NONE = "–"


def recorded(scale: str) -> dict[str, dict[str, Run]]:
    """The recorded runs of a scale by experiment and name; of an experiment without any, none.

    Raises ValueError when the scale is not known, RecordError when a record is damaged.
    """
    found = {}
    for experiment in experiments.EXPERIMENTS:
        try:
            found[experiment] = runner.recorded(experiment, scale)
        except records.NotRecordedError:
            found[experiment] = {}
    return found


def table() -> pd.DataFrame:
    """For each scale and experiment what is recorded, and when, where and by what it was trained.

    ``commits`` are those of the training code, in the order of their first run; a star marks a working
    tree with changes that were not committed. ``scatter`` is that of `scatter`, in percent.
    """
    rows = [
        {"scale": scale, "experiment": experiment} | _row(experiment, scale, runs)
        for scale in experiments.SCALES
        for experiment, runs in recorded(scale).items()
    ]
    return pd.DataFrame(rows).set_index(["scale", "experiment"])


def _row(experiment: str, scale: str, runs: dict[str, Run]) -> dict[str, str]:
    planned = experiments.configs(experiment, scale)
    origins = [run.provenance for run in runs.values()]
    dates = sorted({origin["date"] for origin in origins})
    across = 100 * scatter(runs)
    diverged = sum(run.diverged_at is not None for run in runs.values())
    return {
        "recorded": f"{len(runs)} of {len(planned)}" + (f", {diverged} diverged" if diverged else ""),
        "dates": " to ".join(dict.fromkeys([*dates[:1], *dates[-1:]])) or NONE,
        "device": _listed(device(origin) for origin in origins),
        "Python": _listed(origin["python"] for origin in origins),
        "torch": _listed(origin["torch"] for origin in origins),
        "commits": _listed(commit(origin) for origin in sorted(origins, key=lambda o: o["date"])),
        "training": duration(sum(origin["seconds"] for origin in origins)) if origins else NONE,
        "scatter": NONE if np.isnan(across) else f"{across:.2f} %",
    }


def _listed(values) -> str:
    return ", ".join(dict.fromkeys(values)) or NONE


def device(provenance: dict) -> str:
    """What a run was trained on; for a CPU with its threads, on which the last bits depend."""
    if provenance["device"] != "CPU":
        return provenance["device"]
    threads = provenance["threads"]
    return f"CPU, {threads} thread{'s' if threads > 1 else ''}"


def commit(provenance: dict) -> str:
    """The commit of the training code, short, with a star when the tree had other changes."""
    short, dirty = provenance["commit"][:7], provenance["commit"].endswith("-dirty")
    return short + "*" * dirty if "git" not in provenance["commit"] else provenance["commit"]


def duration(seconds: float) -> str:
    """A time in words: ``45 s``, ``12 min`` or ``3.1 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def scatter(runs: dict[str, Run]) -> float:
    """Standard deviation of the final accuracy over seeds, pooled over forms; NaN where each has one seed.

    Runs that diverged have no final accuracy, and are left out.
    """
    runs = {name: run for name, run in runs.items() if run.diverged_at is None}
    by_form = analysis.accuracy(runs).astype(float).groupby(experiments.form)
    squares = by_form.apply(lambda accuracy: ((accuracy - accuracy.mean()) ** 2).sum()).sum()
    freedom = len(runs) - by_form.ngroups
    return float(np.sqrt(squares / freedom)) if freedom else np.nan


def seeds(runs: dict[str, Run]) -> str:
    """With how many seeds each form is recorded: ``5 seeds``, or ``3 to 5 seeds``."""
    counts = [len(analysis.of_form(runs, form)) for form in set(map(experiments.form, runs))]
    span = " to ".join(map(str, sorted({min(counts), max(counts)})))
    return f"{span} seed{'s' if max(counts) > 1 else ''}"


def numbers(scale: str) -> prose.Numbers:
    """What the page on trust says of a scale: runs, seeds, time, what they ran on, and how they scatter.

    ``R_range`` is the greatest range of R of a convolution over seeds, of the three forms of SGD.
    Raises what `lib.running.runner.recorded` raises, when these are not recorded.
    """
    found = recorded(scale) | {"dynamics": runner.recorded("dynamics", scale)}
    runs = [run for by_name in found.values() for run in by_name.values()]
    tables = analysis.equilibrium_by_form(found["dynamics"]).values()
    ranges = [(t["high"] - t["low"]).drop(analysis.CLASSIFIER).max() for t in tables]
    return {
        "recorded": len(runs),
        "planned": sum(len(experiments.configs(name, scale)) for name in experiments.EXPERIMENTS),
        "seeds": "; ".join(f"{name} {seeds(of_one)}" for name, of_one in found.items() if of_one),
        "time": duration(sum(run.provenance["seconds"] for run in runs)),
        "longest": duration(max(run.provenance["seconds"] for run in runs)),
        "devices": _listed(device(run.provenance) for run in runs),
        "python": _listed(run.provenance["python"] for run in runs),
        "torch": _listed(run.provenance["torch"] for run in runs),
        "uncommitted": sum(run.provenance["commit"].endswith("-dirty") for run in runs),
        "scatter": round(100 * scatter(found["dynamics"]), 2),
        "R_range": round(float(max(ranges)), 3),
    }


def record_chapter(scale: str, chapter: str, seconds: float) -> None:
    """Keeps when, where and with what a chapter was executed, and in how many seconds."""
    path = _chapters_file(scale)
    made = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    made[chapter] = {"seconds": round(seconds, 1)} | machine.describe(torch.device("cpu"))
    with files.whole(path) as file:
        file.write((json.dumps(made, indent=1) + "\n").encode())


def chapters(scale: str) -> pd.DataFrame:
    """When, where and with what each chapter was executed last, and in how many seconds.

    Raises OSError when no chapter was.
    """
    made = json.loads(_chapters_file(scale).read_text(encoding="utf-8"))
    columns = ["seconds", "date", "processor", "cores", "python", "torch"]
    return pd.DataFrame.from_dict(made, orient="index")[columns].rename_axis(columns="chapter")


def _chapters_file(scale: str) -> Path:
    # what is executed in place comes with the book
    folder = paths.BOOK if scale == experiments.DEFAULT_SCALE else paths.BUILD / scale
    return folder / "chapters.json"


def findings(scale: str) -> str:
    """What was found, as the README has it: Markdown, every number from the records of a scale."""
    n = prose.of_chapter("index", scale)
    runs = runner.recorded("dynamics", scale)
    within = {form: f"{n[f'{form}_within']} of {n[f'{form}_layers']}" for form in ("sgd", "heavy-ball")}
    between = {form: f"{n[f'{form}_low']:.2f} to {n[f'{form}_high']:.2f}" for form in within}
    corrected = f"{n['heavy-ball_corrected_low']:.2f} to {n['heavy-ball_corrected_high']:.2f}"
    return f"""\
R is the measured λ|g|/|w| over the formula's value, in the middle of training, over {seeds(analysis.with_steps(runs))}:

- Without momentum {within["sgd"]} convolutions are within 10 % of the formula, with R from {between["sgd"]}.
- With momentum 0.9 it is {within["heavy-ball"]}, with R from {between["heavy-ball"]}. The formula takes successive gradients for
  uncorrelated, and they are not quite. Corrected for the correlation that was measured, R runs from {corrected}.
- The classifier has no batch norm behind it. The formula says nothing about it, and it is off: R is {n["sgd_classifier"]:.2f}
  without momentum and {n["heavy-ball_classifier"]:.2f} with it.
- Test accuracy at the end, over {seeds(runs)}: {n["sgd_accuracy"]:.1f} % without momentum, {n["heavy-ball_accuracy"]:.1f} % with heavy-ball,
  {n["nesterov_accuracy"]:.1f} % with Nesterov.
"""

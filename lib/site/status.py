"""What is recorded, from where and by what; and the findings in the README, from the same records."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd

from .. import experiments, library, paths, scales
from ..machinery import files, machine, sources
from ..results import analysis, prose
from ..run import Run
from ..scales import Chosen

NONE = "–"
CHAPTERS_FILE = "chapters.json"


def table() -> pd.DataFrame:
    """For each scale and experiment what is recorded, and when, where and by what it was trained.

    ``made by`` counts the records of each `lib.machinery.sources.origin`. ``scatter`` is that of `scatter`, in percent.
    """
    rows = [
        {"scale": scale, "experiment": experiment} | _row(experiment, scale)
        for scale in scales.SCALES
        for experiment in experiments.EXPERIMENTS
    ]
    return pd.DataFrame(rows).set_index(["scale", "experiment"])


def _row(experiment: str, scale: str) -> dict[str, str]:
    planned = experiments.planned(scale, [experiment])
    forms = library.forms(scale, experiment)
    runs = [run for of_form in forms.values() for run in of_form]
    origins: list[dict] = [run.provenance for run in runs]
    dates = sorted({origin["date"] for origin in origins})
    across = 100 * scatter(forms)
    diverged = sum(run.diverged_at is not None for run in runs)
    return {
        "recorded": f"{len(runs)} of {len(planned)}" + (f", {diverged} diverged" if diverged else ""),
        "dates": " to ".join(dict.fromkeys([*dates[:1], *dates[-1:]])) or NONE,
        "device": _listed(device(origin) for origin in origins),
        "Python": _listed(origin["python"] for origin in origins),
        "torch": _listed(origin["torch"] for origin in origins),
        "made by": _listed(
            f"{count} by {made_by}" for made_by, count in Counter(map(sources.origin, origins)).items()
        ),
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


def duration(seconds: float) -> str:
    """A time in words: ``45 s``, ``12 min`` or ``3.1 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def scatter(forms: dict[str, list[Run]]) -> float:
    """Standard deviation of the final accuracy over seeds, pooled over forms; NaN where each has one seed.

    Runs that diverged have no final accuracy, and are left out.
    """
    of_forms = [analysis.accuracy(run for run in runs if run.diverged_at is None) for runs in forms.values()]
    squares = sum(((accuracy - accuracy.mean()) ** 2).sum() for accuracy in of_forms if len(accuracy))
    freedom = sum(len(accuracy) - 1 for accuracy in of_forms if len(accuracy))
    return float(np.sqrt(squares / freedom)) if freedom else np.nan


def seeds(forms: dict[str, list[Run]]) -> str:
    """With how many seeds each form is recorded: ``5 seeds``, or ``3 to 5 seeds``."""
    counts = [len(runs) for runs in forms.values() if runs]
    span = " to ".join(map(str, sorted({min(counts), max(counts)})))
    return f"{span} seed{'s' if max(counts) > 1 else ''}"


def numbers(scale: str | Chosen) -> prose.Numbers:
    """What the page on trust says of a scale: runs, seeds, time, what they ran on, and how they scatter.

    ``R_range`` is the greatest range of R of a convolution over seeds, of the three forms of SGD.
    Raises what `lib.library.runs` raises, when these are not recorded.
    """
    library.runs(scale, "dynamics")  # refuses a scale without them
    found = {experiment: library.forms(scale, experiment) for experiment in experiments.EXPERIMENTS}
    runs = [run for forms in found.values() for of_form in forms.values() for run in of_form]
    origins: list[dict] = [run.provenance for run in runs]
    tables = [analysis.equilibrium(of_form) for of_form in found["dynamics"].values()]
    ranges = [(t["high"] - t["low"]).drop(analysis.CLASSIFIER).max() for t in tables]
    return {
        "recorded": len(runs),
        "planned": len(experiments.planned(scale)),
        "seeds": "; ".join(
            f"{name} {seeds(of_one)}" for name, of_one in found.items() if any(of_one.values())
        ),
        "time": duration(sum(origin["seconds"] for origin in origins)),
        "longest": duration(max(origin["seconds"] for origin in origins)),
        "devices": _listed(map(device, origins)),
        "python": _listed(origin["python"] for origin in origins),
        "torch": _listed(origin["torch"] for origin in origins),
        "uncommitted": sum(origin["commit"].endswith("-dirty") for origin in origins),
        "scatter": round(100 * scatter(found["dynamics"]), 2),
        "R_range": round(float(max(ranges)), 3),
    }


def record_chapter(folder: Path, chapter: str, seconds: float) -> None:
    """Keeps, in its folder, when, where and with what a chapter was executed, and in how many seconds."""
    path = folder / CHAPTERS_FILE
    made = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    made[chapter] = {"seconds": round(seconds, 1)} | machine.describe()
    with files.whole(path) as file:
        file.write((json.dumps(made, indent=1) + "\n").encode())


def chapters() -> pd.DataFrame:
    """When, where and with what each chapter was executed last, and in how many seconds.

    Those of the folder that this is executed in, or else those of the book. Raises OSError when no chapter was.
    """
    beside = Path(CHAPTERS_FILE)
    path = beside if beside.exists() else paths.BOOK / CHAPTERS_FILE
    made = json.loads(path.read_text(encoding="utf-8"))
    columns = ["seconds", "date", "processor", "cores", "python", "torch"]
    return pd.DataFrame.from_dict(made, orient="index")[columns].rename_axis(columns="chapter")


def findings(scale: str) -> str:
    """What was found, as the README has it: Markdown, every number from the records of a scale."""
    n = prose.of_chapter("index", scale)
    forms = library.forms(scale, "dynamics")
    with_steps = {form: analysis.with_steps(runs) for form, runs in forms.items()}
    within = {form: f"{n[f'{form}_within']} of {n[f'{form}_layers']}" for form in ("sgd", "heavy-ball")}
    between = {form: f"{n[f'{form}_low']:.2f} to {n[f'{form}_high']:.2f}" for form in within}
    corrected = f"{n['heavy-ball_corrected_low']:.2f} to {n['heavy-ball_corrected_high']:.2f}"
    return f"""\
R is the measured λ|g|/|w| over the formula's value, in the middle of training, over {seeds(with_steps)}:

- The angle by which a step turns the weights is what momentum leaves alone: with heavy-ball it is {n["heavy-ball_turn_low"]:.2f} to
  {n["heavy-ball_turn_high"]:.2f} of √(2λα/(1+ρ)), however gradients are correlated.
- Without momentum {within["sgd"]} convolutions are within 10 % of the formula, with R from {between["sgd"]}.
- With momentum 0.9 it is {within["heavy-ball"]}, with R from {between["heavy-ball"]}. The formula takes successive gradients for
  uncorrelated, and they are not quite. Corrected for the correlation that was measured, R runs from {corrected}.
- The classifier has no batch norm behind it. The formula says nothing about it, and it is off: R is {n["sgd_classifier"]:.2f}
  without momentum and {n["heavy-ball_classifier"]:.2f} with it.
- Test accuracy at the end, over {seeds(forms)}: {n["sgd_accuracy"]:.1f} % without momentum, {n["heavy-ball_accuracy"]:.1f} % with heavy-ball,
  {n["nesterov_accuracy"]:.1f} % with Nesterov.
- {n["full_size"]}
"""

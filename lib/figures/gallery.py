"""Every figure of the book by name, from the records of a scale: what is drawn, and its source."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from IPython.display import SVG, Markdown
from matplotlib.figure import Figure

from .. import data, experiments
from ..results import analysis, costs, learning_rates
from ..running import runner
from ..training import Run
from . import diagrams, plots, style

#: The figure, its numbers, and the runs that they are from, or what else they are from in words.
Drawn = tuple[Figure, pd.DataFrame, dict[str, Run] | str]
SUFFIXES = (".svg", ".png", ".pdf", ".csv")
FORMS = ("sgd", "heavy-ball", "nesterov")


@dataclass(frozen=True, eq=False)
class Picture:
    """A figure, the numbers it shows as a table, and a line of Markdown on where they come from."""

    figure: Figure
    numbers: pd.DataFrame
    source: str


def picture(name: str, scale: str) -> Picture:
    """The figure of that name, from the records of a scale.

    Raises ValueError when there is no such figure or scale, and what `lib.running.runner.recorded` raises.
    """
    if name not in FIGURES:
        raise ValueError(f"figure={name!r} is not known; it must be one of {', '.join(FIGURES)}")
    experiments.base(scale)  # refuses an unknown scale
    figure, numbers, runs = FIGURES[name](scale)
    command = f"`python -m lib figure {name} --scale {scale}`"  # as code: prose makes a dash of two hyphens
    about = runs if isinstance(runs, str) else analysis.describe(runs, scale)
    return Picture(figure, numbers, f"{about}; {command}")


def show(name: str, scale: str) -> SVG:
    """The figure, for a chapter to show; its source is glued as ``source-<name>``, in Markdown."""
    from myst_nb import glue

    drawn = picture(name, scale)
    glue(f"source-{name}", Markdown(drawn.source), display=False)
    return style.shown(drawn.figure)


def save(name: str, scale: str, path: str | Path) -> Path:
    """Writes the figure, or its numbers, to a file whose suffix says which format.

    Raises ValueError on another suffix, OSError when the file cannot be written.
    """
    path = Path(path)
    if path.suffix not in SUFFIXES:
        raise ValueError(f"{path}: the name must end in one of {', '.join(SUFFIXES)}")
    drawn = picture(name, scale)
    if path.suffix == ".csv":
        if drawn.numbers.empty:
            raise ValueError(f"{name} is a drawing; it has no numbers to write to {path}")
        drawn.numbers.to_csv(path, index=drawn.numbers.index.names != [None])
    else:
        style.save(drawn.figure, path, path.suffix[1:])
    return path


def _runs(scale: str, form: str, experiment: str = "dynamics") -> dict[str, Run]:
    return analysis.of_form(runner.recorded(experiment, scale), form)


def _first(scale: str, form: str, experiment: str = "dynamics") -> dict[str, Run]:
    """The first seed of a form: what a figure of single steps shows."""
    return dict(list(_runs(scale, form, experiment).items())[:1])


def _steps(runs: dict[str, Run]) -> pd.DataFrame:
    (run,) = runs.values()
    return analysis.convolutions(analysis.dynamics(run))


def _columns(table: pd.DataFrame, *names: str) -> pd.DataFrame:
    return table[["layer", "epoch", *names]].reset_index(drop=True)


def _stacked(tables: dict[str, pd.DataFrame], name: str) -> pd.DataFrame:
    """The tables one below the other, with their keys in a first column of that name."""
    return pd.concat(tables, names=[name]).reset_index(name).reset_index(drop=True)


def _norm_change(scale: str, column: str) -> Drawn:
    runs = _first(scale, "sgd")
    table = _steps(runs)
    limits = plots.shared_limits(table["growth"], table["shrinkage"])  # those of both figures
    return plots.norm_change(table, column, limits), _columns(table, column), runs


def _balance(scale: str) -> Drawn:
    runs = _first(scale, "sgd")
    table = _steps(runs)
    return plots.balance(table), _columns(table, "growth", "shrinkage"), runs


def _weight_norms(scale: str) -> Drawn:
    runs = _first(scale, "sgd")
    table = _steps(runs)
    return plots.weight_norms(table), _columns(table, "norm_sq_relative"), runs


def _step(scale: str, form: str, line: str) -> Drawn:
    runs = _first(scale, form)
    table = _steps(runs)
    return plots.effective_step(table, line), _columns(table, "ratio", "predicted"), runs


def _correlation(scale: str) -> Drawn:
    runs = _first(scale, "heavy-ball")
    table = _steps(runs)
    return plots.gradient_correlation(table), _columns(table, "correlation"), runs


def _lag(scale: str) -> Drawn:
    runs = _first(scale, "sgd")
    table = analysis.ratio_by_epoch(*runs.values())
    return plots.ratio_by_epoch(table), table, runs


def _equilibrium(scale: str, forms: tuple[str, ...], tolerance: float, draw=plots.equilibrium) -> Drawn:
    runs = {name: run for form in forms for name, run in _runs(scale, form).items()}
    runs = analysis.with_steps(runs)
    tables = analysis.equilibrium_by_form(runs)
    return draw(tables, tolerance=tolerance), pd.concat(tables, names=["form"]), runs


def _accuracy(scale: str, forms: dict[str, str]) -> Drawn:
    """Learning curves of some forms, given with the experiment that each is of."""
    by_form = {form: _runs(scale, form, experiment) for form, experiment in forms.items()}
    runs = {name: run for found in by_form.values() for name, run in found.items()}
    numbers = pd.concat({name: run.epochs.set_index("epoch") for name, run in runs.items()}, names=["run"])
    tables = {form: [run.epochs for run in found.values()] for form, found in by_form.items()}
    return plots.learning_curves(tables), numbers, runs


def _noise(scale: str) -> Drawn:
    runs = _runs(scale, "frozen", "gradient-noise")
    table = analysis.noise(runs)
    return plots.gradient_noise(table), table, runs


def _batch_sizes(scale: str) -> Drawn:
    runs = _first(scale, "heavy-ball") | _first(scale, "quarter-batch", "batch-size")
    tables = {f"N = {run.config.batch_size}": _steps({"": run}) for run in runs.values()}
    numbers = {batch: _columns(t, "ratio", "predicted") for batch, t in tables.items()}
    return plots.batch_sizes(tables), _stacked(numbers, "batch"), runs


def _side_by_side(scale: str, column: str, label: str, log: bool = False) -> Drawn:
    runs = _first(scale, "heavy-ball") | _first(scale, "lars", "lars")
    tables = {experiments.form(name): _steps({"": run}) for name, run in runs.items()}
    numbers = {form: _columns(t, column) for form, t in tables.items()}
    return plots.side_by_side(tables, column, label, log), _stacked(numbers, "form"), runs


def _learning_rates(scale: str, smooth: bool) -> Drawn:
    runs = runner.recorded("sweep", scale)
    table = learning_rates.table(runs)
    if not smooth:
        return plots.accuracy_against_lr(table), table, runs
    table = learning_rates.with_enough(table)
    curves = learning_rates.smoothed(table)
    return plots.accuracy_against_lr(table, curves, learning_rates.optima(table)), curves, runs


def _schedule(scale: str) -> Drawn:
    base = experiments.base(scale)
    numbers = pd.DataFrame({"epoch": range(base.epochs + 1)})
    numbers["lr"] = base.lr_schedule(numbers["epoch"])
    return plots.schedule(base.lr_schedule, base.epochs), numbers, f"scale {scale}"


def _network(scale: str) -> Drawn:
    base = experiments.base(scale)
    figure = diagrams.network(base, image_size={"digits": 16, "cifar10": 32}[base.dataset])
    return figure, pd.DataFrame(), f"scale {scale}"


def _augmentation(scale: str) -> Drawn:
    return plots.images(data.examples(experiments.base(scale).dataset)), pd.DataFrame(), f"scale {scale}"


def _cost(scale: str) -> Drawn:
    measured, _ = costs.read()
    table, base = costs.per_image(measured), experiments.base("small")
    m = measured[0].machine
    source = f"{m['processor']}, {m['cores']} cores, {m['date']}"
    return plots.cost(table, base.width, base.batch_size), table, source


#: The figures in the order of the chapters; those of the post with their number there.
FIGURES: dict[str, Callable[[str], Drawn]] = {
    "overview": lambda scale: _equilibrium(scale, FORMS, 0.10),
    "augmentation": _augmentation,
    "network": _network,
    "schedule": _schedule,
    "baseline": lambda scale: _accuracy(scale, dict.fromkeys(FORMS, "dynamics")),
    "shrinkage": lambda scale: _norm_change(scale, "shrinkage"),  # 1
    "growth": lambda scale: _norm_change(scale, "growth"),  # 2
    "balance": _balance,  # 3
    "norms": _weight_norms,  # 4
    "step": lambda scale: _step(scale, "sgd", "√(2λα)"),  # 5
    "sgd-equilibrium": lambda scale: _equilibrium(scale, ("sgd",), 0.10),
    "lag": _lag,
    "correlation": _correlation,  # 6
    "noise": _noise,
    "batch-sizes": _batch_sizes,
    "momentum-step": lambda scale: _step(scale, "heavy-ball", "√(2λα(1−ρ))"),  # 7
    "forms": lambda scale: _equilibrium(scale, FORMS, 0.15),
    "corrected": lambda scale: _equilibrium(scale, ("heavy-ball", "nesterov"), 0.05, plots.correction),
    "lars-norms": lambda scale: _side_by_side(
        scale, "norm_sq_relative", "|w|², relative to the start", log=True
    ),
    "lars-turns": lambda scale: _side_by_side(scale, "turn", "|Δw|/|w|"),
    "lars-accuracy": lambda scale: _accuracy(scale, {"heavy-ball": "dynamics", "lars": "lars"}),
    "learning-rates": lambda scale: _learning_rates(scale, smooth=True),  # 8
    "learning-rates-raw": lambda scale: _learning_rates(scale, smooth=False),  # 9
    "cost": _cost,
}

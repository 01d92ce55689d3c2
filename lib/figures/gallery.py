"""Every figure of the book by name, from the records of a scale: what is drawn, and its source."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from IPython.display import SVG, Markdown
from matplotlib.figure import Figure

from .. import library, paths, scales
from ..library import Given
from ..machinery import files, speeds
from ..results import (
    analysis,
    answers,
    claims,
    costs,
    learning_rates,
    precisions,
    tops,
    verdicts,
)
from ..run import DivergedError, Run
from ..scales import Chosen
from . import collapse, comparisons, diagrams, examples, open_questions, plots, reduced, strips, style
from . import precisions as precision_figure
from .beside import behind

#: The figure, its numbers, and the runs that they are from, or what else they are from in words.
Drawn = tuple[Figure, pd.DataFrame, list[Run] | str]
SUFFIXES = (".svg", ".png", ".pdf", ".csv")
FORMS = ("sgd", "heavy-ball", "nesterov")


@dataclass(frozen=True, eq=False)
class Picture:
    """A figure, the numbers it shows as a table, and a line of Markdown on where they come from."""

    figure: Figure
    numbers: pd.DataFrame
    source: str


def picture(name: str, scale: str | Chosen | Given, beside: bool = False) -> Picture:
    """The figure of that name, from the records of a scale, at settings of one's own, or from a run of one's own.

    With ``beside``, that of the recorded runs is drawn in grey behind. Raises ValueError when there is no such
    figure or scale, or it cannot be drawn from that run, and what `lib.library.runs` raises.
    """
    check_known(name)
    if not isinstance(scale, Given):
        scale = scales.chosen(scale)
    figure, numbers, runs = FIGURES[name](scale)
    about = runs if isinstance(runs, str) else analysis.describe(runs, scale)
    options = f"{scale.options} --beside" if beside else scale.options
    source = f"{about}; `{paths.COMMAND} figure {name} {options}`"  # code: prose makes a dash of two hyphens
    if beside:
        recorded, _, runs = FIGURES[name](scale.scale)
        figure = behind(figure, recorded)
        source += f"; grey: {runs if isinstance(runs, str) else analysis.describe(runs, scale.scale)}"
    return Picture(figure, numbers, source)


def check_known(name: str) -> None:
    """Raises ValueError when there is no such figure."""
    if name not in FIGURES:
        raise ValueError(f"figure={name!r} is not known; it must be one of {', '.join(FIGURES)}")


def show(name: str, scale: str | Chosen) -> SVG:
    """The figure, for a chapter to show; its source is glued as ``source-<name>``, in Markdown.

    Raises what `picture` raises; that it is not drawn is glued before.
    """
    from myst_nb import glue

    try:
        drawn = picture(name, scale)
    except (DivergedError, ValueError):
        glue(f"source-{name}", Markdown("not drawn, see above"), display=False)
        raise
    glue(f"source-{name}", Markdown(drawn.source), display=False)
    return style.shown(drawn.figure)


def save(name: str, scale: str | Chosen | Given, path: str | Path, beside: bool = False) -> Path:
    """Writes the figure, or its numbers, to a file whose suffix says which format; to a device as SVG.

    Raises ValueError on another suffix, OSError when the file cannot be written.
    """
    path, suffix = Path(path), check_suffix(path)
    drawn = picture(name, scale, beside)
    if suffix == ".csv" and drawn.numbers.empty:
        raise ValueError(f"{name} is a drawing; it has no numbers to write to {path}")
    with files.whole(path) as file:
        if suffix == ".csv":
            file.write(table(drawn))
        else:
            style.save(drawn.figure, file, suffix[1:])
    return path


def table(drawn: Picture) -> bytes:
    """The numbers of a figure as CSV, to four digits, which is more than can be read from it."""
    indexed = drawn.numbers.index.names != [None]
    return drawn.numbers.to_csv(index=indexed, float_format="%.4g", lineterminator="\n").encode()


def check_suffix(path: str | Path) -> str:
    """The format of a file, by its suffix; raises ValueError when figures have none of that kind."""
    path = Path(path)
    suffix = path.suffix or (".svg" if files.is_stream(path) else "")
    if suffix not in SUFFIXES:
        raise ValueError(f"{path}: the name must end in one of {', '.join(SUFFIXES)}")
    return suffix


def _first(scale: str, name: str) -> Run:
    """The first run of a form, as far as it went; raises DivergedError when it diverged before its first epoch ended."""
    run = library.first(scale, name, as_far=True)
    if run.diverged_at is not None and run.epochs.empty:
        raise DivergedError(run)
    return run


def _steps(run: Run) -> pd.DataFrame:
    return analysis.convolutions(analysis.dynamics(run))


def _columns(table: pd.DataFrame, *names: str) -> pd.DataFrame:
    """These columns of the steps that are drawn as circles."""
    return reduced.thinned(table)[["layer", "epoch", *names]].reset_index(drop=True)


def _together(*tables: pd.DataFrame) -> pd.DataFrame:
    """What is drawn at other places of an axis in rows of its own, blank where it has no number."""
    return pd.concat(tables, ignore_index=True)


def _named(tables: dict[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """The tables of forms by what readers call them."""
    return {style.form_name(form): table for form, table in tables.items()}


def _stacked(tables: dict[str, pd.DataFrame], name: str) -> pd.DataFrame:
    """The tables one below the other, with their keys in a first column of that name."""
    return pd.concat(tables, names=[name]).reset_index(name).reset_index(drop=True)


def _norm_change(scale: str, column: str) -> Drawn:
    run = _first(scale, "dynamics/sgd")
    table = _steps(run)
    limits = plots.shared_limits(table["growth"], table["shrinkage"])  # those of both figures
    return plots.norm_change(table, column, limits), reduced.averaged(table, column), [run]


def _balance(scale: str) -> Drawn:
    run = _first(scale, "dynamics/sgd")
    table = _steps(run)
    circles, ratios = _columns(table, "growth", "shrinkage"), plots.growth_over_shrinkage(table)
    return plots.balance(table), _together(circles, ratios), [run]


def _weight_norms(scale: str) -> Drawn:
    run = _first(scale, "dynamics/sgd")
    table = _steps(run)
    return plots.weight_norms(table), reduced.averaged(table, "norm_sq_relative"), [run]


def _step(scale: str, form: str, line: str) -> Drawn:
    run = _first(scale, f"dynamics/{form}")
    table = _steps(run)
    return plots.effective_step(table, line), _columns(table, "ratio", "predicted"), [run]


def _correlation(scale: str) -> Drawn:
    run = _first(scale, "dynamics/heavy-ball")
    table = _steps(run)
    means = reduced.means(table, "correlation").rename(columns={"correlation": "mean of the epoch"})
    return plots.gradient_correlation(table), _together(_columns(table, "correlation"), means), [run]


def _lag(scale: str, form: str) -> Drawn:
    run, *others = analysis.with_steps(library.runs(scale, f"dynamics/{form}"))
    table = analysis.ratio_by_epoch(run, others)
    return plots.ratio_by_epoch(table), table.dropna(axis=1, how="all"), [run, *others]


def _rotation(scale: str, *names: str) -> Drawn:
    """Of the convolutions: the classifier, far off, would leave no room to tell them apart."""
    forms = {name.partition("/")[2]: analysis.with_steps(library.runs(scale, name)) for name in names}
    tables = {f: analysis.rotations(runs).drop(index=analysis.CLASSIFIER) for f, runs in forms.items()}
    figure = comparisons.equilibrium(tables, 0.05, "rotation")
    numbers = pd.concat(_named(tables), names=["form"]).rename(columns={"R": "rotation"})
    return figure, numbers, _all(forms)


def _claims(scale: str, chapter: str | None) -> Drawn:
    """Claims of a chapter drawn, or all at a glance; the numbers are those of every layer."""
    some = claims.of_chapter(chapter)
    judged = verdicts.judged(some, verdicts.recorded(scale, some))
    draw = strips.strips if chapter else strips.overview
    numbers = {c.name: found.layers if chapter else strips.relative(found) for c, found in judged if found}
    table = pd.concat(numbers, names=["claim", "layer"]) if numbers else pd.DataFrame()
    return draw(judged), table, f"scale {scale}: {verdicts.about(scale)}"


def _equilibrium(scale: str, names: tuple[str, ...], tolerance: float, corrected: bool = False) -> Drawn:
    """R of some forms, with its range over seeds, or beside it what the correction makes of it."""
    forms = {name: analysis.with_steps(library.runs(scale, f"dynamics/{name}")) for name in names}
    tables = {name: analysis.equilibrium(runs) for name, runs in forms.items()}
    draw = comparisons.correction if corrected else comparisons.equilibrium
    shown = ["R", "R_corrected"] if corrected else ["R", "low", "high"]
    return draw(tables, tolerance=tolerance), pd.concat(_named(tables), names=["form"])[shown], _all(forms)


def _accuracy(scale: str, *names: str) -> Drawn:
    """Learning curves of some forms, each given as ``experiment/form``."""
    forms = {name.partition("/")[2]: library.runs(scale, name, as_far=True) for name in names}
    for run in _all(forms):
        if run.epochs.empty:
            raise DivergedError(run)
    tables = {form: [run.epochs for run in runs] for form, runs in forms.items()}
    numbers = {form: reduced.over_runs(each, "test_accuracy") for form, each in tables.items()}
    return comparisons.learning_curves(tables), _stacked(_named(numbers), "form"), _all(forms)


def _all(forms: dict[str, list[Run]]) -> list[Run]:
    return [run for runs in forms.values() for run in runs]


def _noise(scale: str) -> Drawn:
    runs = library.runs(scale, "gradient-noise/frozen")
    table = analysis.noise(runs)
    return comparisons.gradient_noise(table), comparisons.noise_norms(table), runs


def _batch_sizes(scale: str) -> Drawn:
    runs = [_first(scale, name) for name in ("dynamics/heavy-ball", "batch-size/quarter-batch")]
    tables = {f"N = {run.config.batch_size}": _steps(run) for run in runs}
    numbers = {batch: reduced.root_mean_squares(t, ["ratio", "predicted"]) for batch, t in tables.items()}
    return plots.batch_sizes(tables), _stacked(numbers, "batch"), runs


def _side_by_side(scale: str, column: str, label: str, log: bool = False) -> Drawn:
    runs = {
        "heavy-ball": _first(scale, "dynamics/heavy-ball"),
        "lars": _first(scale, "lars/lars"),
    }
    tables = {form: _steps(run) for form, run in runs.items()}
    numbers = {form: reduced.averaged(t, column) for form, t in tables.items()}
    return plots.side_by_side(tables, column, label, log), _stacked(numbers, "form"), list(runs.values())


def _learning_rates(scale: str, smooth: bool) -> Drawn:
    runs = library.runs(scale, "sweep")
    table = learning_rates.table(runs)
    if not smooth:
        by = [table["architecture"], table["lr"]]
        means = table.groupby(by, observed=True)["accuracy"].transform("mean")
        return comparisons.accuracy_against_lr(table), table.assign(mean=means), runs
    table = learning_rates.with_enough(table)
    curves = learning_rates.smoothed(table)
    optima = tops.optima(table)
    diverged = table.loc[table["diverged"], ["architecture", "lr"]]
    drawn = {"curve": curves, "λ*": comparisons.marks(curves, optima), "diverged": diverged}
    return comparisons.accuracy_against_lr(table, curves, optima), _stacked(drawn, "what"), runs


def _schedule(scale: str) -> Drawn:
    base = scales.base(scale)
    numbers = pd.DataFrame({"epoch": range(base.epochs + 1)})
    numbers["lr"] = base.lr_schedule(numbers["epoch"])
    return comparisons.schedule(base.lr_schedule, base.epochs), numbers, f"scale {scale}"


def _network(scale: str) -> Drawn:
    base = scales.base(scale)
    figure = diagrams.network(base, image_size={"digits": 16, "cifar10": 32}[base.dataset])
    return figure, pd.DataFrame(), f"scale {scale}"


def _augmentation(scale: str) -> Drawn:
    dataset = scales.base(scale).dataset
    return (
        comparisons.images(examples.read(dataset)),
        pd.DataFrame(),
        f"scale {scale}: {examples.SOURCES[dataset]}",
    )


def _cost(scale: str) -> Drawn:
    measured, _ = speeds.read()
    table, base = costs.per_image(measured), scales.base("small")
    table = table[table["variant"].isin(style.VARIANTS)].reset_index(drop=True)
    m = measured[0].machine
    source = f"{m['processor']}, {m['cores']} cores, {m['date']}"
    return comparisons.cost(table, base.width, base.batch_size), table, source


def _precision(scale: str) -> Drawn:
    forms = precisions.recorded(scale)
    table = precisions.by_layer(forms)
    numbers = table.assign(form=table["form"].map(style.form_name))
    return precision_figure.side_by_side(table), numbers, _all({f: _all(runs) for f, runs in forms.items()})


def _vectors(scale: str) -> Drawn:
    points = {f"|w| = {length:g}": diagrams.step(length) for length in (0.5, 1.0)}
    numbers = {name: pd.DataFrame(at, columns=["x", "y"]) for name, at in points.items()}
    return diagrams.vectors(), _stacked(numbers, "vector"), f"scale {scale}: drawn from the formula"


def _collapse(scale: str) -> Drawn:
    run = _first(scale, "dynamics/sgd")
    table = collapse.table(_steps(run))
    return collapse.layers(table, "√(2λα)"), table, [run]


#: The figures in the order of the chapters; those of the post with their number there.
FIGURES: dict[str, Callable[[Any], Drawn]] = {
    "vectors": _vectors,
    "collapse": _collapse,
    "overview": lambda scale: _equilibrium(scale, FORMS, 0.10),
    "augmentation": _augmentation,
    "network": _network,
    "schedule": _schedule,
    "baseline": lambda scale: _accuracy(scale, *(f"dynamics/{form}" for form in FORMS)),
    "shrinkage": lambda scale: _norm_change(scale, "shrinkage"),  # 1
    "growth": lambda scale: _norm_change(scale, "growth"),  # 2
    "balance": _balance,  # 3
    "norms": _weight_norms,  # 4
    "step": lambda scale: _step(scale, "sgd", "√(2λα)"),  # 5
    "sgd-equilibrium": lambda scale: _equilibrium(scale, ("sgd",), 0.10),
    "lag": lambda scale: _lag(scale, "sgd"),
    "correlation": _correlation,  # 6
    "noise": _noise,
    "batch-sizes": _batch_sizes,
    "momentum-step": lambda scale: _step(scale, "heavy-ball", "√(2λα(1−ρ))"),  # 7
    "forms": lambda scale: _equilibrium(scale, FORMS, 0.15),
    "corrected": lambda scale: _equilibrium(scale, ("heavy-ball", "nesterov"), 0.05, corrected=True),
    "momentum-lag": lambda scale: _lag(scale, "heavy-ball"),
    "rotation": lambda scale: _rotation(scale, "dynamics/heavy-ball", "dynamics/nesterov"),
    "lars-rotation": lambda scale: _rotation(scale, "lars/lars"),
    "lars-norms": lambda scale: _side_by_side(
        scale, "norm_sq_relative", "|w|², relative to the start", log=True
    ),
    "lars-turns": lambda scale: _side_by_side(scale, "turn", "|Δw|/|w|"),
    "lars-accuracy": lambda scale: _accuracy(scale, "dynamics/heavy-ball", "lars/lars"),
    "learning-rates": lambda scale: _learning_rates(scale, smooth=True),  # 8
    "learning-rates-raw": lambda scale: _learning_rates(scale, smooth=False),  # 9
    **open_questions.FIGURES,
    "cost": _cost,
    "precision": _precision,
    "claims": lambda scale: _claims(scale, None),
    "claims-dynamics": lambda scale: _claims(scale, "dynamics"),
    "claims-equilibrium": lambda scale: _claims(scale, "equilibrium"),
    "claims-batch-size": lambda scale: _claims(scale, "batch-size"),
    "claims-momentum": lambda scale: _claims(scale, "momentum"),
    "claims-lars": lambda scale: _claims(scale, "lars"),
    "claims-learning-rates": lambda scale: _claims(scale, "learning-rates"),
    **{f"claims-{chapter}": partial(_claims, chapter=chapter) for chapter in answers.ANSWERS},
}

"""The figures of the post's story from the records of a scale: each function gives one, or a few that are alike.

`lib.figures.gallery` has their names. ``scale`` is as of `lib.library.runs`, which also says what they raise.
"""

from functools import partial

import pandas as pd

from .. import library, scales
from ..machinery import speeds
from ..results import analysis, claims, costs, learning_rates, precisions, tops, verdicts
from ..run import DivergedError, Run
from . import collapse, comparisons, diagrams, examples, plots, reduced, strips, style
from . import precisions as precision_figure
from .drawn import Drawn, all_runs


def _first(scale: str, name: str) -> Run:
    """The first run of a form, as far as it went; raises DivergedError when it diverged before its first epoch ended."""
    run = library.first(scale, name, as_far=True)
    if run.diverged_at is not None and run.epochs.empty:
        raise DivergedError(run)
    return run


def _steps(run: Run) -> pd.DataFrame:
    return analysis.convolutions(analysis.dynamics(run))


def _named(tables: dict[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """The tables of forms by what readers call them."""
    return {style.form_name(form): table for form, table in tables.items()}


def _stacked(tables: dict[str, pd.DataFrame], name: str) -> pd.DataFrame:
    """The tables one below the other, with their keys in a first column of that name."""
    return pd.concat(tables, names=[name]).reset_index(name).reset_index(drop=True)


def vectors(scale: str) -> Drawn:
    """The same gradient moves short weights further than long ones."""
    points = {f"|w| = {length:g}": diagrams.step(length) for length in (0.5, 1.0)}
    numbers = {name: pd.DataFrame(at, columns=["x", "y"]) for name, at in points.items()}
    return diagrams.vectors, _stacked(numbers, "vector"), f"scale {scale}: drawn from the formula"


def collapsed(scale: str) -> Drawn:
    """Norms and gradients that differ from layer to layer, and steps that do not."""
    run = _first(scale, "dynamics/sgd")
    table = collapse.table(_steps(run))
    return partial(collapse.layers, table, "√(2λα)"), table, [run]


def augmentation(scale: str) -> Drawn:
    """Images as they are, and as training sees them."""
    dataset = scales.base(scale).dataset
    draw = partial(comparisons.images, examples.read(dataset))
    return draw, pd.DataFrame(), f"scale {scale}: {examples.SOURCES[dataset]}"


def network(scale: str) -> Drawn:
    """The network of the base run."""
    base = scales.base(scale)
    draw = partial(diagrams.network, base, image_size={"digits": 16, "cifar10": 32}[base.dataset])
    return draw, pd.DataFrame(), f"scale {scale}"


def schedule(scale: str) -> Drawn:
    """λ against the epoch."""
    base = scales.base(scale)
    numbers = pd.DataFrame({"epoch": range(base.epochs + 1)})
    numbers["lr"] = base.lr_schedule(numbers["epoch"])
    return partial(comparisons.schedule, base.lr_schedule, base.epochs), numbers, f"scale {scale}"


def accuracy(scale: str, *names: str) -> Drawn:
    """Learning curves of some forms, each given as ``experiment/form``."""
    forms = {name.partition("/")[2]: library.runs(scale, name, as_far=True) for name in names}
    for run in all_runs(forms):
        if run.epochs.empty:
            raise DivergedError(run)
    tables = {form: [run.epochs for run in runs] for form, runs in forms.items()}
    numbers = {form: reduced.over_runs(each, "test_accuracy") for form, each in tables.items()}
    draw = partial(comparisons.learning_curves, tables)
    return draw, _stacked(_named(numbers), "form"), all_runs(forms)


def norm_change(scale: str, column: str) -> Drawn:
    """Figures 1 and 2: what shrinks |w|², or what makes it grow."""
    run = _first(scale, "dynamics/sgd")
    table = _steps(run)
    limits = plots.shared_limits(table["growth"], table["shrinkage"])  # those of both figures
    draw = partial(plots.norm_change, table, column, limits)
    return draw, reduced.averaged(table, column), [run]


def balance(scale: str) -> Drawn:
    """Figure 3: both, and their ratio, whose rows are their own."""
    run = _first(scale, "dynamics/sgd")
    table = _steps(run)
    circles, ratios = reduced.circles(table, "growth", "shrinkage"), plots.growth_over_shrinkage(table)
    return partial(plots.balance, table), pd.concat([circles, ratios], ignore_index=True), [run]


def weight_norms(scale: str) -> Drawn:
    """Figure 4: |w|² over that of the start."""
    run = _first(scale, "dynamics/sgd")
    table = _steps(run)
    return partial(plots.weight_norms, table), reduced.averaged(table, "norm_sq_relative"), [run]


def step(scale: str, form: str, line: str) -> Drawn:
    """Figures 5 and 7: λ|g|/|w| of a form, and its line, which is called so."""
    run = _first(scale, f"dynamics/{form}")
    table = _steps(run)
    draw = partial(plots.effective_step, table, line)
    return draw, reduced.circles(table, "ratio", "predicted"), [run]


def equilibrium(scale: str, names: tuple[str, ...], tolerance: float, corrected: bool = False) -> Drawn:
    """R of some forms, with its range over seeds, or beside it what the correction makes of it."""
    forms = {name: analysis.with_steps(library.runs(scale, f"dynamics/{name}")) for name in names}
    tables = {name: analysis.equilibrium(runs) for name, runs in forms.items()}
    draw = comparisons.correction if corrected else comparisons.equilibrium
    shown = ["R", "R_corrected"] if corrected else ["R", "low", "high"]
    return (
        partial(draw, tables, tolerance=tolerance),
        pd.concat(_named(tables), names=["form"])[shown],
        all_runs(forms),
    )


def lag(scale: str, form: str) -> Drawn:
    """R against the epoch, measured and from the norm equation."""
    run, *others = analysis.with_steps(library.runs(scale, f"dynamics/{form}"))
    table = analysis.ratio_by_epoch(run, others)
    return partial(plots.ratio_by_epoch, table), table.dropna(axis=1, how="all"), [run, *others]


def correlation(scale: str) -> Drawn:
    """Figure 6: κ of steps, and its means, whose rows are their own."""
    run = _first(scale, "dynamics/heavy-ball")
    table = _steps(run)
    means = reduced.means(table, "correlation").rename(columns={"correlation": "mean of the epoch"})
    numbers = pd.concat([reduced.circles(table, "correlation"), means], ignore_index=True)
    return partial(plots.gradient_correlation, table), numbers, [run]


def noise(scale: str) -> Drawn:
    """|g| against the batch size, at weights that are held still."""
    runs = library.runs(scale, "gradient-noise/frozen")
    table = analysis.noise(runs)
    return partial(comparisons.gradient_noise, table), comparisons.noise_norms(table), runs


def batch_sizes(scale: str) -> Drawn:
    """λ|g|/|w| with the whole batch and with a quarter."""
    runs = [_first(scale, name) for name in ("dynamics/heavy-ball", "batch-size/quarter-batch")]
    tables = {f"N = {run.config.batch_size}": _steps(run) for run in runs}
    numbers = {batch: reduced.root_mean_squares(t, ["ratio", "predicted"]) for batch, t in tables.items()}
    return partial(plots.batch_sizes, tables), _stacked(numbers, "batch"), runs


def rotation(scale: str, *names: str) -> Drawn:
    """|Δw|/|w| over its prediction: of the convolutions, as the classifier, far off, would leave no room for them."""
    forms = {name.partition("/")[2]: analysis.with_steps(library.runs(scale, name)) for name in names}
    tables = {f: analysis.rotations(runs).drop(index=analysis.CLASSIFIER) for f, runs in forms.items()}
    draw = partial(comparisons.equilibrium, tables, 0.05, "rotation")
    numbers = pd.concat(_named(tables), names=["form"]).rename(columns={"R": "rotation"})
    return draw, numbers, all_runs(forms)


def side_by_side(scale: str, column: str, label: str, log: bool = False) -> Drawn:
    """A column of `analysis.dynamics` of LARS and of the SGD whose rate it has."""
    runs = {
        "heavy-ball": _first(scale, "dynamics/heavy-ball"),
        "lars": _first(scale, "lars/lars"),
    }
    tables = {form: _steps(run) for form, run in runs.items()}
    numbers = {form: reduced.averaged(t, column) for form, t in tables.items()}
    draw = partial(plots.side_by_side, tables, column, label, log)
    return draw, _stacked(numbers, "form"), list(runs.values())


def sweep(scale: str, smooth: bool) -> Drawn:
    """Figures 8 and 9: accuracy against λ for several networks, as curves with their tops or as it was measured."""
    runs = library.runs(scale, "sweep")
    table = learning_rates.table(runs)
    if not smooth:
        by = [table["architecture"], table["lr"]]
        means = table.groupby(by, observed=True)["accuracy"].transform("mean")
        return partial(comparisons.accuracy_against_lr, table), table.assign(mean=means), runs
    table = learning_rates.with_enough(table)
    curves = learning_rates.smoothed(table)
    optima = tops.optima(table)
    diverged = table.loc[table["diverged"], ["architecture", "lr"]]
    drawn = {"curve": curves, "λ*": comparisons.marks(curves, optima), "diverged": diverged}
    draw = partial(comparisons.accuracy_against_lr, table, curves, optima)
    return draw, _stacked(drawn, "what"), runs


def cost(scale: str) -> Drawn:
    """What a training costs; it was measured once, whatever the scale."""
    measured, _ = speeds.read()
    table, base = costs.per_image(measured), scales.base("small")
    table = table[table["variant"].isin(style.VARIANTS)].reset_index(drop=True)
    m = measured[0].machine
    source = f"{m['processor']}, {m['cores']} cores, {m['date']}"
    return partial(comparisons.cost, table, base.width, base.batch_size), table, source


def precision(scale: str) -> Drawn:
    """What is measured in fp32 beside the same in bf16."""
    forms = precisions.recorded(scale)
    table = precisions.by_layer(forms)
    numbers = table.assign(form=table["form"].map(style.form_name))
    runs = [run for of_precisions in forms.values() for run in all_runs(of_precisions)]
    return partial(precision_figure.side_by_side, table), numbers, runs


def verdict_strips(scale: str, chapter: str | None = None) -> Drawn:
    """Claims of a chapter, or all at a glance, with their verdicts; the numbers are those of every layer."""
    some = claims.of_chapter(chapter)
    judged = verdicts.judged(some, verdicts.recorded(scale, some))
    draw = strips.strips if chapter else strips.overview
    numbers = {c.name: found.layers if chapter else strips.relative(found) for c, found in judged if found}
    table = pd.concat(numbers, names=["claim", "layer"]) if numbers else pd.DataFrame()
    return partial(draw, judged), table, f"scale {scale}: {verdicts.about(scale)}"

"""The numbers that the chapters use in their sentences, rounded, by chapter.

What is said of a range over layers is said of the convolutions, unless the classifier is named.
"""

from collections import Counter
from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd

from .. import experiments, library, scales
from ..config import layers_of
from ..machinery import speeds
from ..run import DivergedError, Run
from . import (
    analysis,
    answers,
    costs,
    filters,
    ghosts,
    learning_rates,
    numbers,
    phrases,
    precisions,
    summaries,
    tops,
)
from .numbers import NONE, Numbers


def of_chapter(chapter: str, scale: str) -> Numbers:
    """The numbers of a chapter, by name, from the records of a scale.

    Raises ValueError when the chapter has none, and what `lib.library.runs` raises.
    """
    if chapter not in CHAPTERS:
        raise ValueError(f"chapter={chapter!r} is not known; it must be one of {', '.join(CHAPTERS)}")
    return CHAPTERS[chapter](scale)


def glue(chapter: str, scale: str) -> None:
    """Glues the numbers of a chapter, for its sentences to use; where runs diverged that they need, that there are none."""
    from myst_nb import glue

    try:
        found = of_chapter(chapter, scale)
    except (DivergedError, ValueError):
        needed = experiments.CHAPTERS.get(chapter, ())
        if not library.diverged(scale, needed):
            raise
        recorded = of_chapter(chapter, library.largest(needed))
        found = {name: NONE if isinstance(value, str) else np.nan for name, value in recorded.items()}
    for name, value in found.items():
        glue(name, value, display=False)


def index(scale: str) -> Numbers:
    """Rotation and R of the three forms of SGD, and their accuracies in %."""
    forms = library.forms(scale, "dynamics")
    tables = {form: analysis.equilibrium(runs) for form, runs in forms.items()}
    found = numbers.form_numbers(tables, tolerance=0.10) | {"full_size": full_size(scale)}
    found["mean_of"] = phrases.mean_of(min(map(len, forms.values())))
    for form, runs in forms.items():
        found |= numbers.rotation_numbers(form, runs) | {f"{form}_accuracy": numbers.percent(runs)}
    return found


def full_size(scale: str) -> str:
    """What the network of the post's own size reached beside that of a scale, in a sentence or two."""
    original = "The original's mean is 94.08 %."
    runs = library.forms("paper", "dynamics")["nesterov"]
    if scales.chosen(scale).scale == "paper":
        return f"That is the post's own size. {original}"
    if not runs:
        return "The network of the post's own size has not been trained yet."
    accuracy, config = 100 * analysis.accuracy(runs), runs[0].config
    span = f"{accuracy.mean():.2f} %" + (
        f" ({accuracy.min():.2f} to {accuracy.max():.2f})" if len(runs) > 1 else ""
    )
    return (
        f"At the post's own size, width {config.width} and {config.epochs} epochs, with Nesterov momentum and in "
        f"{config.precision}, {phrases.seeds(len(runs))} reached {span}. {original}"
    )


def setup(scale: str) -> Numbers:
    """The base run's network and schedule, what the baseline reached, and the network of the post's own size."""
    runs, base = library.runs(scale, "dynamics/nesterov"), scales.base(scale)
    peak = numbers.rounded({"peak_epoch": base.peak_epoch, "fall_epochs": base.epochs - base.peak_epoch})
    return peak | {
        "accuracy": phrases.accuracy(runs),
        "full_size": full_size(scale),
        "epochs": base.epochs,
        "factor": numbers.of_plain(base),
        "convolutions": len(layers_of(base.architecture)) - 1,
        "network": phrases.network(base),
    }


def dynamics(scale: str) -> Numbers:
    """`norm_numbers` of the first run without momentum, and when norms of all of them peak."""
    runs = analysis.with_steps(library.runs(scale, "dynamics/sgd"))
    found = numbers.norm_numbers(analysis.dynamics(runs[0])) | {"peaks": phrases.peaks(runs)}
    return found | {"peak_window": analysis.window_text(runs[0].config.epochs, (1 / 24, 10 / 24))}


def equilibrium(scale: str) -> Numbers:
    """R without momentum, what predicts it, and the norm's time of relaxation."""
    runs = analysis.with_steps(library.runs(scale, "dynamics/sgd"))
    run, *others = runs
    by_epoch = analysis.ratio_by_epoch(run, others)
    end = analysis.EQUILIBRIUM_WINDOW[1] * run.config.epochs
    closed = analysis.end_of_training(run, pd.Series([end]))
    return (
        numbers.of_equilibrium(analysis.equilibrium(runs), 0.10)
        | _by_others("sgd", scale)
        | numbers.rounded(
            {"peak_epoch": run.config.peak_epoch, "window_end": end, "window_closed": closed[0]}
        )
        | numbers.crossing([by_epoch], analysis.EQUILIBRIUM_WINDOW, run.config.epochs)
        | numbers.relaxation_numbers(run)
        | numbers.clipped(analysis.convolutions(analysis.dynamics(run)))
        | {"filters": filters.count(run.config), "filters_text": _filters(scale)}
        | {"window": analysis.window_text(run.config.epochs), "seeds": phrases.seeds(len(runs))}
    )


def _by_others(form: str, scale: str) -> Numbers:
    """What the norm equation gives for R of the first run of a form, and what is predicted from others.

    Where the post's own size has one seed, what others predict at small is said.
    """
    run, *others = analysis.with_steps(library.runs(scale, f"dynamics/{form}"))
    found = numbers.equation_numbers(analysis.ratio_by_epoch(run, others), run.config.epochs / 12)
    said = phrases.of_others(found)
    if not others and scales.chosen(scale) == scales.chosen("paper"):
        at_small = _by_others(form, "small")["others_said"]
        said["others_said"] = f"One seed has no others. {phrases.at_scale('small', str(at_small))}"
    return found | said


def _filters(scale: str) -> str:
    """What is measured of filters at a scale; at small, where nothing is at the post's own size."""
    measured = library.forms(scale, "gradient-noise")["frozen"]
    if not measured and scales.chosen(scale) == scales.chosen("paper"):
        return phrases.at_scale("small", _filters("small"))
    return filters.text(measured)


def batch_size(scale: str) -> Numbers:
    """Correlations, slopes and shares of the signal, and the steps of two batch sizes."""
    whole = library.runs(scale, "dynamics/heavy-ball")
    quarter = library.runs(scale, "batch-size")
    plain = analysis.dynamics(library.first(scale, "dynamics/sgd"))
    frozen = library.runs(scale, "gradient-noise")
    return (
        numbers.correlation_numbers(analysis.dynamics(whole[0]))
        | numbers.correlation_numbers(plain, "plain")
        | numbers.noise_numbers(frozen)
        | ghosts.numbers(frozen)
        | numbers.quotient_numbers(whole, quarter)
        | {"batch": whole[0].config.batch_size, "accuracy": numbers.percent(whole)}
        | {"quarter_accuracy": numbers.percent(quarter), "mean_of": phrases.mean_of(len(whole))}
        | {"window": analysis.window_text(whole[0].config.epochs)}
    )


def momentum(scale: str) -> Numbers:
    """Rotation and R of the three forms, corrected and not, and the norm equation with overlap and without."""
    forms = library.forms(scale, "dynamics")
    tables = {form: analysis.equilibrium(runs) for form, runs in forms.items()}
    run = analysis.with_steps(forms["heavy-ball"])[0]
    errors = {
        "plain_error": analysis.equation_error(run, correlated=False),
        "overlap_error": analysis.equation_error(run, correlated=True),
    }
    accuracy = numbers.paired(forms["sgd"], forms["heavy-ball"])
    return (
        numbers.form_numbers(tables, 0.15)
        | numbers.rotation_numbers("heavy-ball", forms["heavy-ball"])
        | numbers.rotation_numbers("nesterov", forms["nesterov"])
        | numbers.clipped(analysis.convolutions(analysis.dynamics(run)))
        | numbers.rounded(errors, 2)
        | _by_others("heavy-ball", scale)
        | numbers.correlation_numbers(analysis.dynamics(run))
        | {"further": analysis.further_from_line(tables["heavy-ball"], tables["sgd"])}
        | {"above": int((tables["heavy-ball"]["R"].drop(analysis.CLASSIFIER) > 1).sum())}
        | {"momentum": run.config.momentum, "factor": numbers.of_plain(run.config)}
        | {"window": analysis.window_text(run.config.epochs)}
        | {f"{form}_accuracy": numbers.percent(forms[form]) for form in ("sgd", "heavy-ball")}
        | {"accuracy_difference": phrases.difference(accuracy)}
    )


def lars(scale: str) -> Numbers:
    """Steps, norms and accuracies of LARS beside those of SGD."""
    sgd = library.runs(scale, "dynamics/heavy-ball")
    lars = library.runs(scale, "lars/lars")
    return (
        numbers.beside_numbers(sgd[0], lars[0])
        | numbers.rotation_numbers("lars", lars)
        | {"accuracy": numbers.percent(lars), "sgd_accuracy": numbers.percent(sgd)}
        | {"difference": phrases.difference(numbers.paired(lars, sgd))}
        | {"window": analysis.window_text(sgd[0].config.epochs)}
        | {"length": phrases.counted(sgd[0].config.epochs, "epoch")}
        | _tuned(library.runs(scale, "tuning"))
    )


def sweep(scale: str) -> Numbers:
    """Best learning rates, what it costs to choose by the common λ, and how far seeds alone are apart, in %."""
    alike = library.runs(scale, "dynamics/heavy-ball")
    found = _swept(library.runs(scale, "sweep"))
    return found | {"chance": phrases.chance(alike), "middle": alike[0].config.lr}


def live(run: Run) -> str:
    """What is found in a run that was trained just now, in Markdown."""
    if not run.config.weight_decay:
        return (
            "Without weight decay nothing shrinks the norms. There is no equilibrium, and no line that the steps "
            "could be held against: they grow shorter as the norms grow."
        )
    n = numbers.of_equilibrium(analysis.equilibrium([run]), 0.15)
    return (
        f"In epochs {analysis.window_text(run.config.epochs)}, {n['within']} of {n['layers']} layers are within "
        f"15 % of the line. Their $R$ runs from {n['low']:.2f} to {n['high']:.2f}."
    )


def live_table(run: Run) -> pd.DataFrame:
    """R of each layer of such a run, and R corrected; without weight decay, the steps themselves."""
    if not run.config.weight_decay:
        table = analysis.mean_step(run).to_frame("λ|g|/|w|").round(5)
    else:
        found = analysis.equilibrium([run])[["R", "R_corrected"]].round(3)
        table = found.rename(columns={"R_corrected": "R corrected"})
    return table.rename_axis(index=None, columns="layer")


def cost(scale: str) -> Numbers:
    """What was measured of speed, the same whatever the scale, and what precision changes."""
    return costs.numbers(*speeds.read()) | {"precision": precisions.text(scale)}


def _tuned(runs: list[Run]) -> Numbers:
    """The best accuracy of each optimiser, in %, at which λ, what was tried, and their difference seed by seed."""
    accuracies = learning_rates.tuned(runs)
    found = {}
    for name in ("sgd", "lars"):
        best = float(accuracies[name].idxmax())
        edge = best in (accuracies.index.min(), accuracies.index.max())
        found |= {
            f"{name}_best": round(float(100 * accuracies[name].max()), 2),
            f"{name}_best_lr": best,
            f"{name}_edge": "at the edge of what was tried, so that a better one may lie beyond"
            if edge
            else "inside what was tried",
        }
    of_seeds = [learning_rates.best_tuned(runs, name) for name in ("lars", "sgd")]
    counts = Counter((run.config.optimizer, run.config.lr) for run in runs).values()
    fewest, most = min(counts), max(counts)
    return (
        found
        | {"tuned_low": float(accuracies.index.min()), "tuned_high": float(accuracies.index.max())}
        | {"tuned_length": phrases.counted(runs[0].config.epochs, "epoch")}
        | {"tuned_seeds": phrases.seeds(most) if fewest == most else f"{fewest} to {most} seeds"}
        | {"tuned_difference": phrases.difference(100 * (of_seeds[0] - of_seeds[1]))}
    )


def _swept(runs: list[Run]) -> Numbers:
    """Best learning rates with their intervals, what it costs to choose by the common λ, and how far runs go, in %."""
    table = learning_rates.with_enough(learning_rates.table(runs))
    optima = tops.optima(table)
    losses, rank_correlation = tops.selection(table)
    whole, near = (tops.lack_of_fit(t) for t in (table, tops.near_top(table)))
    distances = {run.config.lr: learning_rates.relaxations(run.config) for run in runs}
    n, common = len(optima), learning_rates.common(table)
    found = {
        "best_low": optima["lr"].min(),
        "best_high": optima["lr"].max(),
        "octaves": tops.spread_octaves(optima),
        "loss_low": 100 * losses["loss"].min(),
        "loss_high": 100 * losses["loss"].max(),
        "relaxations_low": min(distances.values()),
        "relaxations_common": distances[common],
        "relaxations_high": max(distances.values()),
    }
    return numbers.rounded(found, 3) | {
        "networks": n,
        "length": phrases.counted(runs[0].config.epochs, "epoch"),
        "best": str(losses["best"].idxmax()),
        "rank_correlation": numbers.signed(rank_correlation),
        # one exchange of neighbours lowers Spearman's correlation by 12/(n³ − n)
        "next_rank": numbers.signed(1 - 12 / (n**3 - n)),
        "misfits_whole": int((whole < 0.05).sum()),
        "misfits_near": int((near < 0.05).sum()),
        "above": int((optima["lr"] > common).sum()),
        "common": common,
    }


#: By the chapter's file name.
CHAPTERS: dict[str, Callable[[str], Numbers]] = {
    "index": index,
    "setup": setup,
    "dynamics": dynamics,
    "equilibrium": equilibrium,
    "batch-size": batch_size,
    "momentum": momentum,
    "lars": lars,
    "learning-rates": sweep,
    "conclusion": summaries.conclusion,
    "summary": summaries.summary,
    "practice": summaries.summary,
    **{question: partial(answers.numbers, question) for question in answers.ANSWERS},
    "cost": cost,
}

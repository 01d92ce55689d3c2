"""The numbers that the chapters use in their sentences, rounded, by chapter.

What is said of a range over layers is said of the convolutions, unless the classifier is named.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd

from .. import experiments, library, paths, scales
from ..config import layers_of
from ..machinery import speeds
from ..run import DivergedError, Run
from . import (
    analysis,
    answers,
    costs,
    filters,
    full_size,
    ghosts,
    numbers,
    phrases,
    precisions,
    recipes,
    statistics,
    summaries,
    sweeps,
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
    found = numbers.form_numbers(tables, tolerance=0.10) | {"full_size": full_size.of_sgd(scale)}
    found["mean_of"] = phrases.mean_of(min(map(len, forms.values())))
    found |= {f"answer_{answers.slug(chapter)}": answer for chapter, (answer, _) in answers.of_all().items()}
    for form, runs in forms.items():
        found |= numbers.rotation_numbers(form, runs) | {f"{form}_accuracy": numbers.percent(runs)}
    return found


def setup(scale: str) -> Numbers:
    """The base run's network and schedule, what the baseline reached, and the network of the post's own size."""
    runs, base = library.runs(scale, "dynamics/nesterov"), scales.base(scale)
    peak = numbers.rounded({"peak_epoch": base.peak_epoch, "fall_epochs": base.epochs - base.peak_epoch})
    return peak | {
        "accuracy": phrases.accuracy(runs),
        "full_size": full_size.of_sgd(scale),
        "epochs": base.epochs,
        "factor": numbers.of_plain(base),
        "convolutions": len(layers_of(base.architecture)) - 1,
        "network": phrases.network(base),
    }


def dynamics(scale: str) -> Numbers:
    """`norm_numbers` of the first run without momentum, and when norms of all of them peak."""
    runs = analysis.with_steps(library.runs(scale, "dynamics/sgd"))
    found = numbers.norm_numbers(analysis.dynamics(runs[0])) | {"peaks": phrases.peaks(runs)}
    left = [statistics.unexplained_change((0, 24), runs[0], mixed) for mixed in (False, True)]
    return found | {
        "peak_window": analysis.window_text(runs[0].config.epochs, (1 / 24, 10 / 24)),
        "unexplained": phrases.unexplained(*left),
    }


def equilibrium(scale: str) -> Numbers:
    """R without momentum, what predicts it, and the norm's time of relaxation."""
    runs = analysis.with_steps(library.runs(scale, "dynamics/sgd"))
    run, *others = runs
    by_epoch = analysis.ratio_by_epoch(run, others)
    end = analysis.EQUILIBRIUM_WINDOW[1] * run.config.epochs
    closed = analysis.end_of_training(run, pd.Series([end]))
    found = (
        _by_others("sgd", scale)
        | numbers.rounded(
            {"peak_epoch": run.config.peak_epoch, "window_end": end, "window_closed": closed[0]}
        )
        | numbers.crossing([by_epoch], analysis.EQUILIBRIUM_WINDOW, run.config.epochs)
        | numbers.relaxation_numbers(run)
    )
    said = {"crossing": phrases.crossing, "window_said": phrases.window_of, "deviation": phrases.deviation}
    return (
        numbers.of_equilibrium(analysis.equilibrium(runs), 0.10)
        | found
        | {name: phrase(found) for name, phrase in said.items()}
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
        | recipes.turns_of_others(run.config)
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
        | {"length": phrases.counted(sgd[0].config.epochs, "epoch"), "full_size": full_size.of_lars(scale)}
        | sweeps.of_tuning(library.runs(scale, "tuning"))
    )


def sweep(scale: str) -> Numbers:
    """Best learning rates, what it costs to choose by the common λ, and how far seeds alone are apart, in %."""
    alike = library.runs(scale, "dynamics/heavy-ball")
    found = sweeps.of_sweep(library.runs(scale, "sweep"))
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
    on_gpu, _ = speeds.read(paths.BOOK / "bench-gpu.json")
    return costs.numbers(*speeds.read()) | {
        "precision": precisions.text(scale),
        "gpu": costs.gpu_text(on_gpu),
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

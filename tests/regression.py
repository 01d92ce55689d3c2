"""What a right program's trainings have in common: short runs of the demo, their numbers, and how these scatter.

``python tests/regression.py`` trains every run with each of the seeds, some minutes on one core,
and writes the table that `tests/test_regression.py` compares with: a row for each number of each run, a
column for each seed. It is written anew, and looked at, after a change that was meant to change numbers.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy.special import stdtrit

from lib import data, questions, scales, theory
from lib.config import CLASSIFIER, Config
from lib.results import analysis
from lib.run import Run
from lib.training import train

TABLE = Path(__file__).with_suffix(".csv")
#: Those of the table; the runs that are compared with it have seed 0, as the demo has.
SEEDS = range(1, 7)
#: Probability that a right program fails in one run of the tests.
FALSE_ALARM = 1e-3
INDEX = ["form", "quantity", "layer"]


def short(config: Config, times: int = 8) -> Config:
    """So many times as short with as many times the decay: the norm has as many relaxations to get to equilibrium."""
    return replace(config.stretched(config.epochs // times), weight_decay=times * config.weight_decay)


BASE = scales.SCALES["demo"].base
BACKBONE = replace(BASE, architecture="backbone")
#: Each way of training that an experiment of the demo has, on a network that is quick to train where that tells as much.
RUNS = {
    "heavy-ball": short(BASE),
    "sgd": short(replace(BACKBONE, momentum=0.0, lr=10 * BASE.lr)),
    "nesterov": short(replace(BACKBONE, nesterov=True)),
    "lars": short(replace(BASE, optimizer="lars")),
    "quarter-batch": short(replace(BASE, batch_size=BASE.batch_size // 4, lr=BASE.lr / 4), times=12),
    "backbone": short(BACKBONE),
}


def of_question(planned, form: str, times: int = 8) -> Config:
    """A run of an open question's experiment, as short, with every step instead of averages."""
    (config,) = (config for name, config, _ in planned(BASE, BASE, 1) if name == form)
    return replace(short(config, times), averages=0, by_filter=False)


# those of the demo's whose numbers differ by more than seeds do from the run without
RUNS |= {
    "plateau": of_question(questions.plateau, "heavy-ball", times=6),
    "lars-smoothed": of_question(questions.lars_parts, "lars-smoothed"),
    "lars-turning": of_question(questions.lars_parts, "lars-turning"),
}


@np.errstate(divide="ignore", invalid="ignore")  # a wrong run's may be zero: no number, and within no bounds
def numbers(run: Run) -> pd.Series:
    """A run's numbers, by ``quantity`` and ``layer``, as logarithms but for κ.

    Averages over the equilibrium window, where nothing else is said, of each layer and of the
    convolutions together (``all``), which scatter less:

    - ``R``: λ|g|/|w| over its equilibrium value; of LARS, whose norms know no equilibrium,
      ``growth`` of |w|² over the whole run, over what turns of the predicted size add to it;
    - ``norm``: |w|², but of LARS;
    - ``turn``: |Δw|/|w| over its equilibrium value;
    - ``average``: |v|/|g|, v the average of earlier gradients;
    - ``kappa``: κ, over all but the first and last twelfth of the run;
    - ``rise`` and ``fall``: |Δw| over the first and the last 24th of the run, during which λ rises and falls;
    - ``loss``, ``test``: training loss over the last third of the epochs, or the last one, test loss after the last.
    """
    table, config = analysis.dynamics(run), run.config
    settings = analysis.settings(run)
    table["angle"] = theory.rotation(lr=table["lr"].astype(float), nesterov=config.nesterov, **settings)

    def rms(above: str, below: pd.Series | float, window=analysis.EQUILIBRIUM_WINDOW) -> pd.Series:
        rows = analysis.in_window(table.assign(below=below), config.epochs, window)
        sums = rows.groupby("layer", observed=True)[[above, "below"]].sum()
        return np.log(sums[above] / sums["below"]) / 2

    kappa = analysis.in_window(table, config.epochs, (2 / 24, 22 / 24))
    found = {
        "turn": rms("update_norm_sq", table["angle"] ** 2 * table["weight_norm_sq"]),
        "average": rms("average_norm_sq", table["grad_norm_sq"]),
        "kappa": kappa.groupby("layer", observed=True)["correlation"].mean(),
        "rise": rms("update_norm_sq", 1.0, (0, 1 / 24)),
        "fall": rms("update_norm_sq", 1.0, (23 / 24, 1)),
    }
    if config.optimizer == "lars":
        norms = table.groupby("layer", observed=True)["weight_norm_sq"]
        added = (table["angle"] ** 2).groupby(table["layer"], observed=True).sum()
        found["growth"] = np.log(np.log(norms.last() / norms.first()) / added)
    else:
        found["R"] = np.log(analysis.ratio_to_line(analysis.in_window(table, config.epochs), ["layer"]))
        found["norm"] = 2 * rms("weight_norm_sq", 1.0)
    by_layer = pd.concat(found, names=["quantity", "layer"])
    convolutions = by_layer.drop(CLASSIFIER, level="layer")
    together = pd.concat({"all": convolutions.groupby("quantity").mean()}, names=["layer"])
    losses = {("loss", "all"): run.epochs["train_loss"].tail(max(1, config.epochs // 3)).mean()}
    losses["test", "all"] = run.epochs["test_loss"].iloc[-1]
    return pd.concat([by_layer, together.swaplevel(), np.log(pd.Series(losses))]).rename_axis(INDEX[1:])


def images(seed: int) -> pd.Series:
    """Numbers of the images that an epoch of the demo shows, by ``quantity`` and ``layer``, which is ``all``.

    ``contrast`` and ``power`` are logarithms, of the mean image's variance, which shifting the images
    reduces, and of the mean square, which cutting squares out does; ``noise`` is the fraction of
    labels that are another's.
    """
    dataset = data.load(BASE.dataset)
    choices = data.draw(dataset, torch.Generator().manual_seed(seed))
    shown = data.augment(dataset, choices)
    found = {
        "contrast": np.log(float(shown.mean(dim=0).var())),
        "power": np.log(float(shown.square().mean())),
        "noise": float((choices.label != dataset.train_labels[choices.image]).float().mean()),
    }
    return pd.concat({"all": pd.Series(found)}, names=["layer"]).swaplevel().rename_axis(INDEX[1:])


def read() -> pd.DataFrame:
    """The table of the numbers of each seed."""
    return pd.read_csv(TABLE, index_col=INDEX)


def bounds(table: pd.DataFrame) -> pd.DataFrame:
    """``low`` and ``high`` for each row of a table of seeds.

    With n seeds, whose mean and spread are known no better, the number of another is within t·√(1 + 1/n)
    spreads of the mean; t is Student's, at a probability of `FALSE_ALARM` shared between all numbers
    (Bonferroni). A quantity of a layer scatters about as much in every form: so the spread is the
    largest that a form has, and known from the seeds of all.
    """
    seeds = table.shape[1]
    spreads = table.std(axis=1).groupby(INDEX[1:]).agg(["max", "size"]).reindex(table.index.droplevel("form"))
    t = -stdtrit(spreads["size"] * (seeds - 1), FALSE_ALARM / 2 / len(table))
    margin = (t * spreads["max"]).to_numpy() * np.sqrt(1 + 1 / seeds)
    mean = table.mean(axis=1)
    return pd.DataFrame({"low": mean - margin, "high": mean + margin})


def main() -> None:
    columns = {}
    for seed in SEEDS:
        runs = {
            form: numbers(train(replace(config, seed=seed), progress=False)) for form, config in RUNS.items()
        }
        columns[str(seed)] = pd.concat({"images": images(seed), **runs}, names=INDEX[:1])
        print(f"seed {seed} of {len(SEEDS)}", flush=True)
    pd.DataFrame(columns).to_csv(TABLE, float_format="%.4f")


if __name__ == "__main__":
    main()

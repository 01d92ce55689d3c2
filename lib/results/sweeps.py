"""The numbers of runs over learning rates, for sentences: of the sweep over networks, and of how LARS is tuned."""

from ..run import Run
from . import learning_rates, numbers, phrases, tops
from .claims import CLAIMS
from .numbers import Numbers
from .statistics import ENOUGH_NETWORKS


def of_sweep(runs: list[Run]) -> Numbers:
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
        "order": order(n),
        "misfits_whole": int((whole < 0.05).sum()),
        "misfits_near": int((near < 0.05).sum()),
        "above": int((optima["lr"] > common).sum()),
        "common": common,
    }


def order(networks: int) -> str:
    """What the rank correlation of so many networks can say, by how many mistakes its bound allows."""
    if networks < 2:
        return "One network has no order."
    step = 12 / (networks**3 - networks)  # what one exchange of neighbours takes from Spearman's correlation
    bound = next(claim.bound.low for claim in CLAIMS if claim.name == "order")
    allowed = int((1 - bound) / step)
    one = (
        f"One exchange of neighbours among {networks} networks takes it from 1 to {numbers.signed(1 - step)}"
    )
    if networks < ENOUGH_NETWORKS:
        asked = "the perfect order" if not allowed else f"{phrases.counted(allowed, 'such mistake')} at most"
        return (
            f"But that says little. {one}, so a bound of {bound:g} asks for {asked}, and neighbours here are often closer "
            "than seeds are. It takes more networks to say something."
        )
    return f"{one}, and a bound of {bound:g} allows {allowed} of them."


def of_tuning(runs: list[Run]) -> Numbers:
    """The best accuracy of each optimiser, in %, at which λ, what was tried, and their difference seed by seed."""
    accuracies = learning_rates.tuned(runs)
    found, tried = {}, (accuracies.index.min(), accuracies.index.max())
    for name in ("sgd", "lars"):
        best = float(accuracies[name].idxmax())
        found |= {f"{name}_best": round(float(100 * accuracies[name].max()), 2), f"{name}_best_lr": best}
    at_edge: list[str] = [name.upper() for name in ("sgd", "lars") if found[f"{name}_best_lr"] in tried]
    of_seeds = [learning_rates.best_tuned(runs, name) for name in ("lars", "sgd")]
    return (
        found
        | {"tuned_low": float(accuracies.index.min()), "tuned_high": float(accuracies.index.max())}
        | {"tuned_length": phrases.counted(runs[0].config.epochs, "epoch")}
        | {"tuned_seeds": phrases.seeds_each(runs), "tuned_edge": _edge(at_edge)}
        | {"tuned_difference": phrases.difference(100 * (of_seeds[0] - of_seeds[1]))}
    )


def _edge(at_edge: list[str]) -> str:
    """Whether a best learning rate is the first or the last that was tried."""
    if not at_edge:
        return "Both lie inside what was tried."
    return f"That of {' and that of '.join(at_edge)} is at the edge of what was tried, so that a better one may lie beyond."

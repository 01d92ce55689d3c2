"""What the network of the post's own size did, beside that of the scale which a chapter shows."""

from .. import library, scales
from . import analysis, numbers, phrases


def of_sgd(scale: str) -> str:
    """What the network of the post's own size reached beside that of a scale, in a sentence or two."""
    original = "The original's mean is 94.08 %."
    runs = library.forms("paper", "dynamics")["nesterov"]
    if scales.chosen(scale).scale == "paper":
        return f"That is the post's own size. {original} {_beside_small()}".rstrip()
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


def _beside_small() -> str:
    """What more seeds of the smaller network scatter, in two sentences; none where it is not recorded."""
    forms = library.forms("small", "dynamics")
    if not all(forms.values()):
        return ""
    R = {
        form: numbers.of_equilibrium(analysis.equilibrium(forms[form]), 0.10)
        for form in ("sgd", "heavy-ball")
    }
    spans = {form: f"{found['low']:.2f} to {found['high']:.2f}" for form, found in R.items()}
    return (
        f"At scale small, with the same network at an eighth of the width, Nesterov ends at "
        f"{phrases.accuracy(forms['nesterov'])}. There R runs from {spans['sgd']} without momentum and from "
        f"{spans['heavy-ball']} with heavy-ball."
    )


def of_lars(scale: str) -> str:
    """The same of the network of the post's own size, in a sentence or two."""
    if scales.chosen(scale) == scales.chosen("paper"):
        return "That is the post's own size."
    lars, sgd = library.forms("paper", "lars")["lars"], library.forms("paper", "dynamics")["heavy-ball"]
    if not (lars and sgd):
        return "At the post's own size the two have not both been trained yet."
    found = numbers.beside_numbers(sgd[0], lars[0]) | numbers.rotation_numbers("lars", lars)
    return (
        f"At the post's own size LARS ends at {numbers.percent(lars):.1f} % and SGD at {numbers.percent(sgd):.1f} %, "
        f"{phrases.mean_of(min(len(lars), len(sgd)))}. There the steps of LARS are {found['turn_low']:.2f} to "
        f"{found['turn_high']:.2f} times those of SGD, and its rotation is {found['lars_turn_low']:.2f} to "
        f"{found['lars_turn_high']:.2f} times the predicted one."
    )

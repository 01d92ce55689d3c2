"""What is said of recipes of training: against the norm equation, solved along each schedule."""

import numpy as np
import pytest

from lib import scales, theory
from lib.results import recipes
from lib.results.recipes import RECIPES


def schedule(name: str) -> np.ndarray:
    """λ of each step, over that of the peak, as the recipe's authors say it."""
    r = RECIPES[name]
    t = (np.arange(r.steps) + 0.5) / r.steps
    if name == "this book":
        config = scales.base("small")
        return config.lr_schedule(t * config.epochs) / config.lr
    if name.startswith("ResNet"):
        falls = 10.0 ** -np.searchsorted([30, 60, 80], 90 * t)
    else:
        last = 0.1 if name.startswith("LLaMA") else 0.0
        after = np.clip((t * r.steps - r.warm_up) / (r.steps - r.warm_up), 0, 1)
        falls = last + (1 - last) * (1 + np.cos(np.pi * after)) / 2
    rises = r.first + (1 - r.first) * np.arange(r.steps) / max(r.warm_up, 1)
    return np.where(np.arange(r.steps) < r.warm_up, rises, falls)


def kept(r: recipes.Recipe, shape: np.ndarray) -> float:
    """What is left of a deviation after some steps, by the equations of motion of |w|⁴ and |w|²."""
    if r.adamw:  # each step takes 2λα of |w|²
        return float(np.prod(1 - 2 * r.lr * shape * r.weight_decay))
    at = {"lr": r.lr * np.append(shape, 0), "weight_decay": r.weight_decay, "momentum": r.momentum}
    return float(theory.norm_ode(3.0, 0.0, **at)[-1] ** 2 / 9)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_has_the_relaxations_of_its_schedule(name):
    r, shape = RECIPES[name], schedule(name)
    # far below the least number, of trainings this long, the exponent is all that is left to compare
    part = slice(0, len(shape) // 16)
    expected = -np.log(kept(r, shape[part])) * shape.mean() / shape[part].mean() * 16
    assert r.relaxations == pytest.approx(expected, rel=0.01)
    if r.warm_up:
        assert r.relaxations_of_warm_up == pytest.approx(-np.log(kept(r, shape[: r.warm_up])), rel=0.01)


@pytest.mark.parametrize("name", RECIPES)
def test_its_step_turns_as_the_formula_says(name):
    r = RECIPES[name]
    x = r.lr * r.weight_decay / (1 + r.momentum)
    expected = np.sqrt(2 * x * (1 - r.momentum if r.adamw else 1))
    assert np.radians(r.turn) == pytest.approx(expected, rel=2e-4)


def test_numbers_have_two_digits():
    written = {16_666.7: "17,000", 5.17: "5.2", 0.06: "0.06", 122.0: "120", 1.0: "1"}
    assert {x: recipes.rounded(x) for x in written} == written


def test_the_table_has_a_row_for_each_and_none_where_nothing_warms_up():
    table = recipes.table()
    assert list(table.index) == list(RECIPES)
    without = table["warm-up, relaxations"] == "–"
    assert list(table.index[without]) == ["ResNet-50, N = 256"]


def test_an_entry_drawn_small_turns_as_much_faster_as_it_is_shorter():
    text = recipes.of_text()
    assert float(text["adamw_turns"]) == pytest.approx(
        float(text["adamw_rms"]) / float(text["adamw_start"]), rel=0.05
    )

"""The page of formulas: each is evaluated as it is printed there, and held against `lib.theory`."""

import json
import re
from itertools import pairwise

import numpy as np
import pytest

from lib import laws, paths, theory

#: Small enough for terms of the next order in λα not to be seen.
SETTINGS = {"lr": 3e-3, "weight_decay": 2e-4}
RHO, OVERLAP, C, SIZE, BETA1 = 0.7, -0.2, 1.7, 96, 0.8
VALUES = {
    "λ": SETTINGS["lr"], "α": SETTINGS["weight_decay"], "ρ": RHO, "o": OVERLAP, "c": C, "d": SIZE, "β": BETA1,
}  # fmt: skip
GREEK = {r"\lambda": "λ", r"\alpha": "α", r"\rho": "ρ", r"\beta_1": "β"}


def evaluated(tex: str, **values: float) -> float:
    """A formula of a page, with roots, fractions, powers and products, as a number."""
    for name, letter in GREEK.items():
        tex = tex.replace(name, letter)
    tex = tex.replace(r"\left", "").replace(r"\right", "")
    while found := re.search(r"\\(frac|sqrt)((?:\{[^{}]*\})+)|\^\{([^{}]*)\}", tex):
        command, groups, power = found.groups()
        parts = [f"({part})" for part in re.findall(r"\{([^{}]*)\}", groups or "")]
        taken = parts[: 2 if command == "frac" else 1]
        made = f"^({power})" if power else f"({'/'.join(taken)})" + ("^(1/2)" if command == "sqrt" else "")
        rest = "".join(f"{{{part[1:-1]}}}" for part in parts[len(taken) :])
        tex = tex[: found.start()] + made + rest + tex[found.end() :]
    # what stands side by side is multiplied, but after an operator or before one
    tokens = re.findall(r"\d+|[^\W\d]|[-+*/^()]", tex)
    assert "".join(tokens) == re.sub(r"\s", "", tex), f"not understood: {tex}"
    python = tokens[0]
    for before, token in pairwise(tokens):
        python += ("" if before in "+-*/^(" or token in "+-*/^)" else "*") + token
    return eval(python.replace("^", "**"), {"__builtins__": {}}, values)


def test_formulas_are_read_as_they_are_written():
    assert evaluated(r"\sqrt{2\lambda\alpha\frac{1-\rho}{1+\rho}}", λ=8, α=2, ρ=0) == pytest.approx(32**0.5)
    assert evaluated(r"\left(\frac{\lambda d}{2\alpha}\right)^2", λ=6, α=2, d=5) == pytest.approx(7.5**2)
    assert evaluated(r"n^{-1/4}", n=16) == pytest.approx(0.5)
    with pytest.raises(AssertionError, match="not understood"):
        evaluated(r"\sin x", x=1)


def page() -> str:
    cells = json.loads((paths.BOOK / "summary.ipynb").read_text(encoding="utf-8"))["cells"]
    return "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")


def rows(heading: str) -> dict[str, list[str]]:
    """The cells of the table below a heading, by that of the first column."""
    lines = page().split(f"## {heading}\n")[1].split("\n## ")[0].splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines if line[:2] == "| "]
    return {row[0].strip("| "): row[1:] for row in cells[1:]}


def of_sgd(decoupled=False, nesterov=False, momentum=RHO, overlap=OVERLAP):
    """Norm⁴, ratio, rotation and relaxation by `lib.theory`."""
    form = {"momentum": momentum, "nesterov": nesterov}
    ratio = theory.equilibrium_ratio(**SETTINGS, **form, decoupled=decoupled)
    ratio *= theory.correlation_correction(overlap, **form)
    turn = theory.rotation(**SETTINGS, **form, decoupled=decoupled, overlap=overlap)
    relaxed = theory.relaxation_steps(**SETTINGS, momentum=0 if decoupled else momentum)
    # λ|g|/|w| is λc/|w|²
    return [(SETTINGS["lr"] * C / ratio) ** 2, ratio, turn, relaxed]


def of_adamw():
    rms = theory.adamw_rms(**SETTINGS)
    turn = theory.adamw_rotation(**SETTINGS, beta1=BETA1)
    rate = laws._LAWS["AdamW"](**SETTINGS, betas=(BETA1, 0.99)).rate
    # the divided gradient has entries of size one
    return [(SIZE * rms**2) ** 2, SETTINGS["lr"] / rms, turn, 1 / rate]


EXPECTED = {
    "SGD": lambda: of_sgd(momentum=0.0, overlap=0.0),
    "heavy-ball": of_sgd,
    "Nesterov": lambda: of_sgd(nesterov=True),
    "SGDW": lambda: of_sgd(decoupled=True),
    "AdamW": of_adamw,
    "LARS, no decay": lambda: [
        None, SETTINGS["lr"], theory.lars_rotation(OVERLAP, lr=SETTINGS["lr"], momentum=RHO), None,
    ],
}  # fmt: skip


@pytest.mark.parametrize("optimizer", EXPECTED)
def test_a_formula_of_equilibrium_is_that_of_theory(optimizer):
    _, *cells = rows("In equilibrium")[optimizer]
    assert len(cells) == 4
    for cell, expected in zip(cells, EXPECTED[optimizer](), strict=True):
        if expected is None:
            assert "$" not in cell
        else:
            assert evaluated(cell.strip("$"), **VALUES) == pytest.approx(float(expected), rel=1e-4), cell


def test_the_table_names_every_optimizer_that_is_tested():
    assert list(rows("In equilibrium")) == list(EXPECTED)


def test_the_norms_of_sgd_are_those_of_theory():
    for name, nesterov in (("heavy-ball", False), ("Nesterov", True)):
        norm_sq = theory.equilibrium_norm_sq(
            C**2, **SETTINGS, momentum=RHO, overlap=OVERLAP, nesterov=nesterov
        )
        assert evaluated(rows("In equilibrium")[name][1].strip("$"), **VALUES) == pytest.approx(norm_sq**2)


def test_lars_lengthens_its_weights_as_said():
    grown = theory.growth(1.0, lr=SETTINGS["lr"], momentum=RHO)
    assert evaluated(r"1+\lambda^2/(1-\rho)^2", **VALUES) == pytest.approx(1 + grown)
    assert r"by $1+\lambda^2/(1-\rho)^2$" in page()


CHANGES = {
    r"$\lambda$ times $n$": {"lr": 1},
    r"$\alpha$ times $n$": {"weight_decay": 1},
    r"$\lambda$ times $n$, $\alpha$ divided by $n$": {"lr": 1, "weight_decay": -1},
    "$N$ times $n$": {"batch": 1},
    r"$N$ and $\lambda$ times $n$": {"lr": 1, "batch": 1},
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_factor_of_a_change_is_that_of_theory(change, n=3.0):
    def measured(powers):
        times = {name: n ** powers.get(name, 0) for name in ("lr", "weight_decay", "batch")}
        settings = {name: value * times[name] for name, value in SETTINGS.items()}
        norm_sq = theory.equilibrium_norm_sq(C**2 / times["batch"], **settings, momentum=RHO)
        turn = theory.rotation(**settings, momentum=RHO)
        return np.array([turn, theory.relaxation_steps(**settings, momentum=RHO), norm_sq**0.5])

    told = [evaluated(cell.strip("$"), n=n) for cell in rows("What a change really changes")[change][:3]]
    assert told == pytest.approx(measured(CHANGES[change]) / measured({}), rel=1e-4)


def test_the_change_of_momentum_leaves_what_the_page_says():
    def at(n):
        settings = {"lr": n * SETTINGS["lr"], "weight_decay": SETTINGS["weight_decay"]}
        rho = 1 - n * (1 - RHO)
        norm_sq = theory.equilibrium_norm_sq(C**2, **settings, momentum=rho)
        return (
            theory.relaxation_steps(**settings, momentum=rho),
            norm_sq,
            theory.rotation(**settings, momentum=rho),
        )

    (relaxed, norm_sq, turn), (relaxed_more, norm_sq_more, turn_more) = at(1), at(3)
    assert (relaxed, norm_sq) == pytest.approx((relaxed_more, norm_sq_more)) and turn_more > turn
    assert rows("What a change really changes")[r"$\lambda$ and $1-\rho$ times $n$"][1:3] == ["$1$", "$1$"]

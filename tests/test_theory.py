from functools import cache

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from lib import theory

FORMS = [(0.0, False), (0.5, False), (0.9, False), (0.5, True), (0.9, True)]


@cache
def simulate(
    lr, weight_decay, momentum, nesterov, memory=0.0, burn_in=400, steps=400, replicas=10, size=2000
):
    """Random gradients orthogonal to w, with |g| = 1/|w|, through the optimiser, in float64.

    ``memory`` mixes each direction with the last one. Returns the measured λ|g|/|w| (root of mean
    squares), the mean rotation, the overlap g·v/|g|² with v = Σ ρ^k g_{t−1−k}, and mean |w|².
    """
    random = np.random.default_rng(0)

    def dot(a, b):
        return (a * b).sum(axis=1, keepdims=True)

    w = random.standard_normal((replicas, size)) / np.sqrt(size)
    w *= theory.equilibrium_norm_sq(1.0, lr=lr, weight_decay=weight_decay, momentum=momentum) ** 0.5
    buffer, earlier, last = (np.zeros_like(w) for _ in range(3))
    sums = np.zeros(4)
    for step in range(burn_in + steps):
        noise = random.standard_normal(w.shape)
        g = noise + memory * last
        last = noise
        norm_sq = dot(w, w)
        g -= w * dot(g, w) / norm_sq
        g /= np.sqrt(dot(g, g) * norm_sq)
        old, direction = w, g + weight_decay * w
        buffer = momentum * buffer + direction
        w = w - lr * (direction + momentum * buffer if nesterov else buffer)
        if step >= burn_in:
            angle = np.arccos(dot(old, w) / np.sqrt(norm_sq * dot(w, w)))
            sums += [x.mean() for x in (dot(g, g), norm_sq, angle, dot(g, earlier))]
        earlier = momentum * earlier + g
    g_sq, norm_sq, angle, overlap = sums / steps
    return lr * np.sqrt(g_sq / norm_sq), angle, overlap / g_sq, norm_sq


@pytest.mark.parametrize("momentum, nesterov", FORMS)
def test_equilibrium_of_random_gradients(momentum, nesterov):
    # λα = 0.1 makes the O(λα) terms matter: without them ratio or rotation would be 1 to 20 % off
    settings = dict(lr=2.0, weight_decay=0.05, momentum=momentum, nesterov=nesterov)
    ratio, angle, _, _ = simulate(**settings)
    assert theory.equilibrium_ratio(**settings) == pytest.approx(ratio, rel=3e-3)
    assert theory.rotation(**settings) == pytest.approx(angle, rel=3e-3)


@pytest.mark.parametrize("momentum, nesterov", FORMS)
def test_leading_order(momentum, nesterov):
    x, rho = 1e-7, momentum
    settings = dict(lr=1e-4, weight_decay=1e-3, momentum=rho, nesterov=nesterov)
    assert theory.equilibrium_ratio(**settings) == pytest.approx(np.sqrt(2 * x * (1 - rho)), rel=1e-5)
    wide = 1 + 2 * rho - 2 * rho**3 if nesterov else 1
    assert theory.rotation(**settings) == pytest.approx(np.sqrt(2 * x * wide / (1 + rho)), rel=1e-5)


@pytest.mark.parametrize("lr", [0.4, 1.0, 19.0])
def test_without_momentum_all_forms_are_sgd(lr):
    x = lr * 0.05
    for nesterov in (False, True):
        settings = dict(lr=lr, weight_decay=0.05, momentum=0.0, nesterov=nesterov)
        assert theory.equilibrium_ratio(**settings) == pytest.approx(np.sqrt(x * (2 - x)))
        assert theory.rotation(**settings) == pytest.approx(np.arccos(1 - x))


@pytest.mark.parametrize("nesterov", [False, True])
def test_correlated_gradients(nesterov):
    settings = dict(lr=1.0, weight_decay=2e-4, momentum=0.9, nesterov=nesterov)
    ratio, angle, overlap, _ = simulate(**settings, memory=0.5, burn_in=1500, size=1000)
    assert overlap == pytest.approx(0.5 / 1.25, rel=0.02)
    factor = theory.correlation_correction(overlap, momentum=0.9, nesterov=nesterov)
    assert factor < 0.8
    assert theory.equilibrium_ratio(**settings) * factor == pytest.approx(ratio, rel=0.01)
    if not nesterov:  # heavy-ball's rotation needs no assumption on correlation
        assert theory.rotation(**settings) == pytest.approx(angle, rel=0.01)


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_the_norm_at_equilibrium(momentum):
    settings = dict(lr=1.0, weight_decay=5e-4 * (1 - momentum), momentum=momentum)
    *_, norm_sq = simulate(**settings, nesterov=False, burn_in=2000, size=500)
    assert theory.equilibrium_norm_sq(1.0, **settings) == pytest.approx(norm_sq, rel=5e-3)


def test_where_shrinkage_equals_growth_the_ratio_is_the_line():
    settings = dict(lr=0.3, momentum=0.9)
    norm_sq = theory.equilibrium_norm_sq(7.0, weight_decay=1e-6, **settings)
    growth = theory.growth(7.0 / norm_sq, **settings)
    assert theory.shrinkage(norm_sq, weight_decay=1e-6, **settings) == pytest.approx(growth)
    line = theory.equilibrium_ratio(weight_decay=1e-6, **settings)
    assert 0.3 * np.sqrt(7.0) / norm_sq == pytest.approx(line, rel=1e-5)


def test_shrinkage_and_growth_are_equations_1_and_2():
    assert theory.shrinkage(3.0, lr=0.5, weight_decay=0.01) == pytest.approx(2 * 0.5 * 0.01 * 3)
    assert theory.growth(3.0, lr=0.5) == pytest.approx(0.5**2 * 3)
    assert theory.shrinkage(3.0, lr=0.5, weight_decay=0.01, momentum=0.9) == pytest.approx(0.3)
    assert theory.growth(3.0, lr=0.5, momentum=0.9) == pytest.approx(75)


@pytest.mark.parametrize("weight_decay", [0.0, 5e-4, 5e-3])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_the_norm_equation_is_solved(momentum, weight_decay):
    random = np.random.default_rng(0)
    lr, c_sq = random.uniform(0.1, 1, 30), random.uniform(1, 5, 30)
    norm_sq = theory.norm_ode(2.0, c_sq, lr=lr, weight_decay=weight_decay, momentum=momentum)
    z = 2.0**2
    for t in range(30):
        assert norm_sq[t] == pytest.approx(np.sqrt(z), rel=1e-8)
        rate = lr[t] / (1 - momentum)
        slope = lambda _, z: -4 * rate * weight_decay * z + 2 * rate**2 * c_sq[t]  # noqa: B023, E731
        z = solve_ivp(slope, (0, 1), [z], rtol=1e-11, atol=1e-12).y[0, -1]


def test_the_norm_relaxes_to_its_equilibrium():
    settings = dict(weight_decay=5e-4, momentum=0.9)
    tau = theory.relaxation_steps(lr=0.4, **settings)
    assert tau == pytest.approx(125)  # the post's peak
    norm_sq = theory.norm_ode(1.0, np.full(3001, 9.0), lr=np.full(3001, 0.4), **settings)
    rest = theory.equilibrium_norm_sq(9.0, lr=0.4, **settings)
    assert norm_sq[-1] == pytest.approx(rest, rel=1e-9)
    distance = norm_sq**2 - rest**2
    assert distance[125] == pytest.approx(distance[0] / np.e)


def test_the_norm_equation_follows_a_simulated_run():
    """From half the equilibrium norm, with the λ of a short triangle and |g| = 1/|w|."""
    random, weight_decay = np.random.default_rng(0), 5e-3
    lrs = np.interp(np.arange(600) + 0.5, [0, 150, 600], [0, 1, 0])
    w = np.zeros((20, 1000))
    w[:, 0] = np.sqrt(theory.equilibrium_norm_sq(1.0, lr=1.0, weight_decay=weight_decay) / 2)
    measured = []
    for lr in lrs:
        measured.append((w**2).sum(axis=1).mean())
        norm_sq = (w**2).sum(axis=1, keepdims=True)
        g = random.standard_normal(w.shape)
        g -= w * (g * w).sum(axis=1, keepdims=True) / norm_sq
        g /= np.sqrt((g**2).sum(axis=1, keepdims=True) * norm_sq)
        w = w - lr * (g + weight_decay * w)
    ode = theory.norm_ode(measured[0], np.ones(600), lr=lrs, weight_decay=weight_decay)
    np.testing.assert_allclose(ode, measured, rtol=0.01)


# 19 epochs of 97 steps from λ = 0.4 at ρ = 0.9, as the post: the values of the end of training
@pytest.mark.parametrize("epochs_left, R", [(14, 0.95), (7, 0.85), (3.5, 0.69), (1.75, 0.52)])
def test_the_end_of_training(epochs_left, R):
    settings = dict(peak_lr=0.4, decay_steps=19 * 97, weight_decay=5e-4, momentum=0.9)
    assert theory.final_decay_ratio(epochs_left * 97, **settings) == pytest.approx(R, abs=0.01)


def test_the_end_of_training_solves_the_norm_equation():
    steps, peak, settings = 20_000, 0.4, dict(weight_decay=5e-4, momentum=0.9)
    lr = peak * (1 - (np.arange(steps) + 0.5) / steps)
    start = theory.equilibrium_norm_sq(1.0, lr=peak, **settings)
    norm_sq = theory.norm_ode(start, np.ones(steps), lr=lr, **settings)
    # λ|g|/|w| = λc/|w|²
    ratio = theory.equilibrium_norm_sq(1.0, lr=lr, **settings) / norm_sq
    left = steps - np.arange(steps)
    expected = theory.final_decay_ratio(left, peak_lr=peak, decay_steps=steps, **settings)
    end = slice(steps // 2, -50)
    np.testing.assert_allclose(ratio[end], expected[end], rtol=0.01)


def test_the_ratio_ends_at_zero():
    assert theory.final_decay_ratio(0.0, peak_lr=0.4, decay_steps=1843, weight_decay=5e-4, momentum=0.9) == 0

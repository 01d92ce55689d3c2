from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest
import torch
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


def sgd(*, momentum, weight_decay=0.0, **options):
    """torch's SGD, and what its buffer sums up: how fast it forgets, and the decay in it."""
    build = lambda w: torch.optim.SGD([w], momentum=momentum, weight_decay=weight_decay, **options)  # noqa: E731
    return build, momentum, weight_decay


def random_walk(
    optimizer, norm_sq, *, decoupled=0.0, power=-1, memory=0.0, burn_in=300, steps=400, replicas=8, size=500
):
    """An optimiser of torch driven by random gradients orthogonal to w, with |g| = |w|^power.

    ``decoupled`` is the λα that is taken from w before each step, ``memory`` mixes each direction
    with the last one. Returns |g|/|w| by mean squares, and the mean rotation, overlap g·v/|g|² and
    |w|², over replicas and steps.
    """
    build, momentum, weight_decay = optimizer
    random = torch.Generator().manual_seed(1)
    draw = lambda: torch.randn(replicas, size, generator=random, dtype=torch.float64)  # noqa: E731
    dot = lambda a, b: (a * b).sum(dim=1, keepdim=True)  # noqa: E731
    w = draw()
    w = (w * (norm_sq / dot(w, w)).sqrt()).requires_grad_()
    step, last, earlier, sums = build(w).step, draw(), 0 * w.detach(), 0
    with torch.no_grad():
        for t in range(burn_in + steps):
            old, old_sq, noise = w.clone(), dot(w, w), draw()
            g, last = noise + memory * last, noise
            g -= w * dot(g, w) / old_sq
            w.grad = g * old_sq ** (power / 2) / dot(g, g).sqrt()
            overlap, g_sq = dot(w.grad, earlier), dot(w.grad, w.grad)
            earlier = momentum * earlier + w.grad + weight_decay * w
            w *= 1 - decoupled
            step()
            if t >= burn_in:
                angle = (dot(old, w) / (old_sq * dot(w, w)).sqrt()).arccos()
                sums = sums + torch.cat([g_sq, angle, overlap, old_sq], dim=1).mean(dim=0).numpy()
    g_sq, angle, overlap, w_sq = sums / steps
    return (g_sq / w_sq) ** 0.5, angle, overlap / g_sq, w_sq


# settings of no chapter; x = λα, and an overlap of either sign
WALKS = [
    (1e-2, dict(momentum=0.6), 0.0),
    (2e-3, dict(momentum=0.6), 0.7),
    (2e-3, dict(momentum=0.8), -0.3),
    (2e-3, dict(momentum=0.8, dampening=0.3), 0.5),
    (1e-2, dict(momentum=0.8, nesterov=True), 0.0),
    (2e-3, dict(momentum=0.6, nesterov=True), 0.7),
    (2e-3, dict(momentum=0.8, nesterov=True), -0.5),
    (1e-2, dict(momentum=0.0, decoupled=True), 0.0),
    (1e-2, dict(momentum=0.8, decoupled=True), 0.0),
    (5e-3, dict(momentum=0.6, dampening=0.5, decoupled=True), 0.5),
    (1e-2, dict(momentum=0.8, nesterov=True, decoupled=True), 0.0),
    (5e-3, dict(momentum=0.8, nesterov=True, decoupled=True), 0.5),
]


@pytest.mark.parametrize("x, form, memory", WALKS)
def test_equilibrium_of_torchs_sgd(x, form, memory):
    settings = dict(lr=0.5, weight_decay=x / 0.5, **form)
    ratio = theory.equilibrium_ratio(**settings)
    options = {key: value for key, value in form.items() if key != "decoupled"}
    decay = dict(decoupled=x) if "decoupled" in form else {}
    optimizer = sgd(lr=0.5, weight_decay=0.0 if decay else x / 0.5, **options)
    measured, angle, overlap, _ = random_walk(optimizer, 0.5 / ratio, memory=memory, **decay)
    assert overlap == pytest.approx(memory / (1 + memory**2), abs=0.03)  # it repeats a share of the last one
    nesterov = form.get("nesterov", False)
    factor = theory.correlation_correction(overlap, momentum=form["momentum"], nesterov=nesterov)
    assert ratio * factor == pytest.approx(0.5 * measured, rel=3e-3)
    assert theory.rotation(**settings, overlap=overlap) == pytest.approx(angle, rel=2.5e-3)


def test_nesterovs_rotation_with_overlap_is_the_sum_of_its_parts():
    # |Δw|² = λ²|(1+ρ)g + ρ²v|² to leading order, over |w|² from the balance
    rho, o, x = 0.7, np.array([-0.3, 0.0, 0.8]), 1e-9
    parts = (1 + rho) ** 2 + rho**4 * (1 + 2 * rho * o) / (1 - rho**2) + 2 * (1 + rho) * rho**2 * o
    expected = 2 * x * (1 - rho) * parts / (1 + 2 * rho**2 * o)
    settings = dict(lr=1.0, weight_decay=x, momentum=rho, nesterov=True, overlap=o)
    np.testing.assert_allclose(theory.rotation(**settings) ** 2, expected, rtol=1e-7)
    np.testing.assert_allclose(
        theory.rotation(**settings, decoupled=True) ** 2, expected * (1 - rho), rtol=1e-7
    )


def test_overlap_leaves_heavy_balls_rotation_alone():
    for decoupled in (False, True):
        settings = dict(lr=0.1, weight_decay=0.01, momentum=0.6, decoupled=decoupled)
        assert theory.rotation(**settings, overlap=0.7) == theory.rotation(**settings)


def test_decoupled_decay_in_closed_form():
    a, rho = 0.93, 0.7
    settings = dict(lr=0.35, weight_decay=0.2, momentum=rho, decoupled=True)
    ratio_sq = (1 - a**2) * (1 - rho**2) * (1 - a * rho) / (1 + a * rho)
    assert theory.equilibrium_ratio(**settings) == pytest.approx(np.sqrt(ratio_sq))
    assert theory.rotation(**settings) == pytest.approx(np.arccos((a + rho) / (1 + a * rho)))
    adamw = theory.adamw_rotation(lr=0.35, weight_decay=0.2, beta1=rho)
    assert adamw == theory.rotation(**settings)


def test_dampening_is_a_smaller_rate_on_decay_and_gradient():
    damped = dict(lr=0.4, weight_decay=0.05, momentum=0.6)
    slower = damped | dict(lr=0.3)
    assert theory.rotation(**damped, dampening=0.25) == pytest.approx(theory.rotation(**slower))
    expected = theory.equilibrium_ratio(**slower) / 0.75
    assert theory.equilibrium_ratio(**damped, dampening=0.25) == pytest.approx(expected)
    without_buffer = dict(lr=0.4, weight_decay=0.05, momentum=0.0)  # torch keeps none: nothing is dampened
    assert theory.rotation(**without_buffer, dampening=0.25) == theory.rotation(**without_buffer)


def test_the_smallest_rotation_is_not_lost_in_rounding():
    assert theory.rotation(lr=1e-9, weight_decay=1e-9) == pytest.approx(np.sqrt(2e-18), rel=1e-9)


@pytest.mark.parametrize(
    "lr, momentum, memory", [(0.3, 0.0, 0.0), (0.02, 0.6, 0.0), (5e-3, 0.8, 0.6), (5e-3, 0.8, -0.4)]
)
def test_rotation_of_lars(lr, momentum, memory):
    optimizer = sgd(lr=lr, momentum=momentum)
    _, angle, overlap, _ = random_walk(optimizer, 1.0, power=1, memory=memory, burn_in=50, steps=200)
    assert theory.lars_rotation(overlap, lr=lr, momentum=momentum) == pytest.approx(
        angle, rel=0.01 if momentum else 1e-6
    )


@pytest.mark.parametrize("beta1", [0.6, 0.8])
def test_equilibrium_of_torchs_adamw(beta1):
    settings = dict(lr=5e-3, weight_decay=1.0)
    build = lambda w: torch.optim.AdamW([w], betas=(beta1, 0.999), eps=1e-12, **settings)  # noqa: E731
    rms = theory.adamw_rms(**settings)
    _, angle, _, norm_sq = random_walk((build, 0.0, 0.0), 500 * rms**2, burn_in=800)
    assert theory.adamw_rotation(**settings, beta1=beta1) == pytest.approx(angle, rel=0.01)
    assert rms == pytest.approx(np.sqrt(norm_sq / 500), rel=0.02)


def test_torchs_adamw_follows_its_norm_equation():
    # λ rises and falls, from far below and from far above, through two relaxation times
    steps, weight_decay, rng = 2000, 1.0, np.random.default_rng(7)
    lr = 4e-4 * np.minimum(np.arange(1, steps + 1) / 400, 1.3 - np.arange(steps) / steps)
    for start in (0.005, 0.06):
        w = torch.full((2000,), start, requires_grad=True)
        optimizer = torch.optim.AdamW([w], lr=1.0, betas=(0.8, 0.999), eps=1e-12, weight_decay=weight_decay)
        measured = np.empty(steps)
        for t in range(steps):
            measured[t] = w.detach().square().mean().sqrt()
            w.grad = torch.from_numpy(rng.standard_normal(2000).astype(np.float32))
            optimizer.param_groups[0]["lr"] = lr[t]
            optimizer.step()
        expected = theory.adamw_ode(start, lr=lr, weight_decay=weight_decay)
        np.testing.assert_allclose(
            measured[50:], expected[50:], rtol=0.05
        )  # β₁ and β₂ hold the first steps back


def test_adamws_norm_equation_in_closed_form():
    at = dict(lr=2e-3, weight_decay=0.5)
    t, rest = np.arange(3000), theory.adamw_rms(**at) ** 2
    expected = rest + (0.3**2 - rest) * np.exp(-2 * 2e-3 * 0.5 * t)
    solved = theory.adamw_ode(0.3, lr=np.full(3000, 2e-3), weight_decay=0.5)
    np.testing.assert_allclose(solved**2, expected, rtol=1e-10)
    without = theory.adamw_ode(0.3, lr=np.full(50, 2e-3), weight_decay=0.0)
    np.testing.assert_allclose(without**2, 0.3**2 + 2e-3**2 * np.arange(50), rtol=1e-12)


def test_equilibrium_of_torchs_adam_with_decay_in_the_gradient():
    settings = dict(lr=0.01, weight_decay=0.01)
    build = lambda w: torch.optim.Adam([w], betas=(0.8, 0.999), eps=1e-12, **settings)  # noqa: E731
    expected = theory.adam_l2_norm_sq(1.0, 500, **settings)
    assert expected**1.5 == pytest.approx(0.01 * np.sqrt(500) / 0.02)
    # from far away, so that it has to be found
    *_, norm_sq = random_walk((build, 0.0, 0.0), 1.5 * expected, burn_in=800)
    assert expected == pytest.approx(norm_sq, rel=0.03)


LION = [(0.8, 0.9), (0.9, 0.6), (0.0, 0.5)]


@pytest.mark.parametrize("beta1, beta2", LION)
def test_equilibrium_of_lion(beta1, beta2):
    def build(w):
        average = torch.zeros_like(w)

        def step():
            w.sub_(1e-3 * (beta1 * average + (1 - beta1) * w.grad).sign())
            average.mul_(beta2).add_((1 - beta2) * w.grad)

        return SimpleNamespace(step=step)

    settings = dict(lr=1e-3, weight_decay=5.0, beta1=beta1, beta2=beta2)
    rms = theory.lion_rms(**settings)
    _, angle, _, norm_sq = random_walk((build, 0.0, 0.0), 500 * rms**2, decoupled=5e-3)
    assert theory.lion_rotation(**settings) == pytest.approx(angle, rel=0.03)
    assert rms == pytest.approx(np.sqrt(norm_sq / 500), rel=0.03)


@pytest.mark.parametrize("beta1, beta2", [*LION, (0.9, 0.99), (0.95, 0.98)])
def test_lion_by_the_correlations_of_its_signs(beta1, beta2):
    # weights of past gradients under the sign, written out; then the arcsine law, lag by lag
    lags = np.arange(4000)
    weights = np.r_[1 - beta1, beta1 * (1 - beta2) * beta2 ** lags[:-1]]
    correlation = np.array([weights[: 4000 - k] @ weights[k:] for k in range(1, 2500)]) / (weights @ weights)
    repeated = 1 + 4 / np.pi * np.arcsin(correlation).sum()
    settings = dict(lr=1e-7, weight_decay=0.01, beta1=beta1, beta2=beta2)
    assert theory.lion_rms(**settings) ** 2 == pytest.approx(1e-7 * repeated / 0.02, rel=1e-4)
    assert theory.lion_rotation(**settings) ** 2 == pytest.approx(2e-9 / repeated, rel=1e-4)


def test_lion_is_near_the_form_of_kosson_and_others():
    variance = 0.1**2 + 0.9**2 * 0.01 / 1.99
    settings = dict(lr=1e-5, weight_decay=0.1, beta1=0.9, beta2=0.99)
    assert theory.lion_rotation(**settings) == pytest.approx(np.sqrt(np.pi * 1e-6 * variance), rel=0.02)


@pytest.mark.parametrize("nesterov", [False, True])
def test_the_norm_equation_with_momentum_follows_a_simulated_run(nesterov):
    """With correlation, rate and decay that change on the way, from half the equilibrium's |w|²."""
    random, momentum, steps = np.random.default_rng(0), 0.6, 1200
    lrs = np.interp(np.arange(steps), [0, 600, 1200], [0.5, 1, 0.3])
    weight_decay = np.where(np.arange(steps) < 700, 5e-4, 2e-3)
    memory = np.where(np.arange(steps) < 500, 0.7, -0.5)
    rest = theory.equilibrium_norm_sq(1.0, lr=0.5, weight_decay=5e-4, momentum=momentum)
    w = random.standard_normal((4, 500))
    w *= np.sqrt(rest / 2 / (w**2).sum(axis=1, keepdims=True))
    measured, buffer, last = [], 0, 0
    for lr, decay, share in zip(lrs, weight_decay, memory, strict=True):
        norm_sq = (w**2).sum(axis=1, keepdims=True)
        measured.append(norm_sq.mean())
        noise = random.standard_normal(w.shape)
        g, last = noise + share * last, noise
        g -= w * (g * w).sum(axis=1, keepdims=True) / norm_sq
        direction = g / np.sqrt((g**2).sum(axis=1, keepdims=True) * norm_sq) + decay * w
        buffer = momentum * buffer + direction
        w = w - lr * (direction + momentum * buffer if nesterov else buffer)
    settings = dict(lr=lrs, weight_decay=weight_decay, momentum=momentum)
    overlap = memory / (1 + memory**2)
    ode = theory.norm_ode(measured[0], 1.0, **settings, overlap=overlap, nesterov=nesterov)
    np.testing.assert_allclose(ode, measured, rtol=0.03)
    without = theory.norm_ode(measured[0], 1.0, **settings)
    assert abs(without / measured - 1).max() > 0.1  # the overlap matters


def test_the_norm_at_equilibrium_is_where_its_equation_rests():
    settings = dict(lr=0.5, weight_decay=0.01, momentum=0.6, overlap=0.3, nesterov=True)
    norm_sq = theory.norm_ode(1.0, np.full(400, 9.0), **settings)
    rest = theory.equilibrium_norm_sq(9.0, **settings)
    assert norm_sq[-1] == pytest.approx(rest)
    assert rest**2 == pytest.approx(0.5 / 0.4 * 9 * (1 + 2 * 0.36 * 0.3) / 0.02)


def test_without_decay_or_rate_nothing_relaxes():
    lr = np.array([0.0, 0.1])
    np.testing.assert_array_equal(theory.relaxation_steps(lr=lr, weight_decay=0.0), np.inf)
    np.testing.assert_allclose(theory.relaxation_steps(lr=lr, weight_decay=0.01), [np.inf, 250])
    assert theory.relaxation_steps(lr=0.0, weight_decay=0.01) == np.inf
    for norm in (
        theory.equilibrium_norm_sq(1.0, lr=0.1, weight_decay=0.0),
        theory.adamw_rms(lr=0.1, weight_decay=0.0),
        theory.adam_l2_norm_sq(1.0, 10, lr=0.1, weight_decay=0.0),
        theory.lion_rms(lr=0.1, weight_decay=0.0, beta1=0.9, beta2=0.99),
    ):
        assert norm == np.inf


@pytest.mark.parametrize("formula", [theory.rotation, theory.equilibrium_ratio])
def test_formulas_take_arrays(formula):
    lr, momentum = np.array([[0.0], [0.1], [0.4]]), np.array([0.0, 0.5])
    for nesterov in (False, True):
        for decoupled in (False, True):
            form = dict(weight_decay=0.01, nesterov=nesterov, decoupled=decoupled)
            table = formula(lr=lr, momentum=momentum, **form)
            each = [[formula(lr=x, momentum=rho, **form) for rho in momentum] for x in lr[:, 0]]
            np.testing.assert_allclose(table, each)
            assert not table[0].any()


@pytest.mark.parametrize("name", ["rotation", "equilibrium_ratio", "relaxation_steps"])
def test_settings_without_equilibrium_are_refused(name):
    formula = getattr(theory, name)
    with pytest.raises(ValueError, match=r"lr × weight_decay is 2\.5, but must be between 0 and 2"):
        formula(lr=np.array([1.0, 50.0]), weight_decay=0.05)
    with pytest.raises(ValueError, match="lr × weight_decay is -0.05"):
        formula(lr=-1.0, weight_decay=0.05)
    for momentum in (1.0, -0.1, np.nan):
        with pytest.raises(ValueError, match=f"momentum is {momentum:g}, but must be at least 0 and below 1"):
            formula(lr=0.1, weight_decay=0.05, momentum=np.array([0.5, momentum]))


def test_what_torch_refuses_and_what_oscillates_is_refused():
    with pytest.raises(ValueError, match="dampening is 0.1, but must be 0 with Nesterov"):
        theory.rotation(lr=0.1, weight_decay=0.01, momentum=0.9, nesterov=True, dampening=0.1)
    with pytest.raises(ValueError, match="dampening is 1, but must be at least 0 and below 1"):
        theory.rotation(lr=0.1, weight_decay=0.01, momentum=0.9, dampening=1)
    with pytest.raises(ValueError, match="with Nesterov"):
        theory.rotation(lr=1.5, weight_decay=1.0, momentum=0.9, nesterov=True)
    with pytest.raises(ValueError, match="beta2 is 1, but"):
        theory.lion_rms(lr=0.1, weight_decay=0.01, beta1=0.9, beta2=1.0)

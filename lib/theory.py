"""The formulas of the paper, with their equation numbers.

Notation: λ is ``lr``, α ``weight_decay``, ρ ``momentum``; g is the gradient of the mean loss,
without decay; c = |g||w| is the scale-free size of the gradient, which does not change when w is
rescaled. The ``overlap`` o = g·v/|g|² says how much of a gradient repeats the earlier ones,
v = Σ ρ^k g_{t−1−k}: it is 0 for noise. Arguments are numbers or arrays; angles are in radians,
squared norms in squared weight units, times in steps. Settings without an equilibrium, λα > 2 or a
momentum outside [0, 1), raise a ValueError. The book's page *Derivations* derives each formula.
"""

from math import comb

import numpy as np
from scipy.special import erfcx, exprel


def shrinkage(weight_norm_sq, *, lr, weight_decay, momentum=0.0):
    """What weight decay takes from |w|² for each gradient: 2λα|w|²/(1−ρ). Equation (1′)."""
    return 2 * _decay(lr, weight_decay, momentum) * weight_norm_sq / (1 - momentum)


def growth(grad_norm_sq, *, lr, momentum=0.0):
    """What a gradient orthogonal to w adds to |w|²: λ²|g|²/(1−ρ)². Equation (2′)."""
    _require_fraction(momentum=momentum)
    return lr**2 * grad_norm_sq / (1 - momentum) ** 2


def equilibrium_ratio(*, lr, weight_decay, momentum=0.0, nesterov=False, dampening=0.0, decoupled=False):
    """λ|g|/|w| where shrinkage balances growth: equations (6) and (7) with their O(λα) terms.

    To leading order √(2λα(1−ρ)), or √(2λα)(1−ρ) where decay is ``decoupled``, w ← (1−λα)w − λv, and
    so not multiplied by momentum. Exact stationary solution of the second moments of w and the
    momentum buffer, for gradients orthogonal to w and uncorrelated from step to step; the balance is
    one of mean squares, so this is √(mean λ²|g|² / mean |w|²).

    With x = λα and a = 1−x, its square is x(1−ρ)(2 − x/(1+ρ)) for heavy-ball, which at ρ = 0 is x(2−x);
    x(1−ρ+ρx)(2(1+ρ) − x(1+2ρ)) / (1+ρ+ρ(1+2ρ)x) for Nesterov; (1−a²)(1−ρ²)(1−aρ)/(1+aρ) for decoupled
    decay, and (1−a²)(1−ρ²)(1−aρ) / (1+ρ+ρ(1−2ρ²)x) with Nesterov.

    ``dampening`` d is torch's, v ← ρv + (1−d)(g+αw): it takes the place of a rate λ(1−d).
    """
    x, rho, kept = _settings(lr, weight_decay, momentum, nesterov, dampening, decoupled)
    if decoupled:
        ratio_sq = x * (2 - x) * (1 - rho**2) * (1 - rho + rho * x)
    elif nesterov:
        ratio_sq = x * (1 - rho + rho * x) * (2 * (1 + rho) - x * (1 + 2 * rho))
    else:
        ratio_sq = x * (1 - rho) * (2 * (1 + rho) - x)
    return np.sqrt(ratio_sq / _denominator(x, rho, 0.0, nesterov, decoupled)) / kept


def rotation(*, lr, weight_decay, momentum=0.0, nesterov=False, dampening=0.0, decoupled=False, overlap=0.0):
    """Angle between w before and after a step at equilibrium, in radians.

    For heavy-ball arccos(1 − λα/(1+ρ)) ≈ √(2λα/(1+ρ)), and where decay is ``decoupled``
    arccos((a+ρ)/(1+aρ)) ≈ √(2λα(1−ρ)/(1+ρ)) with a = 1−λα: whatever the ``overlap``. For Nesterov the
    overlap o matters. To leading order

    θ² = 2λα(1−ρ) [(1+ρ)² + ρ⁴(1+2ρo)/(1−ρ²) + 2(1+ρ)ρ²o] / (1+2ρ²o),

    times 1−ρ where decay is decoupled. All are exact in λα for gradients orthogonal to w, if o counts
    coupled decay into v as the optimiser's buffer does; that differs from the plain sum by O(λα).
    """
    x, rho, _ = _settings(lr, weight_decay, momentum, nesterov, dampening, decoupled)
    versine = x * (1 - rho) if decoupled else x
    if nesterov:
        leading = 1 + 2 * rho - 2 * rho**3 + 2 * rho**2 * overlap * (1 + rho - rho**2)
        next_order = rho * (1 + rho if decoupled else 1 + 2 * rho) * (1 + rho + rho**2 * overlap)
        versine = versine * (leading + next_order * x)
    return _angle(versine / _denominator(x, rho, overlap, nesterov, decoupled))


def _settings(lr, weight_decay, momentum, nesterov, dampening, decoupled):
    """λα as it acts, ρ, and the share 1−d of each gradient; refuses what has no equilibrium."""
    _refuse(nesterov & np.not_equal(dampening, 0), "dampening", dampening, "0 with Nesterov, as in torch")
    _require_fraction(dampening=dampening)
    # without momentum torch keeps no buffer, and so nothing is dampened
    kept = np.where(np.equal(momentum, 0), 1.0, 1 - np.asarray(dampening))
    x = _decay(lr if decoupled else lr * kept, weight_decay, momentum)
    if nesterov and not decoupled:
        limit = 2 * (1 + momentum) / (1 + 2 * momentum)
        _refuse(x > limit, "lr × weight_decay", x, "at most 2(1+ρ)/(1+2ρ) with Nesterov")
    return x, momentum, kept


def _denominator(x, rho, overlap, nesterov, decoupled):
    """What the exact ratio and rotation are divided by: 1+ρ to leading order and without overlap."""
    if not nesterov:
        return 1 + rho - rho * x if decoupled else 1 + rho
    slope = 1 - 2 * rho**2 - 2 * rho**3 * overlap if decoupled else 1 + 2 * rho
    return (1 + rho) * (1 + 2 * rho**2 * overlap) + rho * slope * x


def _angle(versine):
    """The angle whose cosine is 1 − versine, to full precision however small it is."""
    return 2 * np.arcsin(np.sqrt(versine / 2))


def _decay(lr, weight_decay, momentum):
    """λα, of settings for which decay shrinks weights."""
    _require_fraction(momentum=momentum)
    x = lr * weight_decay
    outside = ~np.asarray((np.asarray(x) >= 0) & (np.asarray(x) <= 2))
    _refuse(
        outside, "lr × weight_decay", x, "between 0 and 2; beyond, decay lengthens weights: lower one of them"
    )
    return x


def _require_fraction(**named):
    for name, value in named.items():
        value = np.asarray(value)
        _refuse(~((value >= 0) & (value < 1)), name, value, "at least 0 and below 1")


def _refuse(wrong, name, value, allowed):
    """Raises if any of ``value`` is ``wrong``, and names the first."""
    if np.any(wrong):
        first = np.broadcast_to(value, np.shape(wrong))[np.asarray(wrong)].flat[0]
        raise ValueError(f"{name} is {first:g}, but must be {allowed}.")


def correlation_correction(overlap, *, momentum, nesterov=False):
    """Factor on `equilibrium_ratio` when successive gradients are correlated.

    (1 + 2ρo)^(−1/2), with ρ² in place of ρ for Nesterov, to leading order in λα. The ``overlap``
    o = κ|v|/|g| is g·v/|g|² with v = Σ ρ^k g_{t−1−k}, the plain sum of earlier gradients; an average
    with weights (1−ρ)ρ^k, as the probes keep it, is (1−ρ) times that sum.
    """
    return _repeated(overlap, momentum, nesterov) ** -0.5


def _repeated(overlap, momentum, nesterov):
    """The factor 1+2ρo on growth, with ρ² for Nesterov, by which correlated gradients add up."""
    _require_fraction(momentum=momentum)
    return 1 + 2 * momentum ** (2 if nesterov else 1) * overlap


def lars_rotation(overlap=0.0, *, lr, momentum=0.0):
    """Angle of a step of LARS without decay, in radians: arctan(λ√((1+2ρo)/(1−ρ²))).

    v ← ρv + (|w|/|g|)g, w ← w − λv. Exact at ρ = 0, and to leading order in λ otherwise. The
    ``overlap`` o is that of the normalised gradients (|w|/|g|)g with v.
    """
    return np.arctan(lr * np.sqrt(_repeated(overlap, momentum, nesterov=False) / (1 - momentum**2)))


def adamw_rotation(*, lr, weight_decay, beta1=0.9):
    """Angle of a step of AdamW at equilibrium, in radians: √(2λα(1−β₁)/(1+β₁)) to leading order.

    Adam divides each gradient by its root mean square, which leaves that of heavy-ball with decoupled
    decay and ρ = β₁, if the gradients are noise. Kosson et al. 2024, arXiv:2305.17212.
    """
    return rotation(lr=lr, weight_decay=weight_decay, momentum=beta1, decoupled=True)


def adamw_rms(*, lr, weight_decay):
    """Root mean square of the entries of w at AdamW's equilibrium, √(λ/(2α)), to leading order.

    For gradients that are noise. It depends neither on them nor on β₁. Kosson et al. 2024.
    """
    _decay(lr, weight_decay, momentum=0.0)
    return np.sqrt(_over(lr, 2 * np.asarray(weight_decay)))


def adam_l2_norm_sq(c_sq, size, *, lr, weight_decay):
    """|w|² at the equilibrium of Adam with α|w|²/2 in the loss: |w|³ = λ√d·c/(2α), to leading order.

    ``size`` d is the number of entries of w. Decay is divided by the gradient's root mean square as
    the gradient is, so the norm depends on c, and layers turn at different rates. Kosson et al. 2024.
    """
    _decay(lr, weight_decay, momentum=0.0)
    return np.cbrt(size * c_sq * _over(lr, 2 * np.asarray(weight_decay)) ** 2)


def adamw_ode(initial_rms, *, lr, weight_decay) -> np.ndarray:
    """Root mean square of the entries of w at the start of each step, from AdamW's norm equation.

    With r its square: dr/dt = −2λαr + λ², for gradients that are noise, solved exactly over each step, on which both
    settings are constant. Neither gradients nor β₁ are in it. ``lr`` and ``weight_decay`` have shape ``(steps,)``, or one
    is a number; so has the result.
    """
    decay = 2 * _decay(np.asarray(lr, dtype=float), weight_decay, momentum=0.0)
    return np.sqrt(_solved(initial_rms**2, decay, np.asarray(lr, dtype=float) ** 2))


def lion_rotation(*, lr, weight_decay, beta1, beta2):
    """Angle of a step of Lion at equilibrium, in radians: √(2λα/(1+2Σr_k)) to leading order.

    w ← (1−λα)w − λ sign(β₁m + (1−β₁)g), m ← β₂m + (1−β₂)g. For gradients that are Gaussian noise,
    signs k steps apart have the correlation r_k = (2/π) arcsin of that of their arguments. Keeping
    the arcsine's first term and dropping what the sign adds as noise gives √(πλα[(1−β₁)² + β₁²(1−β₂)/(1+β₂)]),
    the form of Kosson et al. 2024, arXiv:2305.17212.
    """
    x = _decay(lr, weight_decay, beta1)
    later = _lion_memory(1 - x, beta1, beta2)
    return _angle(x * (1 - x * later) / (1 + 2 * (1 - x) * later))


def lion_rms(*, lr, weight_decay, beta1, beta2):
    """Root mean square of the entries of w at Lion's equilibrium: √(λ(1+2Σr_k)/(2α)) to leading order.

    With r_k as in `lion_rotation`. It does not depend on the size of the gradients.
    """
    x = _decay(lr, weight_decay, beta1)
    repeated = 1 + 2 * (1 - x) * _lion_memory(1 - x, beta1, beta2)
    return np.sqrt(_over(lr * repeated, weight_decay * (2 - x)))


def _lion_memory(a, beta1, beta2):
    """Σ a^(k−1) r_k over k ≥ 1, with the arcsine as a power series: r_k is that of r β₂^(k−1)."""
    _require_fraction(beta2=beta2)
    old = beta1 * (1 - beta2) / (1 + beta2)
    first = (1 - beta2) * beta1 * (1 - beta1) + beta1 * beta2 * old
    first = first / ((1 - beta1) ** 2 + beta1 * old)
    odd = [(2 * n + 1, comb(2 * n, n) / (4**n * (2 * n + 1))) for n in range(100)]
    return 2 / np.pi * sum(weight * first**p / (1 - a * beta2**p) for p, weight in odd)


def _over(numerator, denominator):
    """The quotient; infinite, without a warning, where nothing holds the numerator back."""
    with np.errstate(divide="ignore"):
        return np.divide(numerator, denominator)


def equilibrium_norm_sq(c_sq, *, lr, weight_decay, momentum=0.0, overlap=0.0, nesterov=False):
    """|w|² at equilibrium, to leading order: |w|⁴ = λc²(1+2ρo)/(2α(1−ρ)), from equations (3) and (7).

    With ρ²o in place of ρo for Nesterov.
    """
    _decay(lr, weight_decay, momentum)
    forcing = lr * c_sq * _repeated(overlap, momentum, nesterov)
    return np.sqrt(_over(forcing, 2 * weight_decay * (1 - momentum)))


def relaxation_steps(*, lr, weight_decay, momentum=0.0):
    """Steps in which a deviation of |w|⁴ from equilibrium falls to 1/e: (1−ρ)/(4λα).

    Infinite where λ or α is 0. Where decay is decoupled momentum does not hasten it: leave ρ at 0.
    """
    return _over(1 - momentum, 4 * np.asarray(_decay(lr, weight_decay, momentum)))


def norm_ode(
    initial_norm_sq, c_sq, *, lr, weight_decay, momentum=0.0, overlap=0.0, nesterov=False
) -> np.ndarray:
    """|w|² at the start of each step, from the norm equation with a given c(t) and λ(t).

    With z = |w|⁴ and λ̃ = λ/(1−ρ): dz/dt = −4λ̃αz + 2λ̃²c²(1+2ρo), or ρ²o for Nesterov, solved exactly
    over each step, on which all settings are constant. ``c_sq``, ``lr``, ``weight_decay`` and
    ``overlap`` have shape ``(steps,)`` or are numbers that hold for all steps; so has the result.
    """
    decay = 4 * _decay(np.asarray(lr, dtype=float), weight_decay, momentum) / (1 - momentum)
    forcing = 2 * growth(c_sq, lr=np.asarray(lr), momentum=momentum) * _repeated(overlap, momentum, nesterov)
    return np.sqrt(_solved(initial_norm_sq**2, decay, forcing))


def _solved(start, decay, forcing):
    """z at the start of each step, of dz/dt = −decay z + forcing, with both constant over a step."""
    decay, gain = np.broadcast_arrays(decay, forcing * exprel(-decay))
    kept = np.exp(-decay)
    z = np.empty(len(kept))
    z[0] = start
    for t in range(len(z) - 1):
        z[t + 1] = kept[t] * z[t] + gain[t]
    return z


def final_decay_ratio(steps_left, *, peak_lr, decay_steps, weight_decay, momentum=0.0):
    """λ|g|/|w| over its equilibrium value while λ falls linearly to 0 and c stays constant.

    The rate falls faster than the norm can follow. ``decay_steps`` is the length of the fall from
    ``peak_lr``; with s = steps_left/τ* and τ* = √(decay_steps (1−ρ)/(2α peak_lr)), the ratio is
    [1 + (√π/2) erfcx(s)/s]^(−1/2): the solution of the norm equation after a long fall.
    """
    scale = np.sqrt(_over(decay_steps * (1 - momentum), 2 * weight_decay * peak_lr))
    s = np.asarray(steps_left) / scale
    return np.sqrt(s / (s + np.sqrt(np.pi) / 2 * erfcx(s)))  # 0 at the end

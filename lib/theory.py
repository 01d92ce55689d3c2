"""The formulas of the paper, with their equation numbers.

Notation: λ is ``lr``, α ``weight_decay``, ρ ``momentum``; g is the gradient of the mean loss,
without decay; c = |g||w| is the scale-free size of the gradient, which does not change when w is
rescaled. Arguments are numbers or arrays; squared norms are in squared weight units, times in steps.
"""

import numpy as np
from scipy.special import erfcx


def shrinkage(weight_norm_sq, *, lr, weight_decay, momentum=0.0):
    """What weight decay takes from |w|² for each gradient: 2λα|w|²/(1−ρ). Equation (1′)."""
    return 2 * lr * weight_decay * weight_norm_sq / (1 - momentum)


def growth(grad_norm_sq, *, lr, momentum=0.0):
    """What a gradient orthogonal to w adds to |w|²: λ²|g|²/(1−ρ)². Equation (2′)."""
    return lr**2 * grad_norm_sq / (1 - momentum) ** 2


def equilibrium_ratio(*, lr, weight_decay, momentum=0.0, nesterov=False):
    """λ|g|/|w| where shrinkage balances growth: equations (6) and (7) with their O(λα) terms.

    To leading order √(2λα(1−ρ)) in each case. Exact stationary solution of the second moments of
    w and the momentum buffer, for gradients orthogonal to w and uncorrelated from step to step;
    the balance is one of mean squares, so this is √(mean λ²|g|² / mean |w|²).

    With x = λα, its square is x(1−ρ)(2 − x/(1+ρ)) for heavy-ball, which at ρ = 0 is x(2−x), and
    x(1−ρ+ρx)(2(1+ρ) − x(1+2ρ)) / (1+ρ+ρ(1+2ρ)x) for Nesterov.
    """
    x, rho = lr * weight_decay, momentum
    if nesterov:
        ratio_sq = x * (1 - rho + rho * x) * (2 * (1 + rho) - x * (1 + 2 * rho)) / _nesterov_norm(x, rho)
    else:
        ratio_sq = x * (1 - rho) * (2 - x / (1 + rho))
    return np.sqrt(ratio_sq)


def rotation(*, lr, weight_decay, momentum=0.0, nesterov=False):
    """Angle between w before and after a step at equilibrium, in radians.

    For heavy-ball arccos(1 − λα/(1+ρ)) ≈ √(2λα/(1+ρ)), whatever the correlation of gradients. For
    Nesterov, from the same solution as `equilibrium_ratio`, ≈ √(2λα(1+2ρ−2ρ³)/(1+ρ)).
    """
    x, rho = lr * weight_decay, momentum
    if nesterov:
        cosine = (1 + rho) * (1 - x + 2 * rho**2 * x - rho * (1 + 2 * rho) * x**2) / _nesterov_norm(x, rho)
    else:
        cosine = 1 - x / (1 + rho)
    return np.arccos(cosine)


def _nesterov_norm(x, rho):
    return 1 + rho + rho * (1 + 2 * rho) * x


def correlation_correction(overlap, *, momentum, nesterov=False):
    """Factor on `equilibrium_ratio` when successive gradients are correlated.

    (1 + 2ρκ|v|/|g|)^(−1/2), with ρ² in place of ρ for Nesterov. ``overlap`` is κ|v|/|g| = g·v/|g|²
    with v = Σ ρ^k g_{t−1−k}, the plain sum of earlier gradients; an average with weights (1−ρ)ρ^k,
    as the probes keep it, is (1−ρ) times that sum.
    """
    power = 2 if nesterov else 1
    return (1 + 2 * momentum**power * overlap) ** -0.5


def equilibrium_norm_sq(c_sq, *, lr, weight_decay, momentum=0.0):
    """|w|² at equilibrium, to leading order: |w|⁴ = λc²/(2α(1−ρ)), from equations (3) and (7)."""
    return np.sqrt(lr * c_sq / (2 * weight_decay * (1 - momentum)))


def relaxation_steps(*, lr, weight_decay, momentum=0.0):
    """Steps in which a deviation of |w|⁴ from equilibrium falls to 1/e: (1−ρ)/(4λα)."""
    return (1 - momentum) / (4 * lr * weight_decay)


def norm_ode(initial_norm_sq, c_sq, *, lr, weight_decay, momentum=0.0) -> np.ndarray:
    """|w|² at the start of each step, from the norm equation with a given c(t) and λ(t).

    With z = |w|⁴ and λ̃ = λ/(1−ρ): dz/dt = −4λ̃αz + 2λ̃²c², solved exactly over each step, on which
    λ and c are constant. ``c_sq`` and ``lr`` have shape ``(steps,)``; so has the result.
    """
    lr = np.asarray(lr, dtype=float) / (1 - momentum)
    decay = np.exp(-4 * lr * weight_decay)
    if weight_decay:
        gain = -np.expm1(-4 * lr * weight_decay) * lr * c_sq / (2 * weight_decay)
    else:
        gain = 2 * lr**2 * c_sq
    z = np.empty(len(lr))
    z[0] = initial_norm_sq**2
    for t in range(len(lr) - 1):
        z[t + 1] = decay[t] * z[t] + gain[t]
    return np.sqrt(z)


def final_decay_ratio(steps_left, *, peak_lr, decay_steps, weight_decay, momentum=0.0):
    """λ|g|/|w| over its equilibrium value while λ falls linearly to 0 and c stays constant.

    The rate falls faster than the norm can follow. ``decay_steps`` is the length of the fall from
    ``peak_lr``; with s = steps_left/τ* and τ* = √(decay_steps (1−ρ)/(2α peak_lr)), the ratio is
    [1 + (√π/2) erfcx(s)/s]^(−1/2): the solution of the norm equation after a long fall.
    """
    scale = np.sqrt(decay_steps * (1 - momentum) / (2 * weight_decay * peak_lr))
    s = np.asarray(steps_left) / scale
    return np.sqrt(s / (s + np.sqrt(np.pi) / 2 * erfcx(s)))  # 0 at the end

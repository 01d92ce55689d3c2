"""Which parameters' length does not matter, found by measurement in any network that runs.

A parameter w is scale-invariant when the loss is the same for every multiple of it. Then its gradient is
orthogonal to it. Both are measured: the angle of each gradient, and the loss after candidates were rescaled.
No graph is read, so the network may be anything, as long as its loss can be computed twice.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .machinery.trial import evaluate, unwrapped


class Finding(NamedTuple):
    """Whether a parameter is scale-invariant, and how that was seen."""

    invariant: bool
    why: str


class _Precision(NamedTuple):
    """The type of number that the loss is computed in, and what is zero in it.

    ``cosine`` between gradient and weight, ``change`` of the loss in relation to itself, ``gradient`` in
    relation to the largest |w||g| of the network.
    """

    double: bool
    cosine: float
    change: float
    gradient: float


PRECISIONS = (_Precision(True, 1e-6, 1e-8, 1e-11), _Precision(False, 2e-3, 1e-4, 1e-6))


def scale_invariant(
    model: nn.Module,
    loss: Callable[[], Tensor],
    slices: Mapping[str, Sequence[slice]] | None = None,
) -> dict[str, Tensor]:
    """The parameters of ``model`` whose length the loss does not depend on, by their full names.

    ``loss`` computes the loss of one fixed batch, by calling the model; each module must be in the mode in
    which it trains. The test is made at the present weights and near them: zeros that an initialiser
    left hide what a parameter does. Wrappers for several devices are taken off, names are those inside.
    ``slices`` names parameters that hold several weights, and the rows of each, as a fused projection of
    queries, keys and values does; a part is called ``name[0:64]`` and is a view of its parameter.

    Parameters, buffers, gradients, modes, hooks and random states are afterwards what they were.

    Raises ValueError when the loss is no finite number with a gradient, differs from call to call,
    or a slice is of no parameter.
    """
    parameters = dict(unwrapped(model).named_parameters())
    found = examine(model, loss, slices)
    parts = units(parameters, slices or {})
    return {
        label: parameters[name][index].detach() if index else parameters[name]
        for label, (name, index) in parts.items()
        if found[label].invariant
    }


def scale_invariant_filters(model: nn.Module, loss: Callable[[], Tensor]) -> dict[str, Tensor]:
    """Which output filters are scale-invariant each by itself: for each parameter a bool ``(filters,)``.

    Parameters of one dimension have no filters and are left out. As `scale_invariant` in all else.
    """
    filters = _filters(unwrapped(model))
    parts = {f"{name} {i}": (name, index) for name, rows in filters.items() for i, index in enumerate(rows)}
    found = _judge(model, loss, parts)
    return {
        name: torch.tensor([found[f"{name} {i}"].invariant for i in range(len(rows))])
        for name, rows in filters.items()
    }


def examine(model, loss, slices=None) -> dict[str, Finding]:
    """A `Finding` for every parameter or part of one; arguments and errors as in `scale_invariant`."""
    return _judge(model, loss, units(dict(unwrapped(model).named_parameters()), slices or {}))


def units(parameters: Mapping[str, Tensor], slices: Mapping[str, Sequence[slice]]):
    """What is judged as one vector: by its label a parameter's name and an index into it."""
    for name in slices:
        if name not in parameters:
            raise ValueError(
                f"slices name {name!r}, which is no parameter of the model; see named_parameters()"
            )
    found: dict[str, tuple[str, tuple[slice, ...]]] = {}
    for name, parameter in parameters.items():
        if name not in slices:
            found[name] = name, ()
        for part in slices.get(name, ()):
            start, stop, _ = part.indices(len(parameter))
            found[f"{name}[{start}:{stop}]"] = name, (slice(start, stop),)
    return found


def _filters(model):
    """For each parameter with filters the index of each; transposed convolutions have theirs in columns."""
    transposed = {
        f"{name}.weight".lstrip("."): module.groups
        for name, module in model.named_modules()
        if isinstance(module, nn.modules.conv._ConvTransposeNd)
    }
    filters: dict[str, list[tuple[slice | int, ...]]] = {}
    for name, w in model.named_parameters():
        if name in transposed:
            rows = len(w) // transposed[name]
            groups = [slice(rows * g, rows * (g + 1)) for g in range(transposed[name])]
            filters[name] = [(group, column) for group in groups for column in range(w.shape[1])]
        elif w.dim() > 1:
            filters[name] = [(row,) for row in range(len(w))]
    return filters


def _judge(model, loss, units) -> dict[str, Finding]:
    double, own = PRECISIONS
    try:
        return _judge_in(double, model, loss, units)
    except (RuntimeError, TypeError):  # an operation that knows no float64, perhaps
        return _judge_in(own, model, loss, units)


def _judge_in(precision, model, loss, units) -> dict[str, Finding]:
    parameters = dict(unwrapped(model).named_parameters())
    values = _nearby(parameters, precision.double)
    start, grads = evaluate(model, loss, values, precision.double, with_grads=True)

    def loss_at(point) -> float:
        return evaluate(model, loss, point, precision.double)[0]

    again = loss_at(values)
    if abs(again - start) > precision.change * abs(start):
        raise ValueError(
            f"the loss was {start:.6g} and then {again:.6g} at the same weights; it must be of one batch"
        )
    sizes, cosines = _angles(units, values, grads)
    largest = max(sizes.values(), default=0.0)
    seen = {label for label, size in sizes.items() if size > precision.gradient * largest}
    candidates = [label for label in units if label in seen and abs(cosines[label]) < precision.cosine]
    invariant = candidates
    for point in (values, _copies(parameters, precision.double)):
        invariant = _unchanged(invariant, units, point, loss_at, precision.change, largest)

    def why(label) -> str:
        if not parameters[units[label][0]].requires_grad:
            return "frozen"
        if label not in seen:
            return "the loss does not depend on it"
        if label not in candidates:
            return f"gradient along the weight, cos {cosines[label]:.1g}"
        found = f"rescaling {'leaves the loss unchanged' if label in invariant else 'changes the loss'}"
        return found if precision.double else f"{found}, in the model's own precision"

    return {label: Finding(label in invariant, why(label)) for label in units}


def _angles(units, values, grads):
    """|w||g| of each unit with a gradient, and the cosine of the angle between the two."""
    sizes, cosines = {}, {}
    for label, (name, index) in units.items():
        if (grad := grads.get(name)) is not None:
            w, g = values[name][index], grad[index]
            sizes[label] = float(w.norm() * g.norm())
            cosines[label] = float((w * g).sum()) / sizes[label] if sizes[label] else 0.0
    return sizes, cosines


def _unchanged(labels, units, point, loss_at, change, largest) -> list[str]:
    """Those of the labels that can be rescaled at a point, all at once, without a change of the loss."""
    start = loss_at(point)
    generator = torch.Generator().manual_seed(1)

    def unchanged(labels) -> bool:
        scaled = point | {units[label][0]: point[units[label][0]].clone() for label in labels}
        for label in labels:
            name, index = units[label]
            power = int(torch.randint(4, (), generator=generator))
            scaled[name][index] *= (0.25, 0.5, 2.0, 4.0)[power]  # exact in every type of number
        return abs(loss_at(scaled) - start) <= change * max(abs(start), largest)

    return _all_that_pass(labels, unchanged)


def _all_that_pass(labels, test) -> list[str]:
    """Those of the labels that pass a test which a set passes when each of it does: by bisection."""
    if not labels or test(labels):
        return list(labels)
    if len(labels) == 1:
        return []
    half = len(labels) // 2
    return _all_that_pass(labels[:half], test) + _all_that_pass(labels[half:], test)


def _copies(parameters, double: bool) -> dict[str, Tensor]:
    for name, p in parameters.items():
        if isinstance(p, nn.UninitializedParameter):
            raise ValueError(f"{name} has no shape yet; run the model once before")
    wide = {name: double and p.is_floating_point() for name, p in parameters.items()}
    return {
        name: p.detach().to(torch.float64 if wide[name] else p.dtype, copy=True)
        for name, p in parameters.items()
    }


def _nearby(parameters, double: bool) -> dict[str, Tensor]:
    """Copies of the parameters, the trained ones moved by a tenth of their size, zeros by a tenth."""
    generator = torch.Generator().manual_seed(0)
    values = _copies(parameters, double)
    for name, p in parameters.items():
        if p.requires_grad and p.is_floating_point() and p.numel():
            noise = torch.randn(p.shape, generator=generator).to(values[name])
            values[name] += 0.1 * noise * (values[name].square().mean().sqrt() if p.any() else 1.0)
    return values

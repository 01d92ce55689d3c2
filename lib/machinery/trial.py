"""A loss at other parameters than the model's own, in float64, without leaving a trace."""

import random
import sys
from contextlib import ExitStack, contextmanager

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map

#: Any float of at most this size that a normalisation or a sum is given is taken to be an ε.
LARGEST_EPS = 1e-3
#: What it is replaced with: still above 0, so that a channel without variance divides by something.
NO_EPS = 1e-20

NORMALISATIONS = {"batch_norm", "instance_norm", "layer_norm", "group_norm", "rms_norm", "normalize"}
SUMS = {"add", "add_", "__add__", "__radd__", "__iadd__"}
NARROW = (torch.float32, torch.float16, torch.bfloat16)
NARROWING = {"float", "half", "bfloat16"}
WRAPPERS = (nn.DataParallel, nn.parallel.DistributedDataParallel)


def unwrapped(model: nn.Module) -> nn.Module:
    """The network inside `DataParallel`, `DistributedDataParallel` and `torch.compile`."""
    inside = model.module if isinstance(model, WRAPPERS) else getattr(model, "_orig_mod", None)
    return unwrapped(inside) if isinstance(inside, nn.Module) else model


def evaluate(model, loss, values, double: bool, with_grads: bool = False):
    """The loss with these parameters and without normalisation's ε, and its gradients by name, where asked.

    ``loss`` calls the model; ``values`` are by the names of the unwrapped model. Each call starts from the
    state that the model and the random generators are in, and leaves it, also where it raises.

    Raises ValueError when the loss is not one finite number with a gradient.
    """
    with _left_as_it_is(model):
        parameters = dict(unwrapped(model).named_parameters())
        for name, parameter in parameters.items():
            parameter.grad = None
            parameter.data = values[name].clone()
        for module in model.modules():
            if isinstance(module, WRAPPERS):  # they would wait for other processes
                vars(module)["forward"] = module.module.__call__
        for tensor in _state(model):
            narrow = double and tensor.dtype in NARROW
            tensor.data = tensor.detach().double() if narrow else tensor.detach().clone()
        with ExitStack() as stack:
            if "torch._dynamo" in sys.modules:  # else nothing is compiled
                stack.enter_context(torch.compiler.set_stance("force_eager"))
            stack.enter_context(torch.enable_grad())
            stack.enter_context(_Exactly(double))
            value = loss()
            if not isinstance(value, Tensor) or value.numel() != 1 or not value.requires_grad:
                raise ValueError(f"loss() gave {value!r}; it must be a tensor of one number with a gradient")
            trained = {name: p for name, p in parameters.items() if p.requires_grad}
            grads = {}
            if with_grads:
                found = torch.autograd.grad(value.sum(), list(trained.values()), allow_unused=True)
                grads = {n: g.to_dense() for n, g in zip(trained, found, strict=True) if g is not None}
        value = float(value.detach())
        if not np.isfinite(value):
            raise ValueError(f"the loss is {value}; it must be finite")
        return value, grads


class _Exactly(TorchFunctionMode):
    """Computes without normalisation's ε, and if asked in float64, also where the code says otherwise."""

    def __init__(self, double: bool):
        super().__init__()
        self.double = double
        self.wide = {}  # of each narrow tensor the one copy: writing to it has to last

    def __enter__(self):
        self.default = torch.get_default_dtype()
        if self.double:
            torch.set_default_dtype(torch.float64)
        return super().__enter__()

    def __exit__(self, *error):
        torch.set_default_dtype(self.default)
        return super().__exit__(*error)

    def __torch_function__(self, func, types, args=(), kwargs=None):
        name, kwargs = getattr(func, "__name__", ""), kwargs or {}
        if name in NORMALISATIONS or name in SUMS:
            args, kwargs = tree_map(_without_eps, (args, kwargs))
        if self.double:
            args, kwargs = tree_map(self._widen, (args, kwargs))
            func = torch.Tensor.double if name in NARROWING else func
        return func(*args, **kwargs)

    def _widen(self, x):
        if isinstance(x, torch.dtype):
            return torch.float64 if x in NARROW else x
        if not isinstance(x, Tensor) or x.dtype not in NARROW:
            return x
        if id(x) not in self.wide:
            self.wide[id(x)] = x, x.double()
        return self.wide[id(x)][1]


def _without_eps(x):
    return NO_EPS if isinstance(x, float) and 0 < x <= LARGEST_EPS else x


def _state(model) -> list[Tensor]:
    """Buffers, and tensors that modules hold without having registered them."""
    held = [x for module in model.modules() for x in vars(module).values() if isinstance(x, Tensor)]
    return [*model.buffers(), *(x for x in held if not x.requires_grad)]


@contextmanager
def _left_as_it_is(model):
    """Puts back what a model holds and random states, also after an error."""
    parameters = [(p, p.data, p.grad) for p in model.parameters()]
    state = [(tensor, tensor.data) for tensor in _state(model)]
    # dictionaries and lists are themselves part of the state: hooks, buffers, counts
    contents = [(vars(module), dict(vars(module))) for module in model.modules()]
    contents += [
        (x, x.copy()) for held, _ in contents for x in held.values() if isinstance(x, dict | list | set)
    ]
    numpy_state, python_state = np.random.get_state(), random.getstate()  # noqa: NPY002, of others
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    with torch.random.fork_rng(devices=devices):
        try:
            yield
        finally:
            for held, kept in contents:
                held.clear()
                held.extend(kept) if isinstance(held, list) else held.update(kept)
            for tensor, data in state:
                tensor.data = data
            for parameter, data, grad in parameters:
                parameter.data = data
                parameter.grad = grad
            np.random.set_state(numpy_state)  # noqa: NPY002
            random.setstate(python_state)

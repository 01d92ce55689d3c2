"""Batch norm, max pool and ReLU of a training step on a CPU, in few passes over memory.

Beside its convolutions, a small network spends a step on moving activations to and fro, not on
arithmetic. Here pool and ReLU are done while batch norm has its numbers at hand, forward and
backward, and what comes in between is not stored.

On one thread of an x86-64 processor the results are those of torch's own operations, bit for bit:
the sums of a channel run over images, rows and columns in the same order, and a product is rounded
together with the sum it goes into. Several threads take a share of the images each.

Arrays are ``(images, height, width, channels)``, as they lie in memory; ``mean``, ``scale`` and the
like have a number for each channel. ``grad`` is the gradient of the output.
"""

import llvmlite.binding as llvm
import numba
import numpy as np
import torch
from numba import prange
from torch.autograd.function import once_differentiable
from torch.autograd.graph import increment_version

# by itself LLVM makes no vector instructions of loops over as many arrays as these
llvm.set_option("", "-force-vector-interleave=2")

_torchs = torch.get_num_threads()
numba.get_num_threads()  # starts numba's threads, which changes the number of torch's
torch.set_num_threads(_torchs)

# "contract" is the one liberty taken with floating point: a product and a sum are rounded once
_compiled = numba.njit(error_model="numpy", fastmath={"contract"}, nogil=True, cache=True)
_parallel = numba.njit(error_model="numpy", fastmath={"contract"}, nogil=True, cache=True, parallel=True)

ZERO = np.float32(0)
#: Instead of 0 to 3, the corner of a 2×2 square that the pool let through, where ReLU stopped it.
STOPPED = np.uint8(4)


def batch_norm_relu(x: torch.Tensor, norm: torch.nn.BatchNorm2d, pool: bool) -> torch.Tensor:
    """ReLU of the batch norm of ``x``, after a 2×2 max pool if asked; moves the norm's averages.

    ``x`` is ``(N, C, H, W)``, float32, channels last; H and W are even where it is pooled, and half
    of that in the result. One backward pass can follow. It writes its gradient over ``x``, which must
    be of no use to anyone else, as the output of a convolution is; whoever has kept it for a backward
    pass of his own gets torch's error about that.
    """
    norm.num_batches_tracked.add_(1)
    return (_Pooled if pool else _Plain).apply(x, norm.weight, norm.bias, norm)


class _Plain(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias, norm):
        threads = _threads()
        ctx.statistics = _normalise(x, weight, bias, norm, threads)
        y = torch.empty_like(x)
        scale, shift = np.tile(ctx.statistics[3:], x.shape[3])
        _forward(_lines(_array(x)), scale, shift, _lines(_array(y)), threads)
        ctx.save_for_backward(x, weight)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        x, weight = ctx.saved_tensors
        threads, images, grad = _threads(), _array(x), _array(grad)
        mean, _, inverse_std, scale, shift = ctx.statistics
        sums = _backward_sums(grad, images, mean, scale, shift, threads)
        total, dot, grad_mean, slope = _terms(sums, inverse_std, x.numel())
        terms = (scale, shift, mean, grad_mean, slope, inverse_std, _array(weight))
        _backward(_lines(grad), _lines(images), *np.tile(terms, x.shape[3]), threads)
        increment_version(x)
        return x.detach(), torch.from_numpy(dot), torch.from_numpy(total), None


class _Pooled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias, norm):
        threads = _threads()
        ctx.statistics = _normalise(x, weight, bias, norm, threads)
        shape = (*x.shape[:2], x.shape[2] // 2, x.shape[3] // 2)
        y, peak, corner = (
            torch.empty(shape, dtype=dtype, memory_format=torch.channels_last)
            for dtype in (torch.float32, torch.float32, torch.uint8)
        )
        _forward_pool(_array(x), *ctx.statistics[3:], _array(y), _array(peak), _array(corner), threads)
        ctx.save_for_backward(x, weight, peak, corner)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        x, weight, peak, corner = ctx.saved_tensors
        threads, grad, corner = _threads(), _array(grad), _array(corner)
        mean, _, inverse_std, _, _ = ctx.statistics
        sums = _backward_sums_pool(grad, _array(peak), corner, mean, threads)
        total, dot, grad_mean, slope = _terms(sums, inverse_std, x.numel())
        terms = (mean, grad_mean, slope, inverse_std, _array(weight))
        _backward_pool(grad, corner, _array(x), *terms, threads)
        increment_version(x)
        return x.detach(), torch.from_numpy(dot), torch.from_numpy(total), None


def _array(tensor: torch.Tensor) -> np.ndarray:
    """The same numbers, channels last where the tensor has four dimensions; of ``x`` the same memory."""
    tensor = tensor.detach()
    if tensor.ndim == 4:
        tensor = tensor.contiguous(memory_format=torch.channels_last).permute(0, 2, 3, 1)
    return tensor.numpy()


def _lines(images: np.ndarray) -> np.ndarray:
    """Each row of pixels as one long line, ``(images, height, width * channels)``: long loops are quicker."""
    return images.reshape(*images.shape[:2], -1)


def _threads() -> int:
    """As many as torch uses, from now on for numba as well."""
    threads = min(torch.get_num_threads(), numba.config.NUMBA_NUM_THREADS)
    numba.set_num_threads(threads)
    return threads


def _normalise(x, weight, bias, norm, threads) -> np.ndarray:
    """The `_statistics` of ``x``; moves the norm's averages."""
    images, pixels = _array(x), x.numel() // x.shape[1]
    mean = _mean(_sums(images, threads), pixels)
    squares = _squares(images, mean, threads)
    statistics = _statistics(mean, squares, pixels, _array(weight), _array(bias), norm.eps)
    mean, variance = map(torch.from_numpy, statistics[:2])
    # torch rounds the mean's product before it is added, and the variance's only after
    keep = 1 - norm.momentum
    norm.running_mean.mul_(keep).add_(mean * norm.momentum)
    norm.running_var.mul_(keep).add_(variance, alpha=norm.momentum)
    return statistics


@_compiled
def _mean(sums, pixels):
    mean = np.empty(sums.shape[1], np.float32)
    for c in range(len(mean)):
        mean[c] = _total(sums[:, c]) / pixels
    return mean


@_compiled
def _statistics(mean, squares, pixels, weight, bias, eps):
    """Mean, unbiased variance, inverse standard deviation, and scale and shift from ``x`` to the norm's output."""
    statistics = np.empty((5, len(mean)), np.float32)
    statistics[0] = mean
    _, variance, inverse_std, scale, shift = statistics
    for c in range(len(mean)):
        total = np.float32(_total(squares[:, c]))
        variance[c] = total / np.float32(pixels - 1)
        inverse_std[c] = 1 / np.sqrt(np.float64(total / np.float32(pixels)) + eps)
        scale[c] = inverse_std[c] * weight[c]
        shift[c] = bias[c] - mean[c] * scale[c]
    return statistics


@_compiled
def _terms(sums, inverse_std, size):
    """Gradients of bias and weight, mean of the gradient, and how it grows with ``x``, by channel."""
    pixels = np.float32(size // len(inverse_std))
    terms = np.empty((4, len(inverse_std)), np.float32)
    total, dot, grad_mean, slope = terms
    for c in range(len(inverse_std)):
        total[c], product = _total(sums[0, :, c]), np.float32(_total(sums[1, :, c]))
        dot[c] = product * inverse_std[c]
        grad_mean[c] = total[c] / pixels
        slope[c] = product * inverse_std[c] * inverse_std[c] / pixels
    return terms


@_compiled
def _total(sums):
    """Sum over threads, in double precision."""
    total = 0.0
    for value in sums:
        total += value
    return total


@_parallel
def _sums(x, threads):
    """Sum over all pixels of each thread's images, ``(threads, channels)``."""
    images, height, width, channels = x.shape
    sums = np.empty((threads, channels), np.float32)
    for thread in prange(threads):
        total = np.zeros(channels, np.float32)  # its own memory: threads that share a cache line wait
        for n in range(images * thread // threads, images * (thread + 1) // threads):
            for i in range(height):
                for j in range(width):
                    pixel = x[n, i, j]
                    for c in range(channels):
                        total[c] += pixel[c]
        sums[thread] = total
    return sums


@_parallel
def _squares(x, mean, threads):
    """Sum of the squared distances from the mean, likewise."""
    images, height, width, channels = x.shape
    sums = np.empty((threads, channels), np.float32)
    for thread in prange(threads):
        total = np.zeros(channels, np.float32)
        for n in range(images * thread // threads, images * (thread + 1) // threads):
            for i in range(height):
                for j in range(width):
                    pixel = x[n, i, j]
                    for c in range(channels):
                        total[c] += (pixel[c] - mean[c]) * (pixel[c] - mean[c])
        sums[thread] = total
    return sums


@_parallel
def _forward(x, scale, shift, y, threads):
    """Fills ``y``, by lines."""
    images, height, length = x.shape
    for thread in prange(threads):
        for n in range(images * thread // threads, images * (thread + 1) // threads):
            for i in range(height):
                line, out = x[n, i], y[n, i]
                for e in range(length):
                    value = line[e] * scale[e] + shift[e]
                    out[e] = ZERO if value <= ZERO else value


@_parallel
def _forward_pool(x, scale, shift, y, peak, corner, threads):
    """Fills ``y``, ``peak``, what of ``x`` the pool let through, and ``corner``, from where.

    The first of equal corners counts, and NaN before all, as in torch.
    """
    images, height, width, channels = y.shape
    for thread in prange(threads):
        for n in range(images * thread // threads, images * (thread + 1) // threads):
            for i in range(height):
                for j in range(width):
                    x0, x1 = x[n, 2 * i, 2 * j], x[n, 2 * i, 2 * j + 1]
                    x2, x3 = x[n, 2 * i + 1, 2 * j], x[n, 2 * i + 1, 2 * j + 1]
                    out, top, where = y[n, i, j], peak[n, i, j], corner[n, i, j]
                    for c in range(channels):
                        best, source = x0[c], np.uint8(0)
                        greatest = best * scale[c] + shift[c]
                        value = x1[c] * scale[c] + shift[c]
                        if value > greatest or value != value:
                            best, greatest, source = x1[c], value, np.uint8(1)
                        value = x2[c] * scale[c] + shift[c]
                        if value > greatest or value != value:
                            best, greatest, source = x2[c], value, np.uint8(2)
                        value = x3[c] * scale[c] + shift[c]
                        if value > greatest or value != value:
                            best, greatest, source = x3[c], value, np.uint8(3)
                        stopped = greatest <= ZERO
                        out[c] = ZERO if stopped else greatest
                        top[c] = best
                        where[c] = STOPPED if stopped else source


@_parallel
def _backward_sums(grad, x, mean, scale, shift, threads):
    """Sums of the gradient that passes ReLU, and of its products with ``x - mean``, ``(2, threads, channels)``."""
    images, height, width, channels = x.shape
    sums = np.empty((2, threads, channels), np.float32)
    for thread in prange(threads):
        total, dot = np.zeros(channels, np.float32), np.zeros(channels, np.float32)
        for n in range(images * thread // threads, images * (thread + 1) // threads):
            for i in range(height):
                for j in range(width):
                    g, pixel = grad[n, i, j], x[n, i, j]
                    for c in range(channels):
                        passed = ZERO if pixel[c] * scale[c] + shift[c] <= ZERO else g[c]
                        total[c] += passed
                        dot[c] += (pixel[c] - mean[c]) * passed
        sums[0, thread], sums[1, thread] = total, dot
    return sums


@_parallel
def _backward_sums_pool(grad, peak, corner, mean, threads):
    """The same with a pool."""
    images, height, width, channels = grad.shape
    sums = np.empty((2, threads, channels), np.float32)
    for thread in prange(threads):
        total, dot = np.zeros(channels, np.float32), np.zeros(channels, np.float32)
        for n in range(images * thread // threads, images * (thread + 1) // threads):
            for i in range(height):
                for row in range(2):  # of x, as torch adds up
                    for j in range(width):
                        g, top, where = grad[n, i, j], peak[n, i, j], corner[n, i, j]
                        for c in range(channels):
                            passed = g[c] if where[c] >> 1 == row else ZERO
                            total[c] += passed
                            dot[c] += (top[c] - mean[c]) * passed
        sums[0, thread], sums[1, thread] = total, dot
    return sums


@_parallel
def _backward(grad, x, scale, shift, mean, grad_mean, slope, inverse_std, weight, threads):
    """Writes the gradient of ``x`` over it, by lines."""
    images, height, length = x.shape
    for thread in prange(threads):
        for n in range(images * thread // threads, images * (thread + 1) // threads):
            for i in range(height):
                g, line = grad[n, i], x[n, i]
                for e in range(length):
                    passed = ZERO if line[e] * scale[e] + shift[e] <= ZERO else g[e]
                    centred = passed - grad_mean[e] - (line[e] - mean[e]) * slope[e]
                    line[e] = centred * inverse_std[e] * weight[e]


@_parallel
def _backward_pool(grad, corner, x, mean, grad_mean, slope, inverse_std, weight, threads):
    """The same with a pool."""
    images, height, width, channels = x.shape
    for thread in prange(threads):
        for n in range(images * thread // threads, images * (thread + 1) // threads):
            for i in range(height):
                for j in range(width):
                    g, where, pixel = grad[n, i // 2, j // 2], corner[n, i // 2, j // 2], x[n, i, j]
                    here = np.uint8(2 * (i % 2) + j % 2)
                    for c in range(channels):
                        passed = g[c] if where[c] == here else ZERO
                        centred = passed - grad_mean[c] - (pixel[c] - mean[c]) * slope[c]
                        pixel[c] = centred * inverse_std[c] * weight[c]

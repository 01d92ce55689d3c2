"""Gradients at several batch sizes, and of each filter, with the weights held still."""

import copy
from collections.abc import Iterator

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional as F

from . import data, models
from .run import FILTER_COLUMNS, NOISE_COLUMNS

BATCH_SIZES = (32, 64, 128, 256, 512, 1024, 2048)
IMAGES = 8192  # for each batch size; the largest then has four batches


def measure(model, dataset: data.Dataset, epoch: int, seed: int, precision: str = "fp32") -> pd.DataFrame:
    """Mean |g|² over batches of each size, at the model's present weights, for each probed weight.

    Columns: ``epoch`` (as given), ``batch_size``, ``layer`` (name), ``grad_norm_sq``, and ``grad_product``:
    the mean product of the gradients of two batches. These have their noise each to itself, so that this is
    |ḡ|² without bias, by chance below 0 where it is small; ḡ is the mean gradient where batch norm
    sees that many images at a time. All sizes see the same images, augmented as for training; batch norm works as
    in training, on the batch at hand. Sizes of which there are not two batches are left out. The model is left
    as it is, and so is the random state of its training.
    """
    model = _copied(model)
    weights = models.probed_weights(model)
    images, labels = _images(dataset, epoch, seed)
    rows = []
    for size in BATCH_SIZES:
        if 2 * size <= len(images):
            batches = _gradients(model, weights, images, labels, size, precision)
            rows += [(epoch, size, *of_layer) for of_layer in zip(weights, *_moments(batches), strict=True)]
    return pd.DataFrame(rows, columns=list(NOISE_COLUMNS))


def measure_filters(
    model, dataset: data.Dataset, epoch: int, seed: int, batch_size: int, precision: str = "fp32"
) -> pd.DataFrame:
    """Each output filter by itself, at the model's present weights: its part w of a weight, and g of a gradient.

    Columns: ``epoch`` (as given), ``layer``, ``filter`` (from 0), ``weight_norm_sq`` |w|², ``grad_norm_sq`` |g|²
    (mean over batches of ``batch_size``) and ``cosine``, the largest |cos(w, g)| of a batch. In all else as `measure`.
    """
    model = _copied(model)
    weights = models.probed_weights(model)
    rows = [w.detach().flatten(1) for w in weights.values()]
    norms_sq = [w.square().sum(1) for w in rows]
    grads_sq, cosines = ([torch.zeros_like(n) for n in norms_sq] for _ in range(2))
    images, labels = _images(dataset, epoch, seed)
    for grads in _gradients(model, weights, images, labels, batch_size, precision):
        for i, g in enumerate(grads):
            g = g.flatten(1)
            of_batch = g.square().sum(1)
            grads_sq[i] += of_batch / (len(images) // batch_size)
            # a filter that nothing reaches has no gradient, and no angle with it
            size = (norms_sq[i] * of_batch).sqrt().clamp_min(torch.finfo(g.dtype).tiny)
            cosines[i] = torch.maximum(cosines[i], (rows[i] * g).sum(1).abs() / size)
    # six digits: what a record keeps of hundreds of filters is text
    measured = (
        [float(f"{x:.6g}") for x in torch.cat(of_filters).tolist()]
        for of_filters in (norms_sq, grads_sq, cosines)
    )
    names = ((epoch, layer, i) for layer, w in zip(weights, rows, strict=True) for i in range(len(w)))
    table = [(*name, *numbers) for name, *numbers in zip(names, *measured, strict=True)]
    return pd.DataFrame(table, columns=list(FILTER_COLUMNS))


def _copied(model):
    """A copy in training: batch norm's running averages move."""
    return copy.deepcopy(model).train()


def _images(dataset: data.Dataset, epoch: int, seed: int) -> tuple[Tensor, Tensor]:
    """Augmented images and their labels, which seed and epoch choose."""
    own_seed = int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0])
    generator = torch.Generator(dataset.train_images.device).manual_seed(own_seed)
    choices = data.draw(dataset, generator)[:IMAGES]
    return data.augment(dataset, choices), choices.label


def _gradients(model, weights, images, labels, size: int, precision: str) -> Iterator[tuple[Tensor, ...]]:
    """The gradients of each whole batch."""
    whole = len(images) - len(images) % size
    for batch, targets in zip(images[:whole].split(size), labels[:whole].split(size), strict=True):
        loss = F.cross_entropy(models.logits(model, batch, precision), targets)
        yield torch.autograd.grad(loss, list(weights.values()))


def _moments(batches: Iterator[tuple[Tensor, ...]]) -> tuple[list[float], list[float]]:
    """Mean |g|² over batches, and mean g·g′ over pairs of different batches, for each weight."""
    total, sums, n = torch.zeros(()), [], 0
    for grads in batches:
        total = total + torch.stack(torch._foreach_norm(grads)).square().cpu().double()
        sums = list(torch._foreach_add(sums, grads)) if sums else [g.double() for g in grads]
        n += 1
    # |Σg|² has every pair twice, and each batch with itself
    of_sum = torch.stack(torch._foreach_norm(sums)).square().cpu()
    return (total / n).tolist(), ((of_sum - total) / (n * (n - 1))).tolist()

"""How long gradients are at several batch sizes, with the weights held still."""

import copy

import numpy as np
import pandas as pd
import torch
from torch.nn import functional as F

from . import data, models
from .run import NOISE_COLUMNS

BATCH_SIZES = (32, 64, 128, 256, 512, 1024, 2048)
IMAGES = 8192  # for each batch size; the largest then has four batches


def measure(model, dataset: data.Dataset, epoch: int, seed: int, precision: str = "fp32") -> pd.DataFrame:
    """Mean |g|² over batches of each size, at the model's present weights, for each probed weight.

    Columns: ``epoch`` (as given), ``batch_size``, ``layer`` (name), ``grad_norm_sq``. All sizes see
    the same images, augmented as for training; batch norm works as in training, on the batch at
    hand. The model is left as it is, and so is the random state of its training.
    """
    model = copy.deepcopy(model)  # batch norm's running averages move
    model.train()
    weights = models.probed_weights(model)
    device = dataset.train_images.device
    own_seed = int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0])
    choices = data.draw(dataset, torch.Generator(device).manual_seed(own_seed))[:IMAGES]
    images = data.augment(dataset, choices)
    rows = [
        (epoch, size, layer, float(norm_sq))
        for size in BATCH_SIZES
        if size <= len(images)
        for layer, norm_sq in zip(
            weights, _mean_norms_sq(model, weights, images, choices.label, size, precision), strict=True
        )
    ]
    return pd.DataFrame(rows, columns=list(NOISE_COLUMNS))


def _mean_norms_sq(model, weights, images, labels, size: int, precision: str) -> torch.Tensor:
    whole = len(images) - len(images) % size
    batches = list(zip(images[:whole].split(size), labels[:whole].split(size), strict=True))
    total = torch.zeros(len(weights), device=images.device)
    for batch, targets in batches:
        loss = F.cross_entropy(models.logits(model, batch, precision), targets)
        grads = torch.autograd.grad(loss, list(weights.values()))
        total += torch.stack(torch._foreach_norm(grads)).square()
    return total / len(batches)

"""What only a GPU can show; left out where there is none."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from lib import models, training
from lib.config import Config
from lib.machinery import checkpoints, machine

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")

CONFIG = Config(dataset="digits", width=8, epochs=2, peak_epoch=1, batch_size=500)


def _gradients(dataset, device: str, precision: str) -> torch.Tensor:
    """Of all weights, one after the other, for the first images, on the processor."""
    model = training.build(CONFIG, torch.device(device))
    images = dataset.normalise(dataset.train_images[:256]).to(device)
    with machine.whole_float32():
        logits = models.logits(model, images, precision)
        F.cross_entropy(logits, dataset.train_labels[:256].to(device)).backward()
    return torch.cat([w.grad.flatten() for w in model.parameters()]).cpu().double()


@pytest.mark.parametrize(("precision", "error"), [("fp32", 5e-3), ("bf16", 0.2)])
def test_gradients_are_those_of_the_processor(digits, precision, error):
    # float32 itself is off by 2e-3 of float64, as a ReLU at 0 goes one way or the other; with TF32 it is ten times that
    ours, right = _gradients(digits, "cuda", precision), _gradients(digits, "cpu", "fp32")
    assert (ours - right).norm() < error * right.norm()


def test_a_step_is_the_one_that_was_measured():
    config = replace(CONFIG, momentum=0.0, noise_every=1, by_filter=True)
    run = training.train(config, progress=False)
    assert run.provenance["device"] == torch.cuda.get_device_name()
    s = run.steps.astype({name: float for name in run.steps.columns if name != "layer"})
    a = config.weight_decay
    moved = s.lr**2 * (s.grad_norm_sq + 2 * a * s.weight_dot_grad + a**2 * s.weight_norm_sq)
    np.testing.assert_allclose(s.update_norm_sq, moved, rtol=1e-3)
    cosine = s.weight_dot_grad.abs() / np.sqrt(s.weight_norm_sq * s.grad_norm_sq)
    assert cosine[s.layer != "classifier"].max() < 1e-3 < 1e-2 < cosine[s.layer == "classifier"].max()
    filters = run.by_filter["weight_norm_sq"].sum() / config.epochs
    convolutions = s[s.layer != "classifier"].groupby("step")["weight_norm_sq"].sum().mean()
    assert filters == pytest.approx(convolutions, rel=1e-4)
    assert set(run.noise["epoch"]) == {0, 1, 2}


def test_a_run_that_was_stopped_goes_on_with_the_same_images(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "SECONDS", 0)
    file = tmp_path / "run.checkpoint"
    whole = training.train(CONFIG, progress=False, checkpoint=file)  # leaves the state after the first epoch
    resumed = training.train(CONFIG, progress=False, checkpoint=file)
    assert resumed.provenance["resumed"] == 1
    # sums on a GPU are not in the same order each time
    np.testing.assert_allclose(resumed.epochs["train_loss"], whole.epochs["train_loss"], rtol=0.02)

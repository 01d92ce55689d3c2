import pickle
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import assert_same_run
from torch.nn import functional as F

from lib import data, gradient_noise, models, paths, records, training
from lib.config import EPOCH_IMAGES, Config
from lib.machinery import checkpoints
from lib.optimizers import SGD
from lib.probes import QUANTITIES
from lib.schedules import per_step
from lib.training import DivergedError, evaluate, train

# 1500 images four times in batches of 700: eight steps an epoch, 400 images left over
SHORT = Config(
    dataset="digits", architecture="Residual:L1+L3", width=2, epochs=2, peak_epoch=1, batch_size=700, seed=3
)
STEPS = 8


@pytest.fixture(scope="module")
def short():
    return train(SHORT, progress=False)


def test_equal_configs_give_equal_runs(short):
    assert_same_run(train(SHORT, progress=False), short)


def test_another_seed_gives_another_run(short):
    other = train(replace(SHORT, seed=4), progress=False)
    for column in ("weight_norm_sq", "grad_norm_sq"):  # other weights, other images
        assert np.isclose(other.steps[column], short.steps[column], rtol=1e-4).mean() < 0.05


def test_the_caller_keeps_its_random_state():
    torch.manual_seed(5)
    state = torch.get_rng_state()
    train(replace(SHORT, epochs=1, peak_epoch=0.5), progress=False)
    assert torch.equal(torch.get_rng_state(), state)


def test_the_table_of_steps(short):
    steps, layers = short.steps, [*"prep layer1 layer1.res1 layer1.res2 layer2 layer3".split()]
    layers += ["layer3.res1", "layer3.res2", "classifier"]
    assert list(steps) == ["step", "epoch", "layer", "lr", *QUANTITIES]
    assert [str(t) for t in steps.dtypes] == ["int32", "float32", "category", "float32"] + ["float32"] * 6
    assert steps["layer"].cat.ordered and list(steps["layer"].cat.categories) == layers
    assert steps["layer"].tolist() == layers * 2 * STEPS
    assert steps["step"].tolist() == np.repeat(range(2 * STEPS), 9).tolist()
    np.testing.assert_allclose(steps["epoch"], (steps["step"] + 0.5) / STEPS, rtol=1e-6)
    np.testing.assert_allclose(steps["lr"], SHORT.lr_schedule((steps["step"] + 0.5) / STEPS), rtol=1e-6)
    assert np.isfinite(steps[list(QUANTITIES)]).all(axis=None)


def test_the_table_of_epochs_and_provenance(short):
    assert list(short.epochs) == ["epoch", "train_loss", "train_accuracy", "test_loss", "test_accuracy"]
    assert short.epochs["epoch"].tolist() == [1, 2]
    assert short.epochs[["train_accuracy", "test_accuracy"]].apply(lambda a: a.between(0, 1)).all(axis=None)
    assert short.test_accuracy == short.epochs["test_accuracy"].iloc[1]
    assert short.provenance["torch"] == torch.__version__
    assert short.provenance["threads"] == torch.get_num_threads()
    assert {"device", "precision", "python", "commit", "date", "seconds"} < set(short.provenance)


def plain_run(config, make_optimizer):
    """The same training as a bare loop without probes: losses and accuracies of each epoch, last weights."""
    dataset, generator = data.load(config.dataset), torch.Generator().manual_seed(config.seed)
    torch.manual_seed(config.seed)
    model = models.build(config.architecture, config.width).to(memory_format=torch.channels_last)
    optimizer = make_optimizer(
        model.parameters(), lr=1.0, momentum=config.momentum, weight_decay=config.weight_decay
    )
    lrs = iter(per_step(config.lr_schedule, config.epochs, dataset.epoch_size // config.batch_size))
    epochs = []
    for _ in range(config.epochs):
        choices = data.draw(dataset, generator)
        images, losses, right = data.augment(dataset, choices), [], []
        model.train()
        for start in range(0, dataset.epoch_size - config.batch_size + 1, config.batch_size):
            batch = slice(start, start + config.batch_size)
            optimizer.param_groups[0]["lr"] = next(lrs)
            optimizer.zero_grad()
            logits = model(images[batch])
            loss = F.cross_entropy(logits, choices.label[batch])
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            right.append((logits.argmax(1) == choices.label[batch]).float().mean().item())
        model.eval()
        with torch.no_grad():
            logits = model(dataset.normalise(dataset.test_images))
        test_loss = F.cross_entropy(logits, dataset.test_labels).item()
        test_right = (logits.argmax(1) == dataset.test_labels).float().mean().item()
        epochs.append([np.mean(losses), np.mean(right), test_loss, test_right])
    assert next(lrs, None) is None
    return epochs, models.probed_weights(model)


@pytest.mark.parametrize("make_optimizer", [SGD, torch.optim.SGD])
def test_a_plain_loop_gives_the_same_losses(short, make_optimizer):
    epochs, _ = plain_run(SHORT, make_optimizer)
    np.testing.assert_allclose(short.epochs.drop(columns="epoch"), epochs, rtol=1e-5)


def test_nesterov_is_used_when_asked_for(short):
    nesterov = train(replace(SHORT, nesterov=True), progress=False)
    epochs, _ = plain_run(SHORT, lambda *args, **kwargs: torch.optim.SGD(*args, nesterov=True, **kwargs))
    np.testing.assert_allclose(nesterov.epochs.drop(columns="epoch"), epochs, rtol=1e-5)
    assert not np.allclose(nesterov.epochs["test_loss"], short.epochs["test_loss"], rtol=1e-4)


def test_rows_belong_to_their_steps_and_layers():
    """At ρ = 0 the update is λ(g + αw), and |w|² at the next step is that of the updated weights."""
    config = replace(SHORT, momentum=0.0, lr=2.0, weight_decay=0.01)
    s = train(config, progress=False).steps.astype(dict.fromkeys(("lr", *QUANTITIES), float))
    decay = config.weight_decay
    expected = s.grad_norm_sq + 2 * decay * s.weight_dot_grad + decay**2 * s.weight_norm_sq
    np.testing.assert_allclose(s.update_norm_sq, s.lr**2 * expected, rtol=1e-4)
    w_dot_update = -s.lr * (s.weight_dot_grad + decay * s.weight_norm_sq)
    following = s.groupby("layer", observed=True).weight_norm_sq.shift(-1)
    known = following.notna()
    np.testing.assert_allclose(
        following[known], (s.weight_norm_sq + 2 * w_dot_update + s.update_norm_sq)[known], rtol=1e-5
    )


@pytest.mark.parametrize("name", EPOCH_IMAGES)
def test_an_epoch_has_as_many_images_as_was_known_before(name):
    if not data.at_hand(name):
        pytest.skip(f"needs {name}, and it is not there")
    assert data.load(name).epoch_size == EPOCH_IMAGES[name]


def test_a_batch_larger_than_an_epoch_is_named():
    with pytest.raises(ValueError, match="batch_size=6001 .* at most 6000"):
        train(replace(SHORT, batch_size=6001), progress=False)


def test_a_batch_as_large_as_an_epoch_is_one_step():
    run = train(replace(SHORT, width=1, epochs=1, peak_epoch=0.5, batch_size=6000), progress=False)
    assert run.steps["step"].tolist() == [0] * 9


def test_divergence_is_an_error_that_says_where_and_with_what():
    with pytest.raises(
        DivergedError, match=r"at step [01] with Config\(.*lr=1e\+30.*try a smaller lr"
    ) as error:
        train(replace(SHORT, lr=1e30), progress=False)
    run = error.value.run
    assert run.diverged_at in (0, 1) and run.epochs.empty and run.steps.empty
    again = pickle.loads(pickle.dumps(error.value))  # as it comes from another process
    assert str(again) == str(error.value) and again.run.diverged_at == run.diverged_at


def test_divergence_at_the_last_step_is_an_error_too():
    """No loss follows the last step: the weights it breaks show in what was measured."""
    config = replace(SHORT, epochs=1, peak_epoch=0.5, lr=9e37, batch_size=6000, weight_decay=1.0)
    with pytest.raises(DivergedError):
        train(config, progress=False)


def test_a_run_that_diverges_keeps_the_epochs_before(tmp_path, monkeypatch):
    """Broken in its third epoch, it has the first two as a run that nobody broke."""
    monkeypatch.setattr(gradient_noise, "BATCH_SIZES", (700,))
    monkeypatch.setattr(gradient_noise, "IMAGES", 1400)
    config = replace(SHORT, epochs=4, noise_every=2)
    whole = train(config, progress=False)
    entropy, calls = F.cross_entropy, []

    def breaking(*args, **kwargs):
        loss = entropy(*args, **kwargs)
        trains = torch.is_grad_enabled() and args[0].requires_grad and len(args[0]) == 700
        calls.extend([1] * trains)
        return loss * float("nan") if trains and len(calls) == 2 * STEPS + 6 else loss

    # of the training alone: gradients at frozen weights have losses too
    monkeypatch.setattr(training, "F", SimpleNamespace(cross_entropy=breaking))
    run = training.outcome(config, progress=False)
    assert run.diverged_at == 2 * STEPS + 5
    kept = whole.steps[whole.steps["step"] < 2 * STEPS]
    pd.testing.assert_frame_equal(run.steps, kept, check_exact=True)
    pd.testing.assert_frame_equal(run.epochs, whole.epochs[:2], check_exact=True)
    assert run.noise.equals(whole.noise[whole.noise["epoch"] <= 2])
    records.write(run, tmp_path / "run.parquet")
    assert_same_run(records.read(tmp_path / "run.parquet"), run)


def test_a_test_loss_that_is_not_finite_is_divergence(monkeypatch):
    monkeypatch.setattr(training, "evaluate", lambda *_: (float("inf"), 0.1))
    run = training.outcome(SHORT, progress=False)
    assert run.diverged_at == STEPS - 1 and run.epochs.empty


def test_evaluate_is_the_mean_over_images_whatever_the_batches():
    dataset, model = data.load("digits"), models.build("backbone", 2)
    logits = model.eval()(dataset.normalise(dataset.test_images)).detach()
    loss = F.cross_entropy(logits.double(), dataset.test_labels).item()
    accuracy = (logits.argmax(1) == dataset.test_labels).double().mean().item()
    for batch_size in (100, 297, 1000):
        assert evaluate(model.train(), dataset, batch_size) == pytest.approx((loss, accuracy), rel=1e-6)


#: A training on all of CIFAR-10 of which an epoch is four steps, and a test two batches; its peak of memory in KiB.
FOUR_STEPS = """
import resource
from dataclasses import replace
from lib import config, data, training
from lib.machinery import machine
draw, config.EPOCH_IMAGES["cifar10"], load = data.draw, 4 * 512, data.load
data.draw = lambda *drawn_from: draw(*drawn_from)[: 4 * 512]
def load_fewer(*named):
    dataset = load(*named)
    return replace(dataset, test_images=dataset.test_images[:2000], test_labels=dataset.test_labels[:2000])
data.load = load_fewer
machine.start_without_compiler()
training.train(config.Config(width=8, epochs=1, peak_epoch=0.5), progress=False)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems count memory otherwise")
def test_a_training_on_cifar10_needs_little_memory(cifar10_files):
    done = subprocess.run([sys.executable, "-c", FOUR_STEPS], capture_output=True, text=True, cwd=paths.ROOT)
    assert int(done.stdout) / 2**20 < 2.5, done.stderr


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_lars_takes_the_steps_of_equilibrium_and_sgd_moves_the_rest(momentum):
    config = replace(SHORT, optimizer="lars", momentum=momentum, lr=2.0, weight_decay=0.01)
    s = train(config, progress=False).steps.astype(dict.fromkeys(("lr", *QUANTITIES), float))
    if momentum:  # only the first step is free of earlier ones
        s = s[s["step"] == 0]
    convs, x = s["layer"] != "classifier", s.lr * config.weight_decay
    line_sq = x * (1 - momentum) * (2 - x / (1 + momentum))
    np.testing.assert_allclose(s.update_norm_sq[convs], (line_sq * s.weight_norm_sq)[convs], rtol=1e-4)
    expected = s.grad_norm_sq + 0.02 * s.weight_dot_grad + 0.01**2 * s.weight_norm_sq
    np.testing.assert_allclose(s.update_norm_sq[~convs], (s.lr**2 * expected)[~convs], rtol=1e-4)


def test_slow_bf16_is_said_once_and_fp32_is_silent(monkeypatch, capsys):
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_VNNI")
    config = replace(SHORT, epochs=1, peak_epoch=0.5, precision="bf16")
    run = training.train(config)
    assert run.provenance["precision"] == "bf16"
    said = capsys.readouterr().err
    assert said.count("bf16 is emulated") == 1 and "--precision fp32" in said
    training.train(replace(config, precision="fp32"))
    assert "emulated" not in capsys.readouterr().err


def test_a_training_keeps_whole_float32_and_leaves_the_setting_as_it_was(monkeypatch):
    kept = []

    def evaluate(*of):
        kept.append(torch.backends.cudnn.allow_tf32)
        return 1.0, 0.5

    monkeypatch.setattr(training, "evaluate", evaluate)
    training.train(SHORT, progress=False)
    assert kept == [False, False] and torch.backends.cudnn.allow_tf32


def test_a_checkpoint_of_another_precision_is_not_gone_on_from(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(checkpoints, "SECONDS", 0)
    file = tmp_path / "run.checkpoint"
    config = replace(SHORT, epochs=2, peak_epoch=0.5, batch_size=6000)
    training.train(config, checkpoint=file)
    run = training.train(replace(config, precision="bf16"), checkpoint=file)
    assert "precision 'fp32' and not 'bf16'" in capsys.readouterr().err
    assert "resumed" not in run.provenance

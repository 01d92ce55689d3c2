"""Watching a network: what is measured, what is predicted, and what is left behind."""

import math

import matplotlib
import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from lib import laws, optimizers, stretches, theory
from lib.watch import TABLE, watch

SHAPE = (10, 100)


class Weights(nn.Module):
    """Parameters alone; their gradients are made by the tests."""

    def __init__(self, **shapes):
        super().__init__()
        for name, shape in shapes.items():
            self.register_parameter(name, nn.Parameter(torch.ones(shape)))


class Lion(torch.optim.Optimizer):
    """Chen et al. 2023, as published."""

    def __init__(self, params, lr, betas=(0.9, 0.99), weight_decay=0.0):
        super().__init__(params, dict(lr=lr, betas=betas, weight_decay=weight_decay))

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            (one, two), lr = group["betas"], group["lr"]
            for w in group["params"]:
                m = self.state[w].setdefault("m", torch.zeros_like(w))
                w.mul_(1 - lr * group["weight_decay"])
                w.sub_(lr * (one * m + (1 - one) * w.grad).sign())
                m.mul_(two).add_(w.grad, alpha=1 - two)


class Noise:
    """Gradients orthogonal to the weights, |g| = c/|w|: those of a normalised layer, where nothing is learnt."""

    def __init__(self, seed=0, size=1.0, memory=0.0):
        self.generator = torch.Generator().manual_seed(seed)
        self.size, self.memory, self.last = size, memory, {}

    def __call__(self, w):
        noise = torch.randn(w.shape, generator=self.generator)
        if self.memory:  # each like the last one
            last = self.last.get(id(w), noise)
            noise = self.memory * last + math.sqrt(1 - self.memory**2) * noise
            self.last[id(w)] = noise
        w = w.detach()
        noise = noise - w * (w * noise).sum() / (w * w).sum()
        return noise * (self.size / noise.norm() / w.norm())


def trained(make, steps, noise=None, start=1.0, settings=({}, {}), **how):
    """Two weights, each a group of the optimiser with its settings, after so many steps; the watch."""
    noise = noise or Noise()
    model = Weights(a=SHAPE, b=SHAPE)
    for w in model.parameters():
        w.data = noise(w) / noise(w).norm() * start
    groups = [{"params": [w], **own} for w, own in zip(model.parameters(), settings, strict=True)]
    optimizer = make(groups)
    eq = watch(model, optimizer, **how)
    for _ in range(steps):
        for w in model.parameters():
            w.grad = noise(w)
        optimizer.step()
    return eq


SGD, LARS = optimizers.SGD, optimizers.LARS
SLOW, QUICK = {"lr": 0.1, "weight_decay": 0.02}, {"lr": 0.2, "weight_decay": 0.02}
#: For each optimiser how it is made, the settings of the two weights, the size of |g||w|, and the power of
#: |w| that goes back to its equilibrium as an exponential.
DYNAMICS = {
    "SGD": (lambda g: torch.optim.SGD(g, lr=1.0), (SLOW, QUICK), 1.0, 4),
    "heavy-ball": (lambda g: torch.optim.SGD(g, lr=1.0, momentum=0.8), (SLOW, QUICK), 1.0, 4),
    "Nesterov": (
        lambda g: torch.optim.SGD(g, lr=1.0, momentum=0.8, nesterov=True), (SLOW, QUICK | {"momentum": 0.5}), 1.0,
        4),
    "dampening": (lambda g: torch.optim.SGD(g, lr=1.0, momentum=0.8, dampening=0.5), (SLOW, QUICK), 1.0, 4),
    "this book's SGD": (lambda g: SGD(g, lr=1.0, momentum=0.8), (SLOW, QUICK), 1.0, 4),
    "SGDW": (lambda g: SGD(g, lr=1.0, momentum=0.8, decoupled=True), (SLOW, QUICK), 1.0, 4),
    "SGDW with Nesterov": (
        lambda g: SGD(g, lr=1.0, momentum=0.8, nesterov=True, decoupled=True), (SLOW, QUICK), 1.0, 4),
    "AdamW": (
        lambda g: torch.optim.AdamW(g, lr=1.0, betas=(0.9, 0.98)),
        ({"lr": 0.01, "weight_decay": 0.25}, {"lr": 0.02, "weight_decay": 0.25, "betas": (0.8, 0.99)}), 1.0, 2),
    "Adam": (
        lambda g: torch.optim.Adam(g, lr=1.0, betas=(0.9, 0.98)),
        ({"lr": 0.01, "weight_decay": 0.025}, {"lr": 0.02, "weight_decay": 0.025, "betas": (0.8, 0.99)}), 10.0, 3),
    "Lion": (
        lambda g: Lion(g, lr=1.0, betas=(0.9, 0.95)),
        ({"lr": 0.01, "weight_decay": 0.4}, {"lr": 0.005, "weight_decay": 1.2, "betas": (0.8, 0.9)}), 1.0, 2),
    "LARS": (lambda g: LARS(g, lr=1.0), ({"lr": 0.01, "momentum": 0.8}, {"lr": 0.003, "momentum": 0.9}), 1.0, 0),
    "LARS of the page": (
        lambda g: LARS(g, lr=1.0, momentum=0.5, form="page"),
        ({"lr": 0.03, "weight_decay": 0.5}, {"lr": 0.045, "weight_decay": 0.5}), 10.0, -2),
    "LARS of You": (
        lambda g: LARS(g, lr=1.0, momentum=0.5, form="you"),
        ({"lr": 30.0, "weight_decay": 0.5}, {"lr": 45.0, "weight_decay": 0.5}), 10.0, -2),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", DYNAMICS)
def test_each_optimiser_reaches_its_prediction(name):
    make, settings, size, _ = DYNAMICS[name]
    table = trained(make, 1200, Noise(size=size), settings=settings, every=5).table()
    assert table["invariant"].all()
    np.testing.assert_allclose(table["rotation_over_predicted"], 1, atol=0.05)
    if name == "LARS":
        assert table["R"].isna().all() and set(table["verdict"]) == {"no weight decay: it grows"}
        return
    np.testing.assert_allclose(table["R"], 1, atol=0.05)
    assert set(table["verdict"]) == {"in equilibrium"}
    rotations = table["rotation"].to_numpy()
    assert abs(rotations[1] / rotations[0] - 1) > 0.2  # each by its own settings


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in DYNAMICS if n != "LARS"])
def test_the_relaxation_time_is_that_of_the_way_back(name):
    """A weight at its equilibrium is made longer; a relaxation time later 1/e of that is left."""
    make, settings, size, power = DYNAMICS[name]
    noise = Noise(size=size)
    eq = trained(make, 800, noise, settings=settings, every=20)
    eq.close()
    eq.parameters["a"].data *= 1.3
    steps = round(float(eq.table().loc["a", "relaxation_steps"]))
    assert steps > 10
    for i in range(steps + 2):
        if i == steps - 2:
            later = watch(eq.model, eq.optimizer, correlation=False)
        for w in eq.parameters.values():
            w.grad = noise(w)
        eq.optimizer.step()
    squared = float(stretches.numbers(later.stretches.fetch()[1].sum(axis=0)[0], eq.laws["a"])["R"]) ** 2
    # 1/R² is |w|^p over its equilibrium; of LARS, R² is a power of the length itself
    excess = (1 / squared if power > 0 else squared) - 1
    assert 0.2 < excess / (1.3**power - 1) < 0.55  # 1/e = 0.37


@pytest.mark.slow
@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("memory", [0.5, -0.4])
def test_correlated_gradients_are_corrected_for(memory, nesterov):
    how = {"settings": (SLOW, SLOW)}

    def make(groups):
        return torch.optim.SGD(groups, lr=1.0, momentum=0.8, nesterov=nesterov)

    plain = trained(make, 600, Noise(memory=memory), correlation=False, every=3, **how).table()
    corrected = trained(make, 1200, Noise(memory=memory), every=3, **how).table()
    np.testing.assert_allclose(corrected["R"], 1, atol=0.05)
    np.testing.assert_allclose(corrected["rotation_over_predicted"], 1, atol=0.05)
    assert (abs(plain["R"] - 1) > 0.15).all()


def test_a_schedule_is_followed_step_by_step():
    w = Weights(w=SHAPE)
    optimizer = torch.optim.SGD(w.parameters(), lr=0.5, momentum=0.9, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 20)
    noise, rates = Noise(), []
    with watch(w, optimizer) as eq:
        for _ in range(20):
            w.w.grad = noise(w.w)
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            schedule.step()
    measured = eq.stretches.history()["predicted_turn_sq"].to_numpy()
    expected = theory.rotation(lr=np.array(rates), weight_decay=1e-2, momentum=0.9) ** 2
    np.testing.assert_allclose(measured, expected, rtol=1e-5)


def test_every_column_is_that_of_plain_products():
    torch.manual_seed(0)
    model, x = nn.Linear(6, 4, bias=False), torch.randn(5, 6)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.5, weight_decay=0.1)
    eq, past, rows = watch(model, optimizer, every=2), 0, []
    for step in range(6):
        optimizer.zero_grad()
        model(x).tanh().sum().backward()
        w, g = (t.detach().double().numpy().ravel().copy() for t in (model.weight, model.weight.grad))
        optimizer.step()
        new = model.weight.detach().double().numpy().ravel()
        if step % 2 == 0:
            angle = np.arccos(new @ w / np.linalg.norm(new) / np.linalg.norm(w))
            cos_sq = (w @ g) ** 2 / (w @ w) / (g @ g)
            rows.append([1, w @ w, g @ g, cos_sq, angle**2, (new - w) @ w / (w @ w), np.dot(g, g * past)])
            rows[-1][-1] = float(np.sum(g * past))
        past = 0.5 * past + g
    columns = [*stretches.COLUMNS[:6], "grad_dot_sum"]
    np.testing.assert_allclose(eq.stretches.history()[columns], rows, rtol=1e-4, atol=1e-6)
    assert eq.stretches.history()["step"].tolist() == [0, 2, 4]


def test_the_radial_part_is_no_rotation():
    model = Weights(w=SHAPE)
    eq = watch(model, optimizer := torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=1.0))
    model.w.grad = 0.5 * model.w.detach()
    optimizer.step()
    row = eq.stretches.history().iloc[0]
    assert row["radial"] == pytest.approx(-0.15) and row["turn_sq"] < 1e-12


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)
    )  # fmt: skip


X, Y = torch.randn(12, 1, 6, 6, generator=torch.Generator().manual_seed(0)), torch.arange(12) % 3


def step(model, optimizer, x=X, y=Y):
    optimizer.zero_grad()
    F.cross_entropy(model(x), y).backward()
    optimizer.step()


def sgd(model, **how):
    return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01, **how)


def test_the_table_of_a_network():
    model = network()
    optimizer = sgd(model)
    with watch(model, optimizer, loss=lambda: F.cross_entropy(model(X), Y)) as eq:
        for _ in range(40):
            step(model, optimizer)
    table = eq.table()
    assert tuple(table) == TABLE
    assert list(table.index) == [name for name, _ in model.named_parameters()]
    assert table["invariant"].tolist() == [True, *[False] * 5]
    assert table.loc["0.weight", "cos"] < 1e-3 < table.loc["4.weight", "cos"]
    assert table.loc["4.weight", "verdict"] == "not scale-invariant"
    assert "gradient along the weight" in table.loc["4.weight", "why"]
    assert table.loc["0.bias", "why"] == "the loss does not depend on it"
    assert table.loc["0.weight", "relaxation_steps"] == pytest.approx(0.1 / (4 * 0.1 * 0.01))


def test_without_a_loss_orthogonality_decides():
    model = network()
    optimizer = sgd(model)
    with watch(model, optimizer) as eq:
        for _ in range(5):
            step(model, optimizer)
    assert eq.table()["invariant"].tolist() == [True, *[False] * 5]
    assert eq.table().loc["0.weight", "why"].endswith("rescaling was not tried")


def verdict(lr=0.1, weight_decay=0.02, steps=600, **how):
    table = trained(lambda g: torch.optim.SGD(g, lr=lr, weight_decay=weight_decay), steps, **how).table()
    return table.loc["a", "verdict"], table.loc["a"]


def test_verdicts_in_words():
    assert verdict()[0] == "in equilibrium"
    assert verdict(steps=100, every=10)[0] == "too few steps to tell"
    assert verdict(weight_decay=0.0, steps=100)[0] == "no weight decay: it grows"
    assert (
        verdict(weight_decay=1e-5, steps=100)[0]
        == "decay too small to matter in this run: 100 of 250000 steps"
    )
    # a long weight: it shrinks, and is back when ln(|1/R² − 1|/0.1) relaxation times have passed
    found, row = verdict(weight_decay=0.02, steps=250, start=4.0)
    more = row["relaxation_steps"] * math.log((row["R"] ** -2 - 1) / 0.1)
    assert row["R"] < 0.5 and found == f"shrinking, {more:.0f} more steps"
    found, row = verdict(weight_decay=0.02, steps=66, start=0.1)
    assert row["R"] > 1.2 and found.startswith("still growing, ") and found.endswith(" more steps")


def test_the_error_of_R_is_its_scatter():
    """R from 200 stretches whose growth varies by chance, many times over."""
    random, law = np.random.default_rng(0), laws.Law()
    windows = np.ones((300, 200, len(stretches.COLUMNS)))
    windows[..., stretches.COLUMNS.index("growth")] = random.exponential(size=(300, 200))
    R = [stretches.numbers(window.sum(axis=0), law)["R"] for window in windows]
    errors = [stretches.standard_error(window.reshape(10, 20, -1).sum(axis=1), law) for window in windows]
    assert np.std(R) == pytest.approx(0.5 / math.sqrt(200), rel=0.15)
    assert np.sqrt(np.mean(np.square(errors))) == pytest.approx(np.std(R), rel=0.15)


def test_what_is_not_known_is_not_predicted():
    class Own(torch.optim.SGD):
        def step(self, closure=None):
            return super().step(closure)

    for make in (lambda g: torch.optim.RMSprop(g, lr=0.01), lambda g: Own(g, lr=0.1, weight_decay=0.1)):
        eq = trained(make, steps=50)
        table = eq.table()
        assert set(table["verdict"]) == {f"no prediction for {type(eq.optimizer).__name__}"}
        assert table["rotation"].gt(0).all()
        assert table[["R", "rotation_over_predicted", "relaxation_steps"]].isna().all(axis=None)


def test_a_law_follows_the_class_and_its_settings():
    def law(kind, **settings):
        optimizer = kind([nn.Parameter(torch.ones(3))], **settings)
        return laws.law(optimizer, optimizer.param_groups[0])

    class SGDW(optimizers.SGD):
        """As other libraries have it, whose decay is decoupled without being asked."""

    sgd = dict(lr=0.25, weight_decay=0.02, momentum=0.9)
    tensor = sgd | {"lr": torch.tensor(0.25)}
    assert law(torch.optim.SGD, **tensor) == law(torch.optim.SGD, **sgd)
    assert law(SGDW, **sgd) == law(optimizers.SGD, **sgd, decoupled=True) != law(optimizers.SGD, **sgd)
    assert law(optimizers.ClippedSGD, **sgd, clip=1.0, decay=0.9) is None
    adam = dict(lr=1e-3, weight_decay=0.1)
    assert law(torch.optim.Adam, **adam) and law(torch.optim.Adam, **adam, amsgrad=True) is None


def test_settings_without_an_equilibrium_are_refused_and_the_hooks_taken_off():
    model = Weights(w=SHAPE)
    optimizer = torch.optim.SGD(model.parameters(), lr=3.0, weight_decay=1.0)
    watch(model, optimizer)
    model.w.grad = Noise()(model.w)
    with pytest.raises(ValueError, match="lr × weight_decay"):
        optimizer.step()
    assert hooks(optimizer) == 0


def hooks(optimizer):
    return len(optimizer._optimizer_step_pre_hooks) + len(optimizer._optimizer_step_post_hooks)


def test_no_hook_is_left_behind():
    model = network()
    optimizer = sgd(model)
    eq = watch(model, optimizer)
    assert hooks(optimizer) == 2
    eq.close()
    eq.close()
    assert hooks(optimizer) == 0

    def broken():
        raise OSError("no more data")

    with pytest.raises(OSError):
        watch(model, optimizer, loss=broken)
    with pytest.raises(KeyboardInterrupt), watch(model, optimizer):
        step(model, optimizer)
        raise KeyboardInterrupt
    assert hooks(optimizer) == 0


def test_closing_leaves_the_training_as_it_would_have_been():
    models = [network(), network()]
    for model in models:
        optimizer = sgd(model)
        if model is models[0]:
            eq = watch(model, optimizer, loss=lambda model=model: F.cross_entropy(model(X), Y), every=3)
        for _ in range(7):
            step(model, optimizer)
    eq.close()
    for left, right in zip(*(model.state_dict().values() for model in models), strict=True):
        assert torch.equal(left, right)


def test_frozen_and_unused_parameters_are_said():
    model = network()
    model[0].weight.requires_grad_(False)
    model.add_module("5", nn.Linear(3, 3))
    optimizer = sgd(model)
    eq = watch(model, optimizer, loss=lambda: F.cross_entropy(model[:5](X), Y))
    for _ in range(3):
        step(model[:5], optimizer)
    table = eq.table()
    assert table.loc["0.weight", "verdict"] == "frozen"
    assert table.loc["5.weight", "verdict"] == "no step was seen"
    assert table.loc["5.weight", "why"] == "the loss does not depend on it"
    assert np.isfinite(table.loc["4.weight", "cos"])


def test_a_group_that_is_added_is_watched_from_then_on():
    model = network()
    optimizer = torch.optim.SGD(model[4].parameters(), lr=0.1, weight_decay=0.01)
    eq = watch(model, optimizer)
    for i in range(6):
        if i == 4:
            optimizer.add_param_group({"params": model[0].parameters(), "lr": 0.01})
        step(model, optimizer)
    samples = eq.stretches.history().groupby("parameter")["samples"].sum()
    assert samples["4.weight"] == 6 and samples["0.weight"] == 2 and samples["1.weight"] == 0
    assert eq.table().loc["0.weight", "relaxation_steps"] == pytest.approx(1 / (4 * 0.01 * 0.01))


def test_the_gradient_is_that_which_the_optimiser_uses():
    """Accumulated over batches, then clipped."""
    model = network()
    optimizer = sgd(model)
    nn.init.ones_(model[1].bias)  # of what has no length nothing is measured
    eq = watch(model, optimizer)
    for half in (slice(0, 6), slice(6, 12)):
        F.cross_entropy(model(X[half]), Y[half]).backward()
    nn.utils.clip_grad_norm_(model.parameters(), 0.01)
    optimizer.step()
    assert eq.stretches.history()["grad_norm_sq"].sum() == pytest.approx(1e-4, rel=1e-3)


def test_a_closure_makes_the_gradients_within_the_step():
    models = [network(), network()]
    found = []
    for model in models:
        optimizer = sgd(model)
        eq = watch(model, optimizer)

        def closure(model=model, optimizer=optimizer):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(X), Y)
            loss.backward()
            return loss

        for _ in range(3):
            if model is models[0]:
                optimizer.step(closure)
            else:
                closure()
                optimizer.step()
        found.append(eq.stretches.history())
    pd.testing.assert_frame_equal(*found)


@pytest.mark.parametrize("how", [{"foreach": True}, {"fused": True}])
@pytest.mark.parametrize("make", [torch.optim.SGD, torch.optim.AdamW])
def test_kernels_of_other_kinds_are_measured_alike(make, how):
    found = []
    for kind in ({"foreach": False}, how):
        model = network()
        optimizer = make(model.parameters(), lr=0.01, weight_decay=0.1, **kind)
        eq = watch(model, optimizer)
        for _ in range(3):
            step(model, optimizer)
        found.append(eq.stretches.history())
    pd.testing.assert_frame_equal(*found, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("how", [{}, {"fused": True}])
def test_a_scaler_that_skips_steps(how):
    """The loss is scaled, gradients are not those of the step until it is taken; one overflows."""
    model, plain = network(), network()
    optimizer, expected = sgd(model, **how), sgd(plain, **how)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    eq, truth = watch(model, optimizer), watch(plain, expected)
    for i in range(4):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(X), Y) * (float("inf") if i == 1 else 1.0)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        if i != 1:
            step(plain, expected)
        else:
            plain(X)  # batch norm's averages
    watched, expected = (w.stretches.history() for w in (eq, truth))
    rows = watched[watched["step"] == watched["step"].max()]
    columns = ["samples", "grad_norm_sq", "turn_sq"]
    np.testing.assert_allclose(rows[columns], expected[expected["step"] == 2][columns], rtol=1e-3, atol=1e-9)
    assert np.isfinite(watched[list(stretches.COLUMNS)]).all(axis=None)


def test_a_gradient_that_overflows_does_not_stay_in_the_sum():
    model = Weights(w=SHAPE)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0, momentum=0.5)
    eq = watch(model, optimizer)
    for value in (1.0, float("inf"), 1.0, 1.0, 1.0):
        model.w.grad = torch.full(SHAPE, value)
        optimizer.step()
        model.w.data.fill_(1.0)
        optimizer.state.clear()
    rows = eq.stretches.history()
    assert rows["samples"].tolist() == [1, 0, 0, 1, 1]  # one more is lost before it starts anew
    np.testing.assert_allclose(rows["grad_dot_sum"], [0, 0, 0, 1000, 1500])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_sums_of_half_precision_are_in_float32(dtype):
    model = Weights(w=(40, 50)).to(dtype)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.5, weight_decay=0.1)
    eq = watch(model, optimizer)
    for _ in range(3):
        model.w.grad = torch.full_like(model.w, 2000.0) * torch.arange(2000).reshape(40, 50).remainder(2).mul(
            2
        ).sub(1)
        optimizer.step()
    rows = eq.stretches.history()
    np.testing.assert_allclose(rows["grad_norm_sq"], 2000 * 2000.0**2, rtol=1e-3)
    np.testing.assert_allclose(rows["grad_dot_sum"], 8e9 * np.array([0, 1, 1.5]), rtol=1e-3, atol=1)
    assert eq.sums["w"].dtype == torch.float32


def test_sparse_gradients_are_refused_by_name():
    model = nn.Sequential(nn.Embedding(5, 4, sparse=True), nn.Linear(4, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    watch(model, optimizer)
    with pytest.raises(ValueError, match="the gradient of 0.weight is sparse"):
        step(model, optimizer, torch.tensor([0, 1]), torch.tensor([0, 1]))
    assert hooks(optimizer) == 0


def test_nothing_is_kept_that_is_not_needed():
    model = network()
    optimizer = sgd(model)
    eq = watch(model, optimizer, every=2, correlation=False)
    for _ in range(3):
        step(model, optimizer)
        assert not eq.sums and not eq.old
    eq.close()
    adam = torch.optim.AdamW(model.parameters())  # no law for correlated gradients
    eq = watch(model, adam)
    step(model, adam)
    assert not eq.sums


class NothingIsRead(TorchDispatchMode):
    """Fails where a number goes from the device to Python."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        assert func is not torch.ops.aten._local_scalar_dense.default, "a number was read from the device"
        return func(*args, **(kwargs or {}))


def test_nothing_is_copied_to_the_host_until_it_is_asked_for():
    model = network()
    optimizer = sgd(model)
    eq = watch(model, optimizer)
    with NothingIsRead():
        for _ in range(4):
            step(model, optimizer)
        with pytest.raises(AssertionError, match="read from the device"):
            float(X.sum())
    assert len(eq.table())


def test_the_number_of_stretches_stays_bounded():
    eq = trained(lambda g: torch.optim.SGD(g, lr=0.1, weight_decay=0.02), steps=260)
    history = eq.stretches.history()
    assert len(eq.stretches.kept) <= stretches.MOST
    assert history["samples"].sum() == 520
    starts = history["step"].unique()
    assert starts[0] == 0 and set(np.diff(starts)) == {4}


def test_it_goes_on_with_the_training(tmp_path):
    whole = trained(lambda g: torch.optim.SGD(g, lr=0.1, momentum=0.9, weight_decay=0.02), steps=60)
    noise, model = Noise(), Weights(a=SHAPE, b=SHAPE)
    for w in model.parameters():
        w.data = noise(w) / noise(w).norm()

    def part(steps):
        optimizer = torch.optim.SGD(
            [{"params": [w]} for w in model.parameters()], lr=0.1, momentum=0.9, weight_decay=0.02
        )
        eq = watch(model, optimizer)
        if (tmp_path / "state").exists():
            state = torch.load(tmp_path / "state", weights_only=True)
            optimizer.load_state_dict(state["optimizer"])
            eq.load_state_dict(state["watch"])
            if not steps:
                return eq
        for _ in range(steps):
            for w in model.parameters():
                w.grad = noise(w)
            optimizer.step()
        torch.save({"optimizer": optimizer.state_dict(), "watch": eq.state_dict()}, tmp_path / "state")
        return eq

    part(25)
    part(35)
    pd.testing.assert_frame_equal(part(0).table(), whole.table())


def test_a_state_of_another_network_is_refused():
    first, second = Weights(a=SHAPE), Weights(b=SHAPE)
    state = watch(first, torch.optim.SGD(first.parameters(), lr=0.1)).state_dict()
    with pytest.raises(ValueError, match="the state is of other parameters: a, b differ"):
        watch(second, torch.optim.SGD(second.parameters(), lr=0.1)).load_state_dict(state)


def test_slices_of_a_fused_weight_are_watched_each_by_itself():
    torch.manual_seed(0)
    model, x = nn.Linear(6, 8, bias=False), torch.randn(9, 6)

    def loss():
        one, two = model(x).chunk(2, -1)
        return (F.normalize(one, dim=-1) * two).tanh().sum()

    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.1)
    eq = watch(model, optimizer, loss=loss, slices={"weight": [slice(0, 4), slice(4, 8)]})
    loss().backward()
    w, g = model.weight.detach().clone(), model.weight.grad.clone()
    optimizer.step()
    assert eq.table()["invariant"].to_dict() == {"weight[0:4]": True, "weight[4:8]": False}
    found = eq.stretches.history()[["weight_norm_sq", "grad_norm_sq"]]
    expected = [[float(t[rows].square().sum()) for t in (w, g)] for rows in (slice(0, 4), slice(4, 8))]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_scalars_for_a_logger():
    model = network()
    optimizer = sgd(model)
    eq = watch(model, optimizer, loss=lambda: F.cross_entropy(model(X), Y))
    assert eq.scalars() == {}
    step(model, optimizer)
    assert set(eq.scalars()) == {f"{q}/0.weight" for q in ("R", "rotation_over_predicted", "cos")}
    assert all(type(value) is float for value in eq.scalars().values())


def test_what_is_saved_and_drawn(tmp_path):
    eq = trained(lambda g: torch.optim.SGD(g, lr=0.1, weight_decay=0.02), steps=50)
    eq.save(tmp_path / "run.parquet")
    saved = pd.read_parquet(tmp_path / "run.parquet")
    assert len(saved) == 100 and saved["invariant"].all()
    assert list(saved) == ["parameter", "step", *stretches.COLUMNS, "invariant", "why"]
    figure = eq.plot()
    for axes in figure.axes:
        lines = {line.get_label(): line for line in axes.get_lines()}
        assert {"a", "b"} <= lines.keys() and len(lines["a"].get_xdata()) == 50
    np.testing.assert_allclose(
        lines["a"].get_ydata(),
        np.sqrt(saved[saved["parameter"] == "a"].eval("turn_sq / predicted_turn_sq")),
    )
    assert not matplotlib.pyplot.get_fignums()


def test_of_many_weights_the_median_stands_out():
    model = Weights(**{f"w{i}": SHAPE for i in range(11)})
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.02)
    eq = watch(model, optimizer)
    noise = Noise()
    for _ in range(5):
        for w in model.parameters():
            w.grad = noise(w)
        optimizer.step()
    for axes in eq.plot().axes:
        *lines, median, _ = axes.get_lines()
        assert len(lines) == 11 and median.get_label() == "median"
        np.testing.assert_allclose(
            median.get_ydata(), np.median([line.get_ydata() for line in lines], axis=0)
        )
        assert median.get_linewidth() > 2 * lines[0].get_linewidth()


def test_a_library_s_wrapper_is_taken_off():
    class Wrapped:
        def __init__(self, optimizer):
            self.optimizer = optimizer

    model = Weights(w=SHAPE)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    assert watch(model, Wrapped(optimizer)).optimizer is optimizer
    assert hooks(optimizer) == 2


@pytest.mark.parametrize(
    ("how", "message"),
    [({"every": 0}, "every=0 is not allowed"), ({"optimizer": None}, "no parameter of the model")],
)
def test_what_cannot_be_watched_is_refused(how, message):
    model, other = Weights(w=SHAPE), Weights(w=SHAPE)
    trained = other if "optimizer" in how else model
    optimizer = torch.optim.SGD(trained.parameters(), lr=0.1)
    with pytest.raises(ValueError, match=message):
        watch(model, optimizer, every=how.get("every", 1))
    assert hooks(optimizer) == 0


def test_corrections_are_one_where_no_law_for_correlation_is_known():
    adam = laws.Law(size=1.0)
    assert laws.corrections(adam, 0.3) == (1.0, 1.0)

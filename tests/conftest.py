"""What several test modules share: a synthetic run, and CIFAR-10 where it is there."""

import numpy as np
import pandas as pd
import pytest
import torch

from lib import data, paths
from lib.config import Config
from lib.probes import QUANTITIES
from lib.training import Run

# one thread: equal numbers bit for bit, whatever the machine and whatever else it does
torch.set_num_threads(1)

LAYERS = ["prep", "layer1", "classifier"]
TINY = Config(dataset="digits", width=1, epochs=4, peak_epoch=1, batch_size=500)


def synthetic_run(config: Config = TINY, layers=tuple(LAYERS), steps_per_epoch: int = 5) -> Run:
    """A run of the right form whose numbers nobody trained."""
    random = np.random.default_rng(config.seed)
    steps = config.epochs * steps_per_epoch
    epoch = (np.arange(steps) + 0.5) / steps_per_epoch
    table = pd.DataFrame(
        {
            "step": np.repeat(np.arange(steps, dtype=np.int32), len(layers)),
            "epoch": np.repeat(epoch.astype(np.float32), len(layers)),
            "layer": pd.Categorical.from_codes(
                np.tile(range(len(layers)), steps), categories=layers, ordered=True
            ),
            "lr": np.repeat(config.lr_schedule(epoch).astype(np.float32), len(layers)),
        }
        | {name: random.uniform(0.5, 2, steps * len(layers)).astype(np.float32) for name in QUANTITIES}
    )
    columns = ["train_loss", "train_accuracy", "test_loss", "test_accuracy"]
    epochs = pd.DataFrame(random.uniform(0, 1, (config.epochs, 4)), columns=columns)
    epochs.insert(0, "epoch", np.arange(1, config.epochs + 1))
    provenance = {"device": "CPU", "threads": 1, "torch": "2", "python": "3", "commit": "0" * 40}
    return Run(config, table, epochs, provenance | {"date": "2000-01-01", "seconds": 1.5})


def assert_same_run(left: Run, right: Run) -> None:
    """Equal to the last bit, provenance aside."""
    assert left.config == right.config
    pd.testing.assert_frame_equal(left.steps, right.steps, check_exact=True)
    pd.testing.assert_frame_equal(left.epochs, right.epochs, check_exact=True)


@pytest.fixture
def run() -> Run:
    return synthetic_run()


@pytest.fixture
def records_in(tmp_path, monkeypatch):
    """Records of each scale in a folder of the test's own."""
    monkeypatch.setattr(paths, "records", lambda scale: tmp_path / "records" / scale)
    return tmp_path / "records"


@pytest.fixture(scope="session")
def cifar10_files():
    """Folder of CIFAR-10's batches."""
    folder = paths.cifar10() / "cifar-10-batches-py"
    if not folder.is_dir():
        pytest.skip(f"needs CIFAR-10, and {folder} is not there")
    return folder


@pytest.fixture(scope="session")
def cifar10(cifar10_files) -> data.Dataset:
    return data.load("cifar10")

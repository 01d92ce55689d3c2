"""Settings of one's own: every chapter and figure at any of them, with runs that nobody trained."""

import json
from dataclasses import replace

import numpy as np
import pytest
from conftest import recordable_run

from lib import config as config_module
from lib import experiments, library, paths, records, training

STORY = ("setup", "dynamics", "equilibrium", "batch-size", "momentum", "lars", "learning-rates")


def made_up(config, **_):
    """A run of that config whose numbers nobody trained: accuracies have a top, and gradients scatter little."""
    run = recordable_run(config)
    best = 0.8 + 0.1 * (config.architecture == "backbone") - 0.01 * abs(np.log2(config.lr / 0.4))
    return replace(run, epochs=run.epochs.assign(test_accuracy=best + 1e-3 * config.seed))


@pytest.fixture
def trained(monkeypatch, records_in):
    """Configs of what is trained, in no time; the runs of the demo are recorded."""
    monkeypatch.setitem(config_module.EPOCH_IMAGES, "digits", 6 * 64)
    configs = []

    def outcome(config, **_):
        configs.append(config)
        return made_up(config)

    monkeypatch.setattr(training, "outcome", outcome)
    return configs


def record(*names, scale="demo", **changes):
    for one in experiments.planned(experiments.chosen(scale, **changes), names):
        records.write(made_up(one.config), library.path(one), every=one.every)


def execute(chapter, **parameters):
    """Executes the code of a chapter here, as papermill would with these parameters; its names."""
    cells = json.loads((paths.ROOT / "book" / f"{chapter}.ipynb").read_text(encoding="utf-8"))["cells"]
    names = {}
    for cell in cells:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), names)
            if "parameters" in cell["metadata"].get("tags", ()):
                names |= parameters
    return names

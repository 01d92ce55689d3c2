"""What several test modules share: synthetic runs, data, a browser, and how to wait."""

import gc
import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from filelock import FileLock
from nbval.plugin import IPyNbFile

from lib import config, data, paths
from lib.config import Config, layers_of
from lib.run import FILTER_COLUMNS, NOISE_COLUMNS, QUANTITIES, Run, no_filter, part_of_epoch
from lib.site import book

# one thread: equal numbers bit for bit, whatever the machine and whatever else it does
torch.set_num_threads(1)
# a test run keeps most of what it makes: to look for garbage as often as Python does takes a tenth of its time
gc.set_threshold(20_000, 20, 20)
# Ctrl-C as at a terminal: a shell lets its background jobs, and all that these start, ignore it
signal.signal(signal.SIGINT, signal.default_int_handler)

#: Seconds after which a test gives up waiting, however busy the machine is.
LIMIT = 600

#: The built site that some tests look at: that of ``$SITE``, or else one that the fixture `site` builds.
SITE = Path(os.environ.get("SITE", paths.BUILD / "check" / "html")).resolve()

#: Modules that train, build pages, or start other programs, the longest first; tests elsewhere that do say so.
SLOW = (
    "test_site",
    "test_regression",
    "test_robustness",
    "test_runner",
    "test_settings",
    "test_training",
    "test_everywhere",
    "test_installed",
    "test_own_network",
    "test_contributing",
    "test_explorer",
    "test_takeaway",
    "test_spirals",
    "test_book",
    "test_launch",
    "test_pdf",
    "test_gallery",
    "test_precision",
    "test_gradient_noise",
    "test_bench",
    "test_speeds",
    "test_gpu",
)
#: Modules of many quick tests, the longest first: no worker is to be left with one of these at the end.
LONG = (
    "test_readers",
    "test_watch",
    "test_command_line",
    "test_figures",
    "test_invariance",
    "test_claims",
    "test_data",
    "test_theory",
    "test_verify",
    "test_prose",
)

LAYERS = ["prep", "layer1", "classifier"]
TINY = Config(dataset="digits", width=1, epochs=4, peak_epoch=1, batch_size=500)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Does not even load the slow where they are not wanted."""
    return (config.option.markexpr == "not slow" and collection_path.stem in SLOW) or None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks the slow, and puts them first, then chapters and the long: no worker is left with one at the end."""
    for item in items:
        if item.path.stem in SLOW:
            item.add_marker("slow")
    order = {name: place for place, name in enumerate((*SLOW, ".ipynb", *LONG))}
    items.sort(
        key=lambda item: order.get(".ipynb" if item.path.suffix == ".ipynb" else item.path.stem, len(order))
    )


#: What a kernel runs before a chapter: a picture is drawn, but neither laid out nor written; and no name is left.
BEFORE_A_CHAPTER = f"""
import gc; gc.set_threshold(*{gc.get_threshold()})
from lib.figures import style; style.files = lambda figure, *formats: [b"<svg/>" for _ in formats]
%reset -f
"""


class Chapters:
    """How nbval runs chapters: those of a worker in one kernel, and their outputs compared without pictures.

    To start a kernel takes longer than most chapters. Each finds no names but its own; what the library has read
    stays read. The bytes of a picture depend on fonts and library versions, and the site has the same figures laid
    out and written, which takes most of a chapter's time; the numbers that it shows are compared as text, and figures
    have tests of their own. Vectors are left out as nbval itself leaves out ``image/png``.
    """

    def __init__(self) -> None:
        self.kernel = None

    def pytest_collectstart(self, collector: pytest.Collector) -> None:
        if isinstance(collector, IPyNbFile):
            collector.skip_compare += ("image/svg+xml",)
            collector.setup, collector.teardown = partial(self.begin, collector), lambda: None

    def begin(self, chapter: IPyNbFile) -> None:
        """Gives a chapter the kernel, or a new one where that has ended."""
        if self.kernel is None or not self.kernel.is_alive():
            IPyNbFile.setup(chapter)
            self.kernel = chapter.kernel
        chapter.kernel = self.kernel
        self.kernel.await_idle(self.kernel.execute_cell_input(BEFORE_A_CHAPTER), LIMIT)

    def pytest_sessionfinish(self) -> None:
        if self.kernel is not None and self.kernel.is_alive():
            self.kernel.stop()


def pytest_configure(config: pytest.Config) -> None:
    """Chapters are not below this folder, where alone the hooks of this file would be called."""
    config.pluginmanager.register(Chapters())


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


def recordable_run(config: Config = TINY, diverged_at: int | None = None) -> Run:
    """A synthetic run with the layers, steps, noise and filters that a record of its config must have."""
    layers, steps = list(layers_of(config.architecture)), config.steps_per_epoch
    run = synthetic_run(config, layers, steps)
    epochs = config.epochs if diverged_at is None else diverged_at // steps
    frozen = range(0, epochs + 1, config.noise_every) if config.noise_every else ()
    noise = [(epoch, n, layer, 1 / n, 0.5 / n) for epoch in frozen for n in (32, 64) for layer in layers]
    at_rest = [(epoch, layer, i, 1.0, 2.0, 1e-4) for epoch in frozen for layer in layers for i in range(3)]

    def averaged(table, averages):
        kept = table[table["step"] < epochs * steps]
        part = part_of_epoch(kept["step"], steps, averages) if averages else kept["step"]
        means = kept.groupby([part.rename("part"), "layer"], observed=True).mean().reset_index("layer")
        return means.reset_index(drop=True)[list(kept)].astype({"step": np.int32})

    convolutions = list(layers_of(config.architecture, config.width).items())[:-1]
    filters = [f"{layer}[{i}]" for layer, size in convolutions for i in range(size.channels_out)]
    by_filter = averaged(synthetic_run(config, filters, steps).steps, 1) if config.by_filter else no_filter()
    return replace(
        run,
        steps=averaged(run.steps, config.averages),
        by_filter=by_filter,
        epochs=run.epochs[:epochs],
        noise=pd.DataFrame(noise, columns=list(NOISE_COLUMNS)),
        frozen_filters=pd.DataFrame(at_rest, columns=list(FILTER_COLUMNS)),
        diverged_at=diverged_at,
    )


def assert_same_run(left: Run, right: Run) -> None:
    """Equal to the last bit, provenance aside."""
    assert left.config == right.config and left.diverged_at == right.diverged_at
    pd.testing.assert_frame_equal(left.steps, right.steps, check_exact=True)
    pd.testing.assert_frame_equal(left.epochs, right.epochs, check_exact=True)
    pd.testing.assert_frame_equal(left.noise, right.noise, check_exact=True)
    pd.testing.assert_frame_equal(left.frozen_filters, right.frozen_filters, check_exact=True)


def wait_for(condition: Callable[[], object]) -> None:
    """Returns once the condition holds."""
    end = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def few_images(patch: pytest.MonkeyPatch) -> None:
    """Makes digits a data set of which an epoch takes no time."""
    whole = data.load("digits")
    images = {"train_images": whole.train_images[:160], "train_labels": whole.train_labels[:160]}
    images |= {"test_images": whole.test_images[:40], "test_labels": whole.test_labels[:40]}
    few = replace(whole, passes=1, **images)
    patch.setitem(data.LOADERS, "digits", lambda device: few)
    patch.setitem(config.EPOCH_IMAGES, "digits", 160)


@pytest.fixture
def run() -> Run:
    return recordable_run()


@pytest.fixture
def records_in(tmp_path, monkeypatch):
    """Records of each scale in a folder of the test's own."""
    monkeypatch.setattr(paths, "records", lambda scale: tmp_path / "records" / scale)
    return tmp_path / "records"


@pytest.fixture
def without_layout(monkeypatch):
    """Figures are drawn, but not laid out nor written, as the site has them: that takes most of a chapter's time."""

    from lib.figures import style

    def drawn(figure, *formats: str) -> list[bytes]:
        figure.set_layout_engine("none")
        figure.draw_without_rendering()
        return [b"<svg/>" for _ in formats]

    monkeypatch.setattr(style, "files", drawn)


@pytest.fixture(scope="session")
def digits() -> data.Dataset:
    return data.load("digits")


@pytest.fixture(scope="module")  # no longer: its loop of events would be in the way of others
def browser():
    from browser import launched

    with launched() as browser:
        yield browser


@pytest.fixture(scope="module")
def tab(browser):
    """One page of a browser for all visits of a module: a new one for each takes twice the time."""
    from browser import new_page

    page = new_page(browser)
    yield page
    page.close()


@pytest.fixture(scope="session")
def site(testrun_uid) -> None:
    """Builds the site, by the first worker that needs it, for all of them; that of ``$SITE`` is taken as it is."""
    if "SITE" in os.environ:
        return
    output = SITE.parent
    output.mkdir(parents=True, exist_ok=True)
    built_for = output / "built-for"
    with FileLock(output / "lock"):
        if not built_for.exists() or built_for.read_text() != testrun_uid:
            book.build_site(paths.ROOT, output)
            built_for.write_text(testrun_uid)


needs_site = pytest.mark.usefixtures("site")


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

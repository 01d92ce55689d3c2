"""The hash of the training sources: it follows what is computed, and leaves out no module of a training."""

import json
import re
import shutil
import subprocess
import sys

import pytest

from lib import paths
from lib.machinery import sources

#: Modules of `lib` that a training loads, and that no number of it depends on.
BESIDE = {
    "paths",  # where files are
    "machinery.files",  # how they are written
    "machinery.checkpoints",  # what goes in comes out again
    "machinery.machine",  # what is said of the machine
    "machinery.sources",  # this hash
}
TRAIN = """
import json, os, sys
from lib.config import Config
from lib.machinery import machine
from lib.training import train
machine.start_without_compiler()
train(Config(dataset="digits", width=1, epochs=1, peak_epoch=0.5, batch_size=6000), progress=False)
files = {name: module.__file__ for name, module in sys.modules.items() if name.startswith("lib.")}
print(json.dumps([name[4:] for name, file in files.items() if os.path.basename(file) != "__init__.py"]))
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A copy of the package, whose sources are hashed."""
    shutil.copytree(paths.PACKAGE, tmp_path / "lib", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(paths, "PACKAGE", tmp_path / "lib")
    monkeypatch.setattr(sources, "digest", sources.digest.__wrapped__)  # as often as it is asked
    return tmp_path / "lib"


def change(file, old, new):
    text = file.read_text(encoding="utf-8")
    assert re.search(old, text)
    file.write_text(re.sub(old, new, text), encoding="utf-8")
    return text


def test_it_is_twelve_digits_of_the_sources_and_not_of_their_place(package):
    here = sources.digest()
    assert re.fullmatch("[0-9a-f]{12}", here) and here == sources.digest()
    (package / "library.py").write_text("x = 1\n")  # which no training runs through
    assert sources.digest() == here


@pytest.mark.parametrize(
    "file, old, new",
    [
        ("run.py", r"AVERAGE_DECAY = 0\.9", "AVERAGE_DECAY = 0.8"),
        ("gradient_noise.py", "IMAGES = 8192", "IMAGES = 4096"),
        ("models.py", r"return 0\.125 \*", "return 0.25 *"),
        ("theory.py", r"np\.sqrt", "np.cbrt"),
    ],
)
def test_what_is_computed_changes_it(package, file, old, new):
    before = sources.digest()
    text = change(package / file, old, new)
    assert sources.digest() != before
    (package / file).write_text(text, encoding="utf-8")
    assert sources.digest() == before


@pytest.mark.parametrize("module", sources.TRAINING)
def test_every_training_module_counts_but_not_what_it_says_of_itself(package, module):
    file, before = package.joinpath(*module.split(".")).with_suffix(".py"), sources.digest()
    change(file, r'(?m)^( *)"""(?=\w)', r'\1"""In other words: ')
    change(file, r"(?m)^(import|from) ", r"# a comment\n\n\1 ")
    assert sources.digest() == before
    file.write_text(file.read_text(encoding="utf-8") + "\n_ONE = 1\n", encoding="utf-8")
    assert sources.digest() != before


@pytest.mark.slow
def test_every_module_that_a_training_runs_through_is_hashed(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(paths.ROOT))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # a GPU needs none of the modules for a processor
    trained = subprocess.run([sys.executable, "-c", TRAIN], capture_output=True, text=True)
    assert trained.returncode == 0, trained.stderr
    assert set(json.loads(trained.stdout)) == {*sources.TRAINING, *BESIDE}

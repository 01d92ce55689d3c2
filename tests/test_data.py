import hashlib
import io
import json
import os
import pickle
import socket
import subprocess
import sys
import tarfile
import threading
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import scipy  # which loads its statistics where they are used
import torch
from conftest import wait_for

from lib import data, paths

RARE = 1e-3  # seeds are fixed: a test that passes once passes always


@pytest.fixture(autouse=True)
def no_network(monkeypatch, request):
    if "server" in request.fixturenames:  # which is this machine's own
        return

    def refuse(*args, **kwargs):
        raise urllib.error.URLError("no network in tests")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


def synthetic(n=12, passes=1, **settings):
    """A data set of random images, of CIFAR-10's kind unless told otherwise."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (n, 32, 32, 3), generator=generator, dtype=torch.uint8)
    labels = torch.arange(n) % 10
    mean, std = torch.tensor(data.CIFAR10_MEAN), torch.tensor(data.CIFAR10_STD)
    return data.Dataset(
        images,
        labels,
        images[:2],
        labels[:2],
        mean,
        std,
        **{"pad": 4, "cutout": 8, "passes": passes} | settings,
    )


def drawn(dataset, seed=0):
    return data.draw(dataset, torch.Generator().manual_seed(seed))


def assert_uniform(values, cells):
    counts = np.bincount(np.asarray(values), minlength=cells)
    assert len(counts) == cells, "a value outside its range"
    assert scipy.stats.chisquare(counts).pvalue > RARE


@pytest.mark.parametrize(
    "settings", [{}, {"pad": 2, "cutout": 4, "flip": False}, {"pad": 0}, {"pad": 31, "cutout": 1}]
)
def test_augmentation_is_that_of_one_image_at_a_time(settings):
    dataset = synthetic(passes=4, **settings)
    choices = drawn(dataset)
    images = data.augment(dataset, choices).numpy()
    assert images.dtype == np.float32 and images.shape == (48, 3, 32, 32)
    for i, image in enumerate(images):
        source = dataset.train_images[choices.image[i]].numpy()
        padded = np.pad(source, ((dataset.pad, dataset.pad),) * 2 + ((0, 0),), mode="reflect")
        top, left = choices.crop[i]
        window = padded[top : top + 32, left : left + 32]
        if choices.flip[i]:
            window = window[:, ::-1]
        expected = (window - np.array(data.CIFAR10_MEAN)) / np.array(data.CIFAR10_STD)
        top, left = choices.cutout[i]
        expected[top : top + dataset.cutout, left : left + dataset.cutout] = 0
        np.testing.assert_allclose(image, expected.transpose(2, 0, 1), atol=1e-5)
        # no pixel of the data is the mean: what is zero was cut out, whole and within the image
        assert (image == 0).all(axis=0).sum() == dataset.cutout**2 == (image == 0).sum() / 3


def test_augmented_images_are_channels_last():
    dataset = synthetic()
    assert data.augment(dataset, drawn(dataset)).is_contiguous(memory_format=torch.channels_last)


def test_choices_are_uniform_and_independent():
    dataset = synthetic(n=200, passes=100)
    c = drawn(dataset)
    assert_uniform((c.crop[:, 0] * 9 + c.crop[:, 1]) * 2 + c.flip, 9 * 9 * 2)
    assert_uniform(c.cutout[:, 0] * 25 + c.cutout[:, 1], 25 * 25)
    assert_uniform(c.crop[:, 0] * 25 + c.cutout[:, 0], 9 * 25)


def test_every_epoch_is_drawn_anew_and_by_its_generator_alone():
    dataset, generator = synthetic(n=100, label_noise=0.5), torch.Generator().manual_seed(3)
    state = torch.get_rng_state()
    first, second = data.draw(dataset, generator), data.draw(dataset, generator)
    again = drawn(dataset, seed=3)
    for name in ("image", "label", "crop", "flip", "cutout"):
        assert not torch.equal(getattr(first, name), getattr(second, name)), name
        assert torch.equal(getattr(first, name), getattr(again, name)), name
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("passes", [1, 4])
def test_each_image_is_shown_as_often_as_said_with_its_label(passes):
    dataset = synthetic(n=30, passes=passes)
    choices = drawn(dataset)
    assert len(choices.image) == dataset.epoch_size == 30 * passes
    assert (torch.bincount(choices.image) == passes).all()
    assert not torch.equal(choices.image, choices.image.sort().values)
    assert torch.equal(choices.label, dataset.train_labels[choices.image])


def test_half_of_the_labels_of_digits_are_redrawn(digits):
    choices = drawn(digits)
    own = digits.train_labels[choices.image]
    kept = int((choices.label == own).sum())
    # the redrawn half hits its own label once in ten times
    assert scipy.stats.binomtest(kept, len(own), 0.5 + 0.5 / 10).pvalue > RARE
    assert_uniform((choices.label - own)[choices.label != own] % 10 - 1, 9)


def test_a_mirrored_digit_is_no_digit(digits):
    assert not drawn(digits).flip.any()


def test_digits(digits):
    assert digits.train_images.shape == (1500, 16, 16, 3) and digits.test_images.shape == (297, 16, 16, 3)
    assert digits.train_images.dtype == torch.uint8 and digits.train_labels.dtype == torch.int64
    assert digits.epoch_size == 6000
    assert (digits.train_images == digits.train_images[..., :1]).all()  # grey
    assert int(digits.train_images.max()) == 255 and int(digits.train_images.min()) == 0
    shown = digits.normalise(digits.train_images)
    assert abs(shown.mean()) < 1e-4 and abs(shown.std() - 1) < 1e-3
    # the mean over an image's pixels survives the doubling: the right label sits at the right image
    from sklearn.datasets import load_digits

    original = load_digits()
    means = torch.cat([digits.train_images, digits.test_images]).float().mean((1, 2, 3)) * 16 / 255
    np.testing.assert_allclose(means, original.images.mean((1, 2)), atol=0.05)
    assert torch.cat([digits.train_labels, digits.test_labels]).tolist() == original.target.tolist()


def test_examples_are_the_first_images_as_epochs_show_them(digits):
    rows = data.examples("digits", images=5, epochs=2)
    assert list(rows) == ["original", "epoch 1", "epoch 2"]
    assert all(row.shape == (5, 16, 16, 3) and row.min() >= 0 and row.max() <= 1 for row in rows.values())
    np.testing.assert_allclose(rows["original"] * 255, digits.train_images[:5])
    grey = digits.mean[0] / 255  # what was cut out
    for shown, original in zip(rows["epoch 1"], rows["original"], strict=True):
        padded = np.pad(original[..., 0], 2, mode="reflect")
        windows = np.lib.stride_tricks.sliding_window_view(padded, (16, 16)).reshape(25, 16, 16)
        cut = np.isclose(shown[..., 0], grey, atol=1e-4)
        assert 16 <= cut.sum() < 30
        assert (np.abs(np.where(cut, 0, windows - shown[..., 0])).max((1, 2)) < 1e-4).any()
    assert not np.array_equal(rows["epoch 1"], rows["epoch 2"])


def test_what_is_at_hand_needs_no_download(tmp_path, monkeypatch):
    monkeypatch.setenv("CIFAR10_ROOT", str(tmp_path))
    assert data.at_hand("digits") and not data.at_hand("cifar10")
    (tmp_path / "cifar-10-batches-py").mkdir()
    assert data.at_hand("cifar10")


@pytest.mark.parametrize("size", [2, 5, 16])
def test_reflect_is_that_of_numpy(size):
    index = data.reflect(torch.arange(-(size - 1), 2 * size - 1), size)
    assert index.tolist() == np.pad(np.arange(size), size - 1, mode="reflect").tolist()


def test_an_unknown_data_set_is_named():
    with pytest.raises(ValueError, match="dataset='mnist' is not known; it must be one of digits, cifar10"):
        data.load("mnist")


@pytest.mark.slow
def test_cifar10(cifar10):
    assert cifar10.train_images.shape == (50_000, 32, 32, 3) and cifar10.test_images.shape == (
        10_000,
        32,
        32,
        3,
    )
    assert cifar10.train_images.dtype == cifar10.test_images.dtype == torch.uint8
    assert torch.bincount(cifar10.train_labels).tolist() == [5000] * 10
    assert torch.bincount(cifar10.test_labels).tolist() == [1000] * 10
    assert cifar10.epoch_size == 50_000
    std, mean = torch.std_mean(cifar10.train_images.float(), dim=(0, 1, 2))
    np.testing.assert_allclose(mean, data.CIFAR10_MEAN, atol=0.0051)
    np.testing.assert_allclose(std, data.CIFAR10_STD, atol=0.0051)


def test_cifar10_is_augmented_as_the_post_says(cifar10):
    assert (cifar10.pad, cifar10.cutout, cifar10.flip, cifar10.label_noise) == (4, 8, True, 0.0)
    choices = drawn(cifar10)
    assert scipy.stats.binomtest(int(choices.flip.sum()), 50_000, 0.5).pvalue > RARE
    assert torch.equal(choices.label, cifar10.train_labels[choices.image])


def flip_a_byte(content):
    return content[:1000] + bytes([content[1000] ^ 1]) + content[1001:]


@pytest.mark.parametrize(
    "name, change",
    [
        ("data_batch_1", None),
        ("test_batch", None),
        ("batches.meta", None),
        ("data_batch_3", lambda content: content[:-1]),
        ("data_batch_5", lambda content: b""),
        ("test_batch", flip_a_byte),
        ("batches.meta", lambda content: content + b"."),
    ],
)
def test_a_damaged_cifar10_is_not_read(cifar10_files, tmp_path, monkeypatch, name, change):
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for file in cifar10_files.iterdir():
        if file.name != name:
            os.symlink(file, folder / file.name)
        elif change is not None:
            (folder / name).write_bytes(change(file.read_bytes()))
    monkeypatch.setenv("CIFAR10_ROOT", str(tmp_path))
    with pytest.raises(RuntimeError) as error:
        data.load("cifar10")
    assert str(folder) in str(error.value) and "remove that folder" in str(error.value)


def test_a_cifar10_that_cannot_be_downloaded_is_said_to_be_so(tmp_path, monkeypatch):
    monkeypatch.setenv("CIFAR10_ROOT", str(tmp_path / "nowhere"))
    with pytest.raises(RuntimeError) as error:
        data.load("cifar10")
    assert str(tmp_path / "nowhere") in str(error.value) and "CIFAR10_ROOT" in str(error.value)


BATCHES = (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch")


def tiny_cifar10() -> dict[str, bytes]:
    """Files of the form of CIFAR-10's, with two images in each."""
    images = np.arange(2 * 3072, dtype=np.uint8).reshape(2, 3072)
    found = {name: pickle.dumps({"data": images, "labels": [3, 4]}) for name in BATCHES}
    return found | {"batches.meta": pickle.dumps({"label_names": list("abcdefghij")})}


def packed(contents: dict[str, bytes]) -> bytes:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        for name, content in contents.items():
            info = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return archive.getvalue()


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


@pytest.fixture
def server():
    """A stand-in for CIFAR-10's: its address, who has asked, and what lets it answer in full."""
    contents = tiny_cifar10()
    archive, asked, answer = packed(contents), set(), threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.send_response(200)
            self.send_header("Content-Length", str(len(archive)))
            self.end_headers()

        def do_GET(self):
            asked.add(self.path)  # one process asks more than once
            if len(asked) > 1:
                answer.set()
            self.do_HEAD()
            self.wfile.write(archive[:100])
            self.wfile.flush()
            assert answer.wait(600)
            self.wfile.write(archive[100:])

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        official = {
            "url": f"http://127.0.0.1:{http.server_address[1]}/cifar-10-python.tar.gz",
            "tgz_md5": md5(archive),
            "train_list": [(name, md5(contents[name])) for name in BATCHES[:5]],
            "test_list": [("test_batch", md5(contents["test_batch"]))],
            "meta": {"filename": "batches.meta", "key": "label_names", "md5": md5(contents["batches.meta"])},
        }
        yield official, asked, answer
        http.shutdown()


@pytest.fixture
def load(server, tmp_path, monkeypatch):
    """Loads the stand-in here; how many training images it has."""
    monkeypatch.setenv("CIFAR10_ROOT", str(tmp_path))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    for name, value in server[0].items():
        monkeypatch.setattr(data.torchvision("datasets").CIFAR10, name, value)
    return lambda: len(data.load("cifar10").train_labels)


#: What another process does to load it, from an address of its own.
LOAD = """
import json, sys
from lib import data
official = data.torchvision("datasets").CIFAR10
for name, value in json.loads(sys.argv[1]).items():
    setattr(official, name, value)
print(len(data.load("cifar10").train_labels))
"""


@pytest.mark.slow
def test_of_two_processes_one_downloads_and_the_other_waits(server, load, tmp_path, monkeypatch):
    official, asked, answer = server

    class Listener(io.StringIO):
        def write(self, text):
            if "waited for" in text:
                answer.set()
            return super().write(text)

    command = [sys.executable, "-c", LOAD, json.dumps(official | {"url": f"{official['url']}?other"})]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(paths.ROOT)}, **pipes) as other:
        wait_for(lambda: asked or other.poll() is not None)
        monkeypatch.setattr(sys, "stderr", Listener())
        assert load() == 10
        out, err = other.communicate()
    assert (other.returncode, out) == (0, "10\n"), err
    assert len(asked) == 1 and answer.is_set()
    assert {p.name for p in tmp_path.iterdir()} == {"cifar-10-batches-py", "cifar-10-python.tar.gz"}


def test_what_a_killed_download_left_is_taken_over(server, load, tmp_path):
    server[2].set()
    (tmp_path / ".cifar-10-unpacked" / "cifar-10-batches-py").mkdir(parents=True)
    (tmp_path / ".cifar-10-unpacked" / "cifar-10-batches-py" / "data_batch_1").write_bytes(b"half")
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(b"half")
    (tmp_path / "cifar-10-batches-py.lock").touch()
    assert load() == 10
    assert {p.name for p in tmp_path.iterdir()} == {"cifar-10-batches-py", "cifar-10-python.tar.gz"}


def test_a_folder_that_cannot_be_made_for_cifar10_is_said(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("CIFAR10_ROOT", str(tmp_path / "file" / "data"))
    with pytest.raises(RuntimeError, match="could not be downloaded .*Not a directory.*set CIFAR10_ROOT"):
        data.load("cifar10")

"""Stopped at any moment, on a full disk, beside another process: nothing is lost, and nothing believed
that should not be."""

import json
import multiprocessing
import os
import pickle
import random
import signal
import subprocess
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from conftest import LIMIT, assert_same_run, few_images, recordable_run, wait_for

from lib import __main__ as command_line
from lib import data, experiments, gradient_noise, library, paths, records, scales, training
from lib.config import Config
from lib.machinery import checkpoints, files, machine
from lib.running import runner, verify
from lib.training import train

# four epochs of four steps, of the few images of this module
SHORT = Config(dataset="digits", width=1, epochs=4, peak_epoch=1, batch_size=40)


@pytest.fixture(scope="module", autouse=True)
def few():
    with pytest.MonkeyPatch.context() as patch:
        few_images(patch)
        yield


@pytest.fixture(scope="module")
def whole():
    """The run of `SHORT` that nobody stopped."""
    return train(SHORT, progress=False)


@pytest.fixture
def path(tmp_path, monkeypatch):
    """Where checkpoints are kept, one at the end of every epoch."""
    monkeypatch.setattr(checkpoints, "SECONDS", 0)
    return tmp_path / "run.parquet.checkpoint"


class Killed(BaseException):
    pass


def stopped(config, path, after=2):
    """Trains until the checkpoint of that epoch is written, and no further."""
    save, saved = checkpoints.Checkpoint.save, []

    def save_and_stop(self, state):
        save(self, state)
        saved.append(self.path)
        if len(saved) == after:
            raise Killed

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr(checkpoints.Checkpoint, "save", save_and_stop)
        train(config, progress=False, checkpoint=path)
    assert path.exists()


FORMS = {
    "heavy-ball": {},
    "plain": {"momentum": 0.0, "lr": 4.0},
    "nesterov": {"nesterov": True},
    "lars": {"optimizer": "lars"},
    "noise": {"noise_every": 2},
}


@pytest.mark.parametrize("after", [1, 3])
@pytest.mark.parametrize("form", FORMS)
def test_a_run_goes_on_from_a_checkpoint_as_if_it_had_never_stopped(path, monkeypatch, capfd, form, after):
    monkeypatch.setattr(gradient_noise, "BATCH_SIZES", (80,))
    config = replace(SHORT, **FORMS[form])
    stopped(config, path, after)
    run = train(config, progress=False, title="sgd", checkpoint=path)
    assert f"sgd: goes on after epoch {after} of 4\n" in capfd.readouterr().err
    assert_same_run(run, train(config, progress=False))
    assert run.provenance["resumed"] == 1


def test_a_run_can_be_stopped_more_than_once(path, whole):
    for _ in range(3):  # each goes on from the one before
        stopped(SHORT, path, after=1)
    run = train(SHORT, progress=False, checkpoint=path)
    assert_same_run(run, whole)
    assert run.provenance["resumed"] == 3


def test_the_seconds_of_all_its_parts_are_counted(path, whole, monkeypatch):
    now = iter(range(0, 10_000, 10))  # a clock on which every look takes ten seconds
    monkeypatch.setattr(training.time, "monotonic", lambda: next(now))
    stopped(SHORT, path, after=3)
    first = checkpoints._read(path)[1]["seconds"]
    assert train(SHORT, progress=False, checkpoint=path).provenance["seconds"] > first > 0


def test_a_short_run_writes_no_checkpoint(tmp_path, whole, monkeypatch):
    assert checkpoints.SECONDS >= 10
    run = train(SHORT, progress=False, checkpoint=tmp_path / "none")
    assert not list(tmp_path.iterdir())
    assert_same_run(run, whole)


class Evil:
    def __reduce__(self):
        return (open, ("evil", "w"))


def signed(content: bytes) -> bytes:
    return checkpoints.DIGEST(content).digest() + content


def test_what_is_not_the_official_cifar10_is_never_unpickled(tmp_path, monkeypatch):
    """Its files are pickles, which can do anything when they are opened."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta"):
        (folder / name).write_bytes(pickle.dumps(Evil()))
    monkeypatch.setenv("CIFAR10_ROOT", str(tmp_path))
    with pytest.raises(RuntimeError, match="missing or altered"):
        data.load("cifar10")
    assert not (tmp_path / "evil").exists()
    pickle.loads(pickle.dumps(Evil())).close()  # the control
    assert (tmp_path / "evil").exists()


DAMAGE = {
    "flipped bit": lambda c: c[:5000] + bytes([c[5000] ^ 1]) + c[5001:],
    "flipped bit of the sum": lambda c: bytes([c[0] ^ 1]) + c[1:],
    "cut off": lambda c: c[:-1],
    "nothing": lambda c: b"",
    "text": lambda c: b"text",
    "a pickle": lambda c: signed(pickle.dumps(Evil())),
    "another file of torch": lambda c: signed(pickle.dumps({"weights": [1, 2]})),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_checkpoint_is_discarded_in_words(path, whole, capfd, monkeypatch, tmp_path, damage):
    monkeypatch.chdir(tmp_path)
    stopped(SHORT, path)
    path.write_bytes(DAMAGE[damage](path.read_bytes()))
    run = train(SHORT, progress=False, title="sgd", checkpoint=path)
    line = capfd.readouterr().err.splitlines()[0]
    assert line.startswith(f"sgd: the checkpoint {path} is discarded, ")
    assert line.endswith("the run starts anew") and ("damaged" in line or "not one" in line)
    assert_same_run(run, whole)
    assert "resumed" not in run.provenance and not (tmp_path / "evil").exists()


@pytest.mark.parametrize("what, value", [("torch", "1.0"), ("device", "GPU"), ("threads", 64), ("key", None)])
def test_a_checkpoint_that_would_give_other_numbers_is_discarded_in_words(
    path, whole, capfd, monkeypatch, what, value
):
    if what == "key":
        stopped(replace(SHORT, seed=1), path)
    else:
        provenance = machine.provenance
        with monkeypatch.context() as elsewhere:
            elsewhere.setattr(machine, "provenance", lambda device: provenance(device) | {what: value})
            stopped(SHORT, path)
    run = train(SHORT, progress=False, title="sgd", checkpoint=path)
    line = capfd.readouterr().err.splitlines()[0]
    assert f"{path} is discarded, made with {what} " in line and "and not " in line
    assert_same_run(run, whole)


def test_a_run_that_diverges_after_a_checkpoint(path, monkeypatch):
    """Broken in its third epoch, stopped after the first or not."""

    def evaluate(model, dataset, precision):
        tests.append(model)
        return (float("nan") if len(tests) == 3 else 1.0), 0.5

    monkeypatch.setattr(training, "evaluate", evaluate)
    tests = []
    expected = training.outcome(SHORT, progress=False)
    assert expected.diverged_at == 3 * 4 - 1 and len(expected.epochs) == 2
    tests.clear()
    stopped(SHORT, path, after=1)
    assert_same_run(training.outcome(SHORT, progress=False, checkpoint=path), expected)


def test_a_lock_is_held_by_one_and_leaves_nothing(tmp_path):
    first = files.claim(tmp_path / "run.parquet")
    assert first and files.claim(tmp_path / "run.parquet") is None
    assert [p.name for p in tmp_path.iterdir()] == ["run.parquet.lock"]
    files.give_free(first)
    assert not list(tmp_path.iterdir())
    locks = [files.claim(tmp_path / name) for name in ("run.parquet", "another")]
    assert all(locks)
    for lock in locks:
        files.give_free(lock)


def test_a_lock_of_a_file_that_its_holder_removes_meanwhile_is_none(tmp_path, monkeypatch):
    with ThreadPoolExecutor(1) as other:  # who held it in this thread would wait for himself
        first = other.submit(files.claim, tmp_path / "run").result()
    os_open = os.open

    def open_late(path, *arguments, **how):
        descriptor = os_open(path, *arguments, **how)
        if str(path) == first.lock_file:  # between the second's opening of the file and its lock
            monkeypatch.setattr(os, "open", os_open)
            files.give_free(first)
        return descriptor

    monkeypatch.setattr(os, "open", open_late)
    second = files.claim_in_turn(tmp_path / "run")
    assert files.lock_beside(tmp_path / "run").exists()
    assert files.claim(tmp_path / "run") is None
    files.give_free(second)


def hold(path, held):
    lock = files.claim(path)
    assert lock
    held.set()
    signal.pause()


def test_the_lock_of_a_killed_process_is_free(tmp_path):
    context = multiprocessing.get_context("fork")
    held = context.Event()
    process = context.Process(target=hold, args=(tmp_path / "run", held), daemon=True)
    process.start()
    assert held.wait(LIMIT) and files.claim(tmp_path / "run") is None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert files.lock_beside(tmp_path / "run").exists()
    files.give_free(files.claim(tmp_path / "run"))


@pytest.fixture
def six(monkeypatch, records_in):
    """An experiment of six runs, as planned; polling does not wait."""
    monkeypatch.setattr(runner, "POLL_SECONDS", 0.01)
    return plan(monkeypatch, SHORT, 6)


def plan(monkeypatch, config, seeds):
    """Makes an experiment ``six`` of one form with so many seeds the only one that is planned."""
    scale = scales.Scale(base=config, seeds=seeds, architectures=())
    monkeypatch.setattr(experiments, "FEW_SEEDS", seeds)  # all keep their steps
    monkeypatch.setattr(scales, "SCALES", {"demo": scale, "small": scale})
    form = experiments.Form("sgd", config, seeds)
    monkeypatch.setattr(experiments, "EXPERIMENTS", {"six": lambda scale: [form]})
    return experiments.planned("demo", ["six"])


def recorded_files(planned):
    return sorted(library.path(one).name for one in planned)


def files_in(folder):
    return sorted(p.name for p in folder.rglob("*") if p.is_file())


def test_two_runners_train_each_run_once(six, records_in, monkeypatch):
    trained, both = [], threading.Barrier(2, timeout=LIMIT)

    def train(config, **_):
        trained.append(config.seed)
        if len(trained) <= 2:
            both.wait()  # they are in training at the same time
        return recordable_run(config)

    monkeypatch.setattr(training, "train", train)
    lines = [[], []]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda report: runner.run(six, report=report.append), lines))
    assert sorted(trained) == list(range(6))
    assert files_in(records_in) == recorded_files(six)
    done = Counter(line.partition(":")[0] for line in lines[0] + lines[1] if "test accuracy" in line)
    assert done == {one.title: 1 for one in six}


def test_what_another_process_trains_is_waited_for(six, monkeypatch):
    """Of two runs, the one is recorded by the other process, and one is left when it is killed."""
    monkeypatch.setattr(training, "train", lambda config, **_: recordable_run(config))
    paths = [library.path(one) for one in six]
    paths[0].parent.mkdir(parents=True)
    others = [files.claim(path) for path in paths[:2]]
    assert all(others)
    lines, ends = [], []

    def ended(text):
        lines.append(text)
        ends.append(text)

    def wait(seconds):
        waits.append(lines[-1])
        if len(waits) == 2:
            records.write(recordable_run(six[0].config), paths[0])
            for lock in others:
                files.give_free(lock)

    waits = []
    monkeypatch.setattr(runner.time, "sleep", wait)
    runner.run(six, report=lines.append, ended=ended)
    said = "in training by another process, which is waited for: six sgd-seed0, six sgd-seed1"
    assert waits == [said, said] and lines[4] == said
    assert lines[5] == "six sgd-seed0: recorded already"
    assert lines[6].startswith("six sgd-seed1: test accuracy") and len(lines) == 7
    assert ends == [line for line in lines if line != said]  # each run's own, once
    assert all(path.exists() for path in paths)


def test_a_stopped_runner_gives_its_runs_free_and_leaves_its_checkpoint(six, records_in, monkeypatch):
    monkeypatch.setattr(checkpoints, "SECONDS", 0)
    epoch, epochs = training._Training.epoch, []

    def stop_in_the_seventh(self, dataset, bar):
        epochs.append(self.config.seed)
        if len(epochs) == 7:
            raise KeyboardInterrupt
        epoch(self, dataset, bar)

    with monkeypatch.context() as stopping, pytest.raises(KeyboardInterrupt):
        stopping.setattr(training._Training, "epoch", stop_in_the_seventh)
        runner.run(six)
    first, second = (library.path(one).name for one in six[:2])
    assert files_in(records_in) == [first, f"{second}.checkpoint"]
    # what a process leaves that is killed while it writes
    folder = records_in / "demo" / "six"
    for leftover in (f".{second}.abc.tmp", f".{second}.checkpoint.abc.tmp", f"{second}.lock"):
        (folder / leftover).touch()
    (folder / f"{first}.checkpoint").touch()
    runner.run(six)
    assert files_in(records_in) == recorded_files(six)
    again = library.read(library.path(six[1]))
    assert again.provenance["resumed"] == 1
    assert_same_run(again, train(again.config, progress=False))


@pytest.fixture
def disk(tmp_path, monkeypatch):
    """A disk of 128 KiB that holds the records; what mounts it anew with an option."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(options):
        return subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "none", folder], capture_output=True, text=True
        )

    if (done := mount("size=128k")).returncode:
        pytest.skip(f"needs to mount a disk: {done.stderr.strip()}")
    monkeypatch.setattr(paths, "records", lambda scale: folder / scale)
    yield lambda option: mount(f"remount,{option}")
    subprocess.run(["umount", folder], check=True)


def command(capsys, monkeypatch, *arguments):
    """Exit code, standard output, and error of the command line."""
    monkeypatch.setattr(sys, "argv", ["lib", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        command_line.main()
    out, err = capsys.readouterr()
    return (1, out, end.value.code) if isinstance(end.value.code, str) else (end.value.code or 0, out, err)


@pytest.fixture
def eight(six, monkeypatch):
    """A record of each takes 20 KiB: not all have room on the disk."""
    monkeypatch.setattr(training, "train", lambda config, **_: recordable_run(config))
    return plan(monkeypatch, replace(SHORT, batch_size=7), 8)


def test_a_full_disk_is_said_and_keeps_what_is_recorded(eight, disk, capsys, monkeypatch, tmp_path):
    code, out, err = command(capsys, monkeypatch, "run", "six", "--scale", "demo")
    done = eight[: len(out.splitlines())]
    assert code == 1 and 0 < len(done) < 8
    failed = library.path(eight[len(done)])
    assert "No space left on device" in err and str(failed) in err and "\n" not in err
    assert files_in(tmp_path) == recorded_files(done)
    for one in done:
        assert_same_run(records.read(library.path(one)), recordable_run(one.config))
    disk("size=1m")
    code, out, _ = command(capsys, monkeypatch, "run", "six", "--scale", "demo")
    assert code == 0 and out.count("recorded already") == len(done) and out.count("\n") == 8


def test_a_disk_that_is_read_only_is_said_before_training_and_read(
    eight, disk, capsys, monkeypatch, tmp_path
):
    disk("size=1m")
    path = library.path(eight[0])
    records.write(recordable_run(eight[0].config), path)
    disk("ro")
    monkeypatch.setattr(training, "train", None)  # which cannot be called
    for arguments in (["run", "six", "--scale", "demo"], ["train", "--out", path.with_name("a.parquet")]):
        code, _, err = command(capsys, monkeypatch, *arguments)
        assert code == 1 and "Read-only file system" in err and str(path.parent) in err and "\n" not in err
    plan(monkeypatch, eight[0].config, 1)
    code, out, _ = command(capsys, monkeypatch, "run", "six", "--scale", "demo")
    assert code == 0 and out == f"{eight[0].title}: recorded already\n"
    code, out, _ = command(capsys, monkeypatch, "verify")
    assert code == 0 and "1 files, 0 records refused" in out


def test_a_folder_that_cannot_be_made_is_said_before_training(eight, capsys, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setattr(paths, "records", lambda scale: tmp_path / "file" / scale)
    monkeypatch.setattr(training, "train", None)
    code, _, err = command(capsys, monkeypatch, "run", "six", "--scale", "demo")
    assert code == 1 and "Not a directory" in err and str(tmp_path / "file") in err and "\n" not in err


# The command line with sweeps of its own, each as a line on standard input says: a start takes no time.
SWEEPS = """
import json, os, sys
from dataclasses import replace
import pytest, torch
sys.path.insert(0, {tests!r})
from conftest import few_images
from lib import __main__, experiments, scales, training
from lib.machinery import checkpoints, machine, sources
from lib.config import Config

few_images(pytest.MonkeyPatch())
checkpoints.SECONDS = 0
base = Config(dataset="digits", width=1, epochs=3, peak_epoch=1, batch_size=40)
form = experiments.Form
experiments.EXPERIMENTS = {{"dynamics": lambda scale: [
    form("sgd", base, scale.seeds), form("nesterov", replace(base, nesterov=True), scale.seeds)]}}
if __name__ == "__main__":
    torch.set_num_threads(1)
    machine.start_without_compiler()
    sources.digest(), training.train(base, progress=False)  # what is made when it is first used
    for line in sys.stdin:
        folder, seeds, options = json.loads(line)
        child = os.fork()
        if not child:
            output = os.open(folder + "/output", os.O_WRONLY)
            for stream in (1, 2):
                os.dup2(output, stream)
            os.close(output)
            os.environ["RECORDS_ROOT"] = folder + "/records"
            experiments.FEW_SEEDS = seeds
            scales.SCALES["demo"] = scales.Scale(base=base, seeds=seeds, architectures=())
            sys.argv[1:] = ["run", "dynamics", "--scale", "demo", *options]
            try:
                __main__.main()
            except SystemExit as end:  # without the seconds that it takes to clear a fork's memory
                sys.stdout.flush()
                os._exit(end.code or 0)
        print(child, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.fixture(scope="module")
def sweeps(tmp_path_factory):
    """A process that starts a sweep again and again."""
    script = tmp_path_factory.mktemp("sweeps") / "sweeps.py"
    script.write_text(SWEEPS.format(tests=str(Path(__file__).parent)))
    environment = os.environ | {"PYTHONPATH": str(paths.ROOT)}
    pipes = dict.fromkeys(("stdin", "stdout"), subprocess.PIPE) | {"stderr": subprocess.STDOUT}
    with subprocess.Popen([sys.executable, script], env=environment, text=True, **pipes) as process:
        yield process
        process.kill()


class Sweep:
    """A sweep in a folder of its own: two forms of so many seeds."""

    def __init__(self, process, folder):
        self.process, self.folder = process, folder
        os.mkfifo(folder / "output")

    def run(self, seeds, *options, stop=None, after=0):
        """Starts it, and stops it in a run after so many; how it ended, and all that its processes printed."""
        there = self.count("parquet")
        self.process.stdin.write(json.dumps([str(self.folder), seeds, options]) + "\n")
        self.process.stdin.flush()
        pid = int(self.process.stdout.readline())
        with (self.folder / "output").open("rb", buffering=0) as output:
            if stop:
                wait_for(lambda: self.count("parquet") >= there + after)
                wait_for(lambda: self.count("checkpoint") or not after)
                os.kill(pid, stop)
            os.set_blocking(output.fileno(), False)
            printed = []  # nothing once, and for good, when no process is left that could write
            wait_for(lambda: printed.append(output.read()) or printed[-1] == b"")
        ended = int(self.process.stdout.readline())
        return ended, b"".join(filter(None, printed)).decode().splitlines(keepends=True)

    def count(self, suffix):
        """How many files of this kind are there."""
        return len(list(self.folder.rglob("*." + suffix)))

    def records(self, known):
        """Every record, whole, and where it lies on the disk: written again, it would lie elsewhere."""
        places = {p: (p.stat().st_ino, p.stat().st_mtime_ns) for p in sorted(self.folder.rglob("*.parquet"))}
        assert {p: places.get(p) for p in known} == {p: place for p, (place, _) in known.items()}
        return {p: known.get(p) or (place, records.read(p)) for p, place in places.items()}


STOPPED = "stopped: what is recorded stays, and the same command goes on from there\n"


def test_killed_at_any_moment_a_sweep_loses_nothing_and_trains_nothing_twice(sweeps, tmp_path):
    seeds = 10  # enough for runs to be left after the last stop
    sweep, moments = Sweep(sweeps, tmp_path), random.Random(0)
    known, ends, resumed = {}, Counter(), 0
    for stop in [signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT] * 2:
        end, lines = sweep.run(seeds, stop=stop, after=moments.randrange(stop is not signal.SIGKILL, 3))
        ends[end] += 1
        if end in (130, 143):
            assert lines[-1] == STOPPED
        resumed += any("goes on after epoch" in line for line in lines)
        known = sweep.records(known)  # neither lost nor trained twice
    assert set(ends) <= {0, -signal.SIGKILL, 130, 143} and ends[-signal.SIGKILL] and resumed
    end, lines = sweep.run(seeds)
    assert end == 0 and sum("test accuracy" in line for line in lines) == 2 * seeds - len(known)
    known = sweep.records(known)
    assert len(known) == 2 * seeds
    assert files_in(tmp_path) == sorted(p.name for p in known)  # nothing is left over
    of_parts = [run for _, run in known.values() if "resumed" in run.provenance]
    for run in of_parts:
        pd.testing.assert_frame_equal(run.epochs, verify.again(run).epochs, check_exact=True)
    assert of_parts


def test_processes_end_with_a_parent_that_is_killed(sweeps, tmp_path):
    sweep = Sweep(sweeps, tmp_path)
    end, _ = sweep.run(24, "--jobs", "2", stop=signal.SIGKILL, after=1)  # long enough to be caught in the act
    assert end == -signal.SIGKILL
    kept = sweep.records({})
    end, _ = sweep.run(4)
    assert end == 0 and len(sweep.records(kept)) >= 2 * 4  # none is left locked


def test_a_run_without_steps_has_the_layers_of_its_network_all_the_same(tmp_path):
    run = recordable_run(SHORT)
    records.write(run, tmp_path / "run.parquet", every=0)
    kept = records.read(tmp_path / "run.parquet").steps
    assert kept.empty and kept["layer"].dtype == run.steps["layer"].dtype


def test_torchs_default_precision_is_refused_in_a_sentence():
    torch.set_default_dtype(torch.float64)
    try:
        with pytest.raises(ValueError, match="default dtype is torch.float64.* must be torch.float32"):
            train(SHORT, progress=False)
    finally:
        torch.set_default_dtype(torch.float32)

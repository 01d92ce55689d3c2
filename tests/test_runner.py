import _thread
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path

import pytest
from conftest import LIMIT, TINY, assert_same_run, recordable_run, wait_for

from lib import config, experiments, library, records, scales, training
from lib.config import Config
from lib.experiments import Form
from lib.machinery import checkpoints, files
from lib.run import DivergedError, Run
from lib.running import cluster as cluster_module
from lib.running import processes, runner, verify
from lib.scales import Scale

NAMES = [f"{form}-seed{seed}" for seed in range(2) for form in ("sgd", "nesterov")]


def tiny(scale, **how):
    """Four runs that take no time to train."""
    base, seeds = scale.base, scale.seeds
    return [
        Form("sgd", replace(base, momentum=0.0), seeds, **how),
        Form("nesterov", replace(base, nesterov=True), seeds, **how),
    ]


@pytest.fixture(autouse=True)
def experiment(monkeypatch, records_in):
    small = replace(TINY, epochs=2, peak_epoch=0.5, batch_size=1500)
    monkeypatch.setattr(scales, "SCALES", {"demo": Scale(base=small, seeds=2, architectures=())})
    monkeypatch.setattr(experiments, "EXPERIMENTS", {"tiny": tiny, "other": tiny})


def configs() -> dict[str, Config]:
    """Those of the experiment, by the name of the run."""
    return {one.name: one.config for one in experiments.planned("demo", ["tiny"])}


def path_of(name: str) -> Path:
    """Where a run of the experiment is recorded."""
    return next(library.path(one) for one in experiments.planned("demo", ["tiny"]) if one.name == name)


def recorded(experiment: str = "tiny") -> dict[str, Run]:
    """The recorded runs of an experiment, by name."""
    library.runs("demo", experiment)  # which says when there is none
    planned = {one.name: library.path(one) for one in experiments.planned("demo", [experiment])}
    return {name: records.read(path) for name, path in planned.items() if path.exists()}


def with_base(monkeypatch, **settings) -> None:
    """Changes settings of the base run."""
    scale = scales.SCALES["demo"]
    changed = replace(scale, base=replace(scale.base, **settings))
    monkeypatch.setitem(scales.SCALES, "demo", changed)


@pytest.fixture
def trained(monkeypatch):
    """Replaces training; the configs that were trained, in order."""
    configs = []

    def train(config, **_):
        configs.append(config)
        return recordable_run(config)

    monkeypatch.setattr(training, "train", train)
    return configs


def run(names=("tiny",), scale="demo", **how):
    """Lines of the report."""
    lines = []
    runner.run(experiments.planned(scale, names), report=lines.append, **how)
    return lines


def test_runs_are_trained_recorded_and_reported_in_order(trained, records_in):
    lines = run()
    assert trained == list(configs().values())
    assert [line.partition(":")[0] for line in lines] == [f"tiny {name}" for name in NAMES]
    assert all("test accuracy" in line for line in lines)
    files = {p.relative_to(records_in).as_posix() for p in records_in.rglob("*") if p.is_file()}
    assert files == {f"demo/tiny/{name}-{config.key}.parquet" for name, config in configs().items()}
    for name, found in recorded().items():
        assert_same_run(found, recordable_run(configs()[name]))
    assert list(recorded()) == NAMES


def test_only_what_is_missing_is_trained(trained):
    run()
    path_of(NAMES[2]).unlink()
    trained.clear()
    lines = run()
    assert trained == [configs()[NAMES[2]]]
    recorded = [line for line in lines if line.endswith("recorded already")]
    assert recorded == [f"tiny {n}: recorded already" for n in NAMES if n != NAMES[2]]


def test_what_a_process_left_that_was_killed_once_it_had_recorded_is_removed(trained):
    run()
    path = path_of(NAMES[0])
    leftovers = [checkpoints.path_beside(path), files.lock_beside(path)]
    for leftover in leftovers:
        leftover.touch()
    trained.clear()
    run()
    assert not trained and not any(leftover.exists() for leftover in leftovers)
    held = files.claim(path)  # by a process that is about to give it free
    run()
    assert files.lock_beside(path).exists() and files.claim(path) is None
    files.give_free(held)


def test_retrain_trains_all(trained):
    run()
    run(retrain=True)
    assert len(trained) == 2 * len(NAMES)


def test_several_experiments_are_run_one_after_the_other(trained):
    lines = run(["other", "tiny"])
    assert [line.split()[0] for line in lines] == ["other"] * 4 + ["tiny"] * 4


@pytest.mark.parametrize("failure", [KeyboardInterrupt, OSError])
def test_what_was_trained_before_a_stop_is_kept(trained, monkeypatch, failure):
    def train(config, **_):
        if len(trained) == 2:
            raise failure
        trained.append(config)
        return recordable_run(config)

    with monkeypatch.context() as stopping:
        stopping.setattr(training, "train", train)
        with pytest.raises(failure):
            run()
    assert list(recorded()) == NAMES[:2]
    run()  # goes on where it was stopped
    assert trained == list(configs().values())


def test_a_run_that_diverges_is_recorded_and_the_others_go_on(trained, monkeypatch):
    def train(config, **_):
        trained.append(config)
        if config.nesterov:
            raise DivergedError(recordable_run(config, diverged_at=5))
        return recordable_run(config)

    monkeypatch.setattr(training, "train", train)
    monkeypatch.setitem(experiments.EXPERIMENTS, "tiny", partial(tiny, may_diverge=True))
    lines = run()
    assert len(trained) == 4
    assert lines[1] == (
        "tiny nesterov-seed0: recorded as diverged at step 5, in epoch 2; a smaller lr, or a later peak_epoch, may help"
    )
    assert run()[1] == "tiny nesterov-seed0: recorded already, diverged at step 5"
    found = recorded()
    assert [r.diverged_at for r in found.values()] == [None, 5, None, 5]
    # where it is an accident, nothing is made of the others
    monkeypatch.setitem(experiments.EXPERIMENTS, "tiny", tiny)
    with pytest.raises(DivergedError, match="at step 5 with Config"):
        recorded()


def test_a_damaged_record_is_an_error_and_stays(trained):
    run()
    path = path_of(NAMES[1])
    path.write_bytes(b"damaged")
    trained.clear()
    for call in (lambda: run(), lambda: recorded()):
        with pytest.raises(records.RecordError, match=str(path)):
            call()
    assert not trained and path.read_bytes() == b"damaged"
    run(retrain=True)  # the remedy
    assert len(recorded()) == 4


def test_records_of_other_settings_are_not_taken_for_these(trained, monkeypatch):
    run()
    with_base(monkeypatch, lr=0.1)
    with pytest.raises(
        records.RecordError, match="no run of tiny is recorded at scale demo; .* run tiny --scale demo"
    ):
        recorded()


@pytest.mark.parametrize(
    "names, scale, match", [(["tiny", "nosuch"], "demo", "nosuch"), (["tiny"], "huge", "huge")]
)
def test_an_unknown_name_is_an_error_before_anything_is_trained(trained, names, scale, match):
    with pytest.raises(ValueError, match=match):
        run(names, scale)
    assert not trained


def test_jobs_give_the_records_of_one_process(monkeypatch):
    """Two runs, really trained, here and in two processes."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)  # it would give one thread, too
    monkeypatch.setitem(experiments.EXPERIMENTS, "tiny", lambda scale: tiny(replace(scale, seeds=1)))
    lines = run(jobs=2)
    assert sorted(line.partition(":")[0] for line in lines) == sorted(f"tiny {name}" for name in NAMES[:2])
    together = recorded()
    for name in NAMES[:2]:
        assert together[name].provenance["threads"] == 1
        assert_same_run(verify.again(together[name]), together[name])


def test_a_failing_job_is_an_error_and_what_was_done_is_kept(trained, monkeypatch):
    started, fails = [], threading.Event()

    def train(config, **_):
        started.append(config)
        if config == failing:
            fails.set()
        assert fails.wait(LIMIT)
        if config == failing:
            raise MemoryError
        return recordable_run(config)

    failing = configs()[NAMES[1]]
    monkeypatch.setattr(training, "train", train)
    # threads stand in for processes, which would not see the replaced training
    monkeypatch.setattr(processes, "ProcessPoolExecutor", lambda jobs, *_: ThreadPoolExecutor(jobs))
    with pytest.raises(MemoryError):
        run(jobs=2)
    done = recorded()
    assert {configs()[name] for name in done} == set(started) - {failing}
    assert 1 <= len(done) < 3  # none was started after the failure was known


def test_a_record_keeps_the_steps_that_its_experiment_needs(trained, monkeypatch):
    monkeypatch.setitem(experiments.EXPERIMENTS, "tiny", partial(tiny, every=2))
    monkeypatch.setitem(experiments.EXPERIMENTS, "other", partial(tiny, every=0))
    run(["tiny", "other"])
    assert set(recorded()[NAMES[0]].steps["step"]) == {0, 2, 4, 6}
    assert recorded("other")[NAMES[0]].steps.empty


# What a worker loads: a training that takes no time, is counted, and can be held back.
WORKER = """
import os, sys, time, torch
from dataclasses import replace
sys.path.insert(0, {tests!r})
from conftest import recordable_run
from lib import training

def train(config, **_):
    with open({folder!r} + "/trained", "a") as file:
        file.write(f"{{config.key}} {{os.getpid()}}\\n")
    while os.path.exists({folder!r} + "/hold-" + config.key):
        time.sleep(0.05)
    run = recordable_run(config)
    return replace(run, provenance=run.provenance | {{"threads": torch.get_num_threads()}})

training.train = train
"""


class Cluster:
    """A Dask scheduler, and workers of one and of two threads, as a reader starts them."""

    def __init__(self, folder: Path):
        self.folder, self.workers = folder, {}
        (folder / "preload.py").write_text(
            WORKER.format(tests=str(Path(__file__).parent), folder=str(folder))
        )
        self.scheduler = self._start("scheduler", "--host", "127.0.0.1", "--port", "0")
        wait_for(lambda: self.alive() and self._written())
        self.address = json.loads((folder / "scheduler.json").read_text())["address"]

    def _start(self, kind: str, *options) -> subprocess.Popen:
        at = ["--scheduler-file", self.folder / "scheduler.json"]
        with (self.folder / "log").open("a") as log:
            command = [sys.executable, "-m", "dask", kind, *at, "--no-dashboard", *options]
            return subprocess.Popen(command, stdout=log, stderr=log, cwd=self.folder)

    def _written(self) -> bool:
        """Whether the scheduler's file is there, and whole."""
        file = self.folder / "scheduler.json"
        return file.exists() and file.read_text().rstrip().endswith("}")

    def complete(self) -> None:
        """Starts the workers that there are not, or no more, and waits until all are connected."""
        for threads in ("1", "2"):
            if threads not in self.workers or self.workers[threads].poll() is not None:
                options = ["--nthreads", threads, "--no-nanny", "--local-directory", self.folder]
                self.workers[threads] = self._start("worker", *options, "--preload", "preload.py")
        pids = {worker.pid for worker in self.workers.values()}
        with self.client() as client:
            wait_for(lambda: self.alive() and set(client.run(os.getpid, on_error="ignore").values()) == pids)

    def alive(self) -> bool:
        """True; fails with what they said when a worker or the scheduler has ended."""
        ended = [p.args for p in (self.scheduler, *self.workers.values()) if p.poll() is not None]
        assert not ended, (self.folder / "log").read_text()
        return True

    def close(self) -> None:
        for process in (*self.workers.values(), self.scheduler):
            process.kill()
            process.wait()

    def threads(self, pid: int) -> int:
        """The threads of the worker of that process."""
        return next(int(threads) for threads, worker in self.workers.items() if worker.pid == pid)

    def trained(self, key=None):
        """Pairs of a run's key and the worker's process that trained it, in order."""
        log = self.folder / "trained"
        pairs = [line.split() for line in log.read_text().splitlines()] if log.exists() else []
        return [(k, int(pid)) for k, pid in pairs if key in (None, k)]

    @contextmanager
    def holding(self, *keys):
        """Meanwhile, trainings of these runs do not end."""
        for key in keys:
            (self.folder / f"hold-{key}").touch()
        try:
            yield
        finally:
            self.let_go(*keys)

    def let_go(self, *keys):
        for key in keys:
            (self.folder / f"hold-{key}").unlink(missing_ok=True)

    @contextmanager
    def allowing(self, failures: int):
        """Meanwhile, a run may cost so many workers before it is given up."""

        def allow(failures):
            def change(dask_scheduler):
                before = dask_scheduler.allowed_failures
                dask_scheduler.allowed_failures = failures
                return before

            with self.client() as client:
                return client.run_on_scheduler(change)

        before = allow(failures)
        try:
            yield
        finally:
            allow(before)

    @contextmanager
    def client(self):
        from distributed import Client  # here, as each worker would load it to know of these tests

        with Client(self.address, set_as_default=False) as client:
            yield client


@contextmanager
def meanwhile(action):
    """Does something in a thread, and fails when that does."""
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(action)
        yield
    future.result()


@pytest.fixture(scope="module")
def shared_cluster(tmp_path_factory):
    cluster = Cluster(tmp_path_factory.mktemp("cluster"))
    yield cluster
    cluster.close()


@pytest.fixture
def cluster(shared_cluster):
    """A cluster with all of its workers, whatever the tests before this one have done to them."""
    shared_cluster.complete()
    return shared_cluster


numbers = count()


@pytest.fixture
def keys(monkeypatch):
    """Keys of four runs that are no other test's, in order."""
    lr = 0.1 + next(numbers) / 1000
    with_base(monkeypatch, lr=lr)
    return [config.key for config in configs().values()]


def test_a_cluster_trains_each_run_once_with_the_threads_of_the_worker(cluster, keys):
    lines = run(scheduler=cluster.address)
    assert sorted(line.partition(":")[0] for line in lines) == sorted(f"tiny {name}" for name in NAMES)
    workers = dict(pair for key in keys for pair in cluster.trained(key))
    assert [key for key in keys for _ in cluster.trained(key)] == keys
    for found in recorded().values():
        assert_same_run(found, recordable_run(found.config))
        assert found.provenance["threads"] == cluster.threads(workers[found.config.key])
    assert len(recorded()) == 4


def test_workers_of_another_version_train_nothing(cluster, keys, monkeypatch):
    monkeypatch.setattr(config, "TRAINING_VERSION", config.TRAINING_VERSION + 1)
    with pytest.raises(RuntimeError, match="another version of the training code"):
        run(scheduler=cluster.address)
    assert not {config.key for config in configs().values()} & dict(cluster.trained()).keys()
    with pytest.raises(records.NotRecordedError):
        recorded()


def test_an_interrupt_takes_the_runs_from_the_cluster(cluster, keys):
    def interrupt():
        wait_for(lambda: any(cluster.trained(key) for key in keys))
        _thread.interrupt_main()

    with cluster.holding(*keys):
        with meanwhile(interrupt), pytest.raises(KeyboardInterrupt):
            run(scheduler=cluster.address)
        with cluster.client() as client:
            wait_for(lambda: not client.run_on_scheduler(lambda dask_scheduler: len(dask_scheduler.tasks)))


def kill_the_worker_of(cluster, key):
    """Waits until a worker trains this run and all that it trained before is recorded, and kills it."""
    wait_for(lambda: cluster.trained(key))
    ((_, pid),) = cluster.trained(key)
    before = [k for k, p in cluster.trained() if p == pid and k != key]
    paths = [path_of(name) for name, c in configs().items() if c.key in before]
    wait_for(lambda: all(path.exists() for path in paths))
    os.kill(pid, signal.SIGKILL)


def test_a_worker_that_is_killed_costs_its_current_run_only(cluster, keys):
    def kill():
        kill_the_worker_of(cluster, keys[-1])
        cluster.let_go(keys[-1])

    with cluster.holding(keys[-1]), meanwhile(kill):
        run(scheduler=cluster.address)
    assert list(recorded()) == NAMES
    assert Counter(key for key, _ in cluster.trained() if key in keys) == Counter([*keys, keys[-1]])
    (_, killed), (_, other) = cluster.trained(keys[-1])
    assert killed != other


def test_a_run_whose_workers_die_is_given_up(cluster, keys):
    with cluster.allowing(0), cluster.holding(*keys), meanwhile(lambda: kill_the_worker_of(cluster, keys[0])):
        with pytest.raises(RuntimeError, match="given up, 1 workers died while they trained it"):
            run(scheduler=cluster.address)


def test_a_scheduler_that_goes_away_is_said(tmp_path):
    def kill():
        wait_for(lambda: lines)
        cluster.scheduler.kill()

    lines, cluster = [], Cluster(tmp_path)
    with closing(cluster), meanwhile(kill):
        with pytest.raises(RuntimeError, match=f"the scheduler at {cluster.address} is gone"):
            runner.run(experiments.planned("demo", ["tiny"]), scheduler=cluster.address, report=lines.append)
    assert lines == [f"no worker is connected to {cluster.address} yet; the runs wait for one"]


def test_where_no_scheduler_answers(monkeypatch):
    monkeypatch.setattr(cluster_module, "CONNECT_TIMEOUT", 1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        for address in (f"tcp://127.0.0.1:{port}", "tcp://127.0.0.1:1", "tcp://127.0.0.1", "nohost"):
            with pytest.raises(RuntimeError, match=f"no Dask scheduler answers at '{address}'"):
                run(scheduler=address)


def test_a_cluster_needs_a_package_and_no_jobs(monkeypatch):
    with pytest.raises(ValueError, match="jobs=2 is not allowed with a scheduler"):
        run(jobs=2, scheduler="tcp://127.0.0.1:1")
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(RuntimeError, match="pip install distributed=="):
        run(scheduler="tcp://127.0.0.1:1")

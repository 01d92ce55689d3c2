"""Runs what is not recorded yet, and finds what is."""

from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

import torch

from lib import experiments, paths, records
from lib.config import Config
from lib.training import Run, train


def record_path(experiment: str, scale: str, name: str, config: Config) -> Path:
    """Where a run of an experiment is recorded."""
    return paths.records(scale) / experiment / records.file_name(name, config)


def recorded(experiment: str, scale: str) -> dict[str, Run]:
    """The recorded runs of an experiment at a scale, by name.

    Raises
    ------
    ValueError
        If the experiment or the scale is not known.
    NotRecordedError
        If none is recorded.
    RecordError
        If a record is damaged.
    """
    wanted = experiments.configs(experiment, scale)
    found = {name: record_path(experiment, scale, name, config) for name, config in wanted.items()}
    runs = {name: records.read(path) for name, path in found.items() if path.exists()}
    if not runs:
        raise records.NotRecordedError(
            f"no run of {experiment} is recorded at scale {scale}; `python -m lib run {experiment} --scale {scale}` makes them"
        )
    return runs


def run(
    names: Iterable[str],
    scale: str,
    retrain: bool = False,
    jobs: int = 1,
    report: Callable[[str], None] = print,
) -> None:
    """Trains and records the runs of the named experiments that are not recorded yet.

    Each run is recorded as soon as it ends: stopped at any moment and started again, this loses
    at most the runs in progress. With ``jobs`` above 1, so many run at a time, each in a process
    with one thread. Raises what `train`, `records.read` and `records.write` raise.
    """
    todo = {}
    for experiment in names:
        for name, config in experiments.configs(experiment, scale).items():
            path = record_path(experiment, scale, name, config)
            if path.exists() and not retrain:
                records.read(path)  # a damaged record is an error, not a run that is done
                report(f"{experiment} {name}: recorded already")
            else:
                todo[f"{experiment} {name}"] = (config, path)
    if jobs == 1:
        for title, (config, path) in todo.items():
            report(f"{title}: {_train_and_record(config, path, title)}")
        return
    # spawn: a forked child would inherit torch's threads in an unknown state
    with ProcessPoolExecutor(jobs, get_context("spawn"), torch.set_num_threads, (1,)) as pool:
        futures = {pool.submit(_train_and_record, *work, title): title for title, work in todo.items()}
        try:
            for future in as_completed(futures):
                report(f"{futures[future]}: {future.result()}")
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _train_and_record(config: Config, path: Path, title: str) -> str:
    records.check_writable(path)
    result = train(config, title=title)
    records.write(result, path)
    return f"test accuracy {result.test_accuracy:.2%}, {result.provenance['seconds']:.0f} s"

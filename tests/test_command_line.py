import os
import signal
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import pytest
from conftest import LIMIT, assert_same_run, recordable_run, wait_for

from lib import __main__ as command_line
from lib import experiments, library, paths, records, scales, training
from lib.config import Config

really_train = training.train
TINY = ["--width", "1", "--epochs", "2", "--batch-size", "3000"]
SETTINGS = ["--" + f.name.replace("_", "-") for f in fields(Config)]
OPTIONS = {
    "": ["train", "run", "list", "verify", "reproduce", "book"],
    "train": [*SETTINGS, "--out"],
    "run": [
        "EXPERIMENT",
        "--scale",
        "--set",
        "--retrain",
        "--jobs",
        "--scheduler",
        "--precision",
        "--import",
    ],
    "list": ["--scale", "--set"],
    "figure": ["NAME", "--scale", "--set", "--run", "--beside", "--out"],
    "verify": ["--scale"],
    "reproduce": ["RUN", "--scale"],
    "book": ["--scale", "--set", "--retrain"],
}


@pytest.fixture
def call(monkeypatch, capsys):
    """Calls the command line: exit code, standard output, and error."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["lib", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            command_line.main()
        out, err = capsys.readouterr()
        if isinstance(end.value.code, str):  # what Python would print, and exit with 1
            return 1, out, err + end.value.code
        return end.value.code or 0, out, err

    return call


@pytest.fixture(autouse=True)
def trained(monkeypatch, records_in):
    """Replaces training; the configs that were trained."""
    configs = []

    def train(config, **_):
        configs.append(config)
        return recordable_run(config)

    monkeypatch.setattr(training, "train", train)
    return configs


@pytest.mark.parametrize("flag", ["--help", "-h"])
@pytest.mark.parametrize("command", OPTIONS)
def test_help_names_every_option(call, command, flag):
    code, out, _ = call(*command.split(), flag)
    assert code == 0
    assert all(option in out for option in OPTIONS[command])


def test_help_says_what_each_setting_is(call):
    text = " ".join(call("train", "--help")[1].split())
    for field in fields(Config):
        assert field.metadata["help"].split(";")[0] in text


def test_nothing_given_shows_the_help(call):
    code, out, err = call()
    assert code != 0 and "train" in out + err


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["train", "--lr", "0"], "lr=0.0 is not allowed; it must be above 0 and below 1e+38"),
        (["train", "--lr", "nan"], "lr=nan is not allowed"),
        (["train", "--lr", "fast"], "'fast' is not a valid float"),
        (["train", "--epochs", "0"], "epochs=0 is not allowed; it must be a whole number from 1 to 10000"),
        (["train", "--epochs", "-3"], "epochs=-3 is not allowed"),
        (["train", "--epochs", "1.5"], "'1.5' is not a valid int"),
        (["train", "--width", "0"], "width=0 is not allowed"),
        (["train", "--batch-size", "0"], "batch_size=0 is not allowed"),
        (["train", "--peak-epoch", "24"], "peak_epoch=24.0 is not allowed; it must be between 0 and 24"),
        (["train", "--momentum", "1"], "momentum=1.0 is not allowed; it must be at least 0 and below 1"),
        (["train", "--momentum", "0", "--nesterov"], "nesterov=True is not allowed"),
        (["train", "--weight-decay", "-1"], "weight_decay=-1.0 is not allowed"),
        (["train", "--seed", "-1"], "seed=-1 is not allowed"),
        (
            ["train", "--dataset", "mnist"],
            "dataset='mnist' is not allowed; it must be one of digits, cifar10",
        ),
        (
            ["train", "--architecture", "ResNet-9"],
            "architecture='ResNet-9' is not known; it must be backbone",
        ),
        (["train", "--learning-rate", "1"], "--learning-rate"),
        (["train", "now"], "now"),
        (["run", "dynamic"], "experiment='dynamic' is not known; it must be one of dynamics"),
        (["run", "--scale", "huge"], "scale='huge' is not known; it must be one of demo, small, paper"),
        (["run", "--jobs", "0"], "0 is not in the range"),
        (["run", "--jobs", "two"], "'two' is not a valid int"),
        (["run", "--jobs", "1", "--scheduler", "tcp://127.0.0.1:1"], "give one of them"),
        (["run", "--import", "no-such"], "'no-such' does not exist"),
        (["run", "--precision", "fp16"], "precision='fp16' is not allowed; it must be one of fp32, bf16"),
        *(
            (["run", "--import", str(Path(__file__).parent), *more], "--import trains nothing")
            for more in (
                ["dynamics"],
                ["--jobs", "1"],
                ["--retrain"],
                ["--scale", "demo"],
                ["--precision", "fp32"],
            )
        ),
        (["list", "--scale", "huge"], "scale='huge' is not known; it must be one of demo, small, paper"),
        (["book", "--scale", "huge"], "scale='huge' is not known; it must be one of demo, small, paper"),
        (["run", "--set", "lr"], "--set lr: give NAME=VALUE, as in --set weight_decay=0.002"),
        (["run", "--set", "lr=1", "--set", "lr=2"], "--set lr is given more than once"),
        (["run", "--set", "rate=1"], "setting 'rate' is not known; it must be one of lr, weight_decay"),
        (["book", "--set", "momentum=1"], "momentum=1.0 is not allowed; it must be at least 0 and below 1"),
        (["figure", "step", "--beside"], "give --set or --run as well"),
        (["figure", "stp", "--set", "lr=1"], "figure='stp' is not known; it must be one of"),
        (["figure", "step", "--run", "no-such"], "'no-such' does not exist"),
        (["figure", "step", "--set", "lr=1", "--run", __file__], "give one of them"),
        (["frobnicate"], "frobnicate"),
    ],
)
def test_bad_input_is_one_line_that_says_what_is_allowed(
    call, trained, records_in, tmp_path, arguments, message
):
    out_file = tmp_path / "run.parquet"
    if arguments[0] == "train":
        arguments = [*arguments, "--out", out_file]
    code, out, err = call(*arguments)
    assert code in (1, 2) and out == ""
    # click puts the usage above it
    assert message in err.strip().splitlines()[-1]
    assert code == 2 or len(err.strip().splitlines()) == 1
    assert not trained and not out_file.exists() and not records_in.exists()


GIVEN = dict(
    dataset="cifar10", architecture="Extra:L2", width=3, epochs=7, batch_size=11, lr=0.3, peak_epoch=2.5
)
GIVEN |= dict(momentum=0.8, weight_decay=1e-3, noise_every=3, precision="bf16", seed=5)


FORMS = (
    dict(nesterov=True, hold_epoch=3.5, layers="convolutions", layers_lr=2.0, layers_decay=0.5),
    dict(clip=1.25, smoothing=0.99, init_scale=(2.0,), decay_follows_lr=True),
    dict(optimizer="lars", lag=True, overlap=(-0.1,)),
    dict(averages=8, by_filter=True, noise_every=0),
)


@pytest.mark.parametrize("form", FORMS)
def test_train_uses_the_settings_that_are_given(call, trained, form):
    arguments = []
    for name, value in (GIVEN | form).items():
        for one in value if isinstance(value, tuple) else [value]:
            arguments += ["--" + name.replace("_", "-"), *([] if one is True else [one])]
    assert call("train", *arguments)[0] == 0
    assert trained == [Config(**GIVEN | form)]
    assert set(GIVEN).union(*FORMS) == {f.name for f in fields(Config)}


@pytest.mark.parametrize("dataset, scale", [("digits", "demo"), ("cifar10", "small")])
def test_train_starts_from_the_base_run_of_its_data_set(call, trained, dataset, scale):
    assert call("train", "--dataset", dataset)[0] == 0
    assert trained == [scales.base(scale)]


def test_train_without_a_data_set_needs_no_download(call, trained):
    assert call("train")[0] == 0
    assert trained == [scales.base("demo")]


def test_train_of_fewer_epochs_keeps_the_form_of_the_schedule(call, trained):
    assert call("train", "--epochs", "12")[0] == 0
    assert (trained[0].epochs, trained[0].peak_epoch) == (12, 2.5)


def test_train_prints_accuracy_and_the_ratio_of_each_layer(call, tmp_path, trained):
    code, out, _ = call("train", "--out", tmp_path / "run.parquet")
    run = records.read(tmp_path / "run.parquet")
    assert_same_run(run, recordable_run(trained[0]))
    assert code == 0 and f"test accuracy {run.test_accuracy:.2%}" in out and "epochs 6 to 14" in out
    from lib.results import analysis

    for layer, R in analysis.equilibrium([run])["R"].items():
        assert any(line.split()[:2] == [layer, f"{R:.3f}"] for line in out.splitlines())


def test_train_without_weight_decay_compares_nothing(call):
    code, out, _ = call("train", "--weight-decay", "0")
    assert code == 0 and "no equilibrium" in out


@pytest.mark.parametrize("where", ["file/run.parquet", ""])
def test_a_place_that_cannot_be_written_is_said_before_training(call, trained, tmp_path, where):
    (tmp_path / "file").touch()
    code, _, err = call("train", "--out", tmp_path / where)
    assert code != 0 and str(tmp_path) in err and "Traceback" not in err
    assert not trained


def test_an_error_while_training_is_one_line_and_no_record(call, monkeypatch, tmp_path):
    def diverge(config, **_):
        raise training.DivergedError(recordable_run(config, diverged_at=3))

    monkeypatch.setattr(training, "train", diverge)
    code, out, err = call("train", "--out", tmp_path / "run.parquet")
    assert (code, out) == (1, "") and err.startswith("error: the loss or a weight became infinite or NaN at")
    assert "at step 3 with Config(" in err and "try a smaller lr" in err
    assert not list(tmp_path.glob("*.parquet"))


def configs() -> dict[str, Config]:
    """Those of the dynamics at demo scale, by the name of the run."""
    return {one.name: one.config for one in experiments.planned("demo", ["dynamics"])}


def path_of(name: str) -> Path:
    """Where one of them is recorded."""
    return next(library.path(one) for one in experiments.planned("demo", ["dynamics"]) if one.name == name)


def test_run_and_list_tell_what_is_recorded(call, trained, monkeypatch):
    monkeypatch.setattr(experiments, "EXPERIMENTS", {"dynamics": experiments.dynamics})
    planned = configs()
    assert f"0 of {len(planned)}" in call("list", "--scale", "demo")[1]
    code, out, _ = call("run", "dynamics", "--scale", "demo")
    assert code == 0 and trained == list(planned.values())
    assert all(name in out for name in planned)
    assert call("run", "--scale", "demo")[1].count("recorded already") == len(planned)
    path_of("sgd-seed0").unlink()
    out = call("list", "--scale", "demo")[1]
    assert f"{len(planned) - 1} of {len(planned)}" in out
    lines = {line.split()[0]: line for line in out.splitlines()}
    assert lines["sgd-seed0"].endswith("not recorded yet") and lines["nesterov-seed0"].endswith("  recorded")
    trained.clear()
    assert call("run", "--scale", "demo")[0] == 0
    assert trained == [planned["sgd-seed0"]]
    call("run", "--scale", "demo", "--retrain")
    assert len(trained) == 1 + len(planned)


def test_the_same_runs_in_the_other_precision(call, trained):
    assert call("run", "dynamics", "--scale", "demo", "--precision", "bf16")[0] == 0
    assert trained == [replace(config, precision="bf16") for config in configs().values()]


def test_a_damaged_record_is_one_line_with_its_path(call, trained):
    call("run", "--scale", "demo")
    path = path_of("sgd-seed0")
    path.write_text("damaged")
    code, _, err = call("run", "--scale", "demo")
    assert code == 1 and str(path) in err and len(err.splitlines()) == 1


def test_the_records_of_another_machine_are_added(call, trained, tmp_path, records_in):
    call("run", "dynamics", "--scale", "demo")
    there = records_in.rename(tmp_path / "there")
    config = configs()["sgd-seed0"]
    other = recordable_run(config)
    path = path_of("sgd-seed0")
    records.write(replace(other, epochs=other.epochs.assign(test_accuracy=0.5)), path)
    trained.clear()
    code, out, _ = call("run", "--import", there)
    assert code == 0 and not trained
    different, counts = out.splitlines()
    assert path.name in different and "other numbers" in different
    assert counts == f"{len(configs()) - 1} records added; 0 were here already, 1 with other numbers"


@pytest.mark.parametrize("stop, status", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stop_is_one_line_and_what_is_recorded_stays(call, trained, monkeypatch, records_in, stop, status):
    def train(config, **_):
        if trained:
            signal.raise_signal(stop)
        trained.append(config)
        return recordable_run(config)

    before = signal.getsignal(stop)
    monkeypatch.setattr(training, "train", train)
    code, _, err = call("run", "dynamics", "--scale", "demo")
    assert code == status
    assert err == "stopped: what is recorded stays, and the same command goes on from there\n"
    assert len(list(records_in.rglob("*.parquet"))) == 1
    assert signal.getsignal(stop) is before


def test_a_second_ctrl_c_while_a_lock_is_released_is_a_stop_too(call, monkeypatch, records_in):
    def train(config, **_):
        try:
            raise KeyboardInterrupt
        finally:
            raise RuntimeError("release unlocked lock")

    monkeypatch.setattr(training, "train", train)
    code, _, err = call("run", "dynamics", "--scale", "demo")
    assert code == 130 and err.startswith("stopped: what is recorded stays")


@pytest.mark.slow
def test_a_real_training_from_the_shell(tmp_path):
    """At a terminal that has no λ, which is in the name of the record and in what is printed."""
    out = tmp_path / "λ.parquet"
    command = [sys.executable, "-W", "error", "-m", "lib", "train", *TINY, "--lr", "0.2", "--out", out]
    environment = os.environ | {"PYTHONIOENCODING": "cp1252:strict"}
    pipes = {"capture_output": True, "encoding": "cp1252"}
    result = subprocess.run(command, cwd=paths.ROOT, env=environment, timeout=LIMIT, **pipes)
    assert (result.returncode, result.stderr) == (0, "")
    run = records.read(out)
    assert f"test accuracy {run.test_accuracy:.2%}" in result.stdout
    assert "?|g|/|w| over its equilibrium value" in result.stdout
    assert run.config == Config(
        dataset="digits", width=1, epochs=2, batch_size=3000, lr=0.2, peak_epoch=2 * 5 / 24
    )


@pytest.mark.slow
def test_a_real_error(call, monkeypatch, tmp_path):
    """A warning would be an error of another kind here, and a line more at a terminal."""
    monkeypatch.setattr(training, "train", really_train)
    code, out, err = call("train", *TINY, "--lr", "1e30", "--out", tmp_path / "run.parquet")
    assert (code, out) == (1, "") and not list(tmp_path.iterdir())
    assert err.startswith("error: ") and "\n" not in err
    assert all(text in err for text in ("at step", "lr=1e+30", "try a smaller lr"))


# The command line, with more runs than anyone waits for.
MANY_RUNS = """
from lib import __main__, experiments, scales
from lib.config import Config
base = Config(dataset="digits", width=1, epochs=1, peak_epoch=0.5, batch_size=3000)
scales.SCALES["demo"] = scales.Scale(base=base, seeds=999, architectures=())
experiments.EXPERIMENTS["dynamics"] = lambda scale: [experiments.Form("sgd", scale.base, scale.seeds)]
__main__.main()
"""


def is_there(group: int) -> bool:
    """Whether a process of this group is left."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.slow
def test_ctrl_c_ends_every_process(records_in):
    command = [sys.executable, "-c", MANY_RUNS, "run", "dynamics", "--scale", "demo", "--jobs", "2"]
    environment = os.environ | {"RECORDS_ROOT": str(records_in)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    # a session of its own stands in for a terminal, whose Ctrl-C goes to all of its processes
    with subprocess.Popen(
        command, cwd=paths.ROOT, env=environment, start_new_session=True, **pipes
    ) as process:
        first = process.stdout.readline()
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=LIMIT)
    assert process.returncode == 130
    assert err == "stopped: what is recorded stays, and the same command goes on from there\n"
    reported = [first, *out.splitlines()]
    assert len(reported) <= len(list(records_in.rglob("*.parquet"))) <= len(reported) + 1
    wait_for(lambda: not is_there(process.pid))  # helpers of multiprocessing end a moment after their parent


def test_help_does_not_wait_for_torch():
    code = "import lib.__main__, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=paths.ROOT, timeout=LIMIT).returncode == 0

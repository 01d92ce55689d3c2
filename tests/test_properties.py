"""Whatever is given: a valid run, or one sentence that says what is wrong."""

import json
import math
from dataclasses import asdict, fields

import click
import numpy as np
import pytest
from click.testing import CliRunner
from conftest import recordable_run
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from lib import __main__ as command_line
from lib import experiments, paths, training
from lib.config import Config
from lib.experiments import Form

NAMES = [field.name for field in fields(Config)]
# the same examples every time; a slow moment of the machine is no failure
settings.register_profile(
    "steady", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("steady")
#: Numbers that break what is careless, and the words of this project in wrong places.
NUMBERS = st.one_of(
    st.integers(-3, 100),
    st.integers(),
    st.floats(),
    st.sampled_from(
        [2**31, 2**63, 2**64, -(2**63), 10**400, 1e-320, 1e38, 1e39, math.nan, math.inf, -math.inf]
    ),
)
PROJECT = "digits cifar10 backbone Extra: Residual: Residual:L1+L3 L1+L2 sgd lars demo dynamics"
WORDS = st.one_of(
    st.text(),
    st.sampled_from(
        [
            "",
            " ",
            "\0",
            *f"{PROJECT} ../../etc/passwd / . ~ NUL --help -- - λ ∞ １２ 0x10 1e5 1_000 nan inf true".split(),
        ]
    ),
)
ANYTHING = st.one_of(NUMBERS, WORDS, st.booleans(), st.none(), st.binary(), st.lists(NUMBERS, max_size=2))
#: Settings of which most are good, so that the others are looked at as well.
GOOD = {
    "dataset": st.sampled_from(["digits", "cifar10"]),
    "architecture": st.sampled_from(["backbone", "Extra:L2", "Residual:L1+L3", "Residual:L1+L2+L3"]),
    "width": st.integers(1, 64),
    "epochs": st.integers(1, 30),
    "batch_size": st.integers(1, 6000),
    "optimizer": st.sampled_from(["sgd", "lars"]),
    "lr": st.floats(0, 10),
    "peak_epoch": st.floats(0, 5),
    "momentum": st.floats(0, 1),
    "nesterov": st.booleans(),
    "weight_decay": st.floats(0, 1),
    "noise_every": st.integers(0, 30),
    "seed": st.integers(0, 2**63),
}
SETTINGS = st.fixed_dictionaries(
    {}, optional={name: good | good | good | ANYTHING for name, good in GOOD.items()}
)


@given(SETTINGS)
def test_settings_make_a_config_or_an_error_that_names_one(given):
    try:
        config = Config(**given)
    except ValueError as error:
        assert any(f"{name}=" in str(error) for name in NAMES) and "must be" in str(error)
        assert len(str(error).splitlines()) <= 1 or any("\n" in str(v) for v in given.values())
        return
    for name, value in given.items():
        assert getattr(config, name) == value
    assert Config.from_json(config.to_json()) == config and len(config.key) == 12
    assert json.loads(config.to_json()) == json.loads(json.dumps(asdict(config)))
    epochs = np.linspace(0, config.epochs, 7)
    lrs = config.lr_schedule(epochs)
    assert np.isfinite(lrs).all() and (0 <= lrs).all() and (lrs <= config.lr * (1 + 1e-9)).all()
    assert config.steps_per_epoch >= 1


@given(SETTINGS, SETTINGS)
@example({"momentum": 0.0}, {"momentum": -0.0})
@example({"lr": 4}, {"lr": 4.0})
def test_equal_configs_and_no_others_have_one_key(left, right):
    try:
        left, right = Config(**left), Config(**right)
    except ValueError:
        return
    assert (left == right) == (left.key == right.key) == (hash(left) == hash(right))


@given(st.one_of(st.text(), st.recursive(ANYTHING, lambda x: st.lists(x) | st.dictionaries(WORDS, x))))
def test_settings_as_json_make_a_config_or_a_value_error(content):
    try:
        text = content if isinstance(content, str) else json.dumps(content)
    except TypeError:  # bytes
        return
    with pytest.raises(ValueError):
        Config.from_json(text)
        if json.loads(text) == {}:
            raise ValueError("the default")


@pytest.fixture(scope="module", autouse=True)
def nothing_is_trained(tmp_path_factory):
    """Trainings take no time, and records are the test's own."""
    folder = tmp_path_factory.mktemp("properties")
    small = Config(dataset="digits", width=1, epochs=1, peak_epoch=0.5, batch_size=6000)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(paths, "records", lambda scale: folder / "records" / scale)
        patch.setattr(experiments, "EXPERIMENTS", {"dynamics": lambda scale: [Form("sgd", small, 1)]})
        patch.setattr(training, "train", lambda config, **_: recordable_run(small))
        yield


def ends_well(arguments):
    """Calls the command line; it ends as it should, or in an error of one line."""
    result = CliRunner().invoke(command_line.cli, arguments)
    error = result.exception
    if error is None or isinstance(error, SystemExit):
        assert result.exit_code in (0, 1, 2, 3), result
        assert "Traceback" not in result.output
    else:
        assert isinstance(error, command_line.EXPECTED), (arguments, error)
        assert str(error).strip()
    return result


def options(name):
    command = command_line.cli.commands[name]
    return [o for p in command.params if isinstance(p, click.Option) for o in p.opts if o != "--scheduler"]


#: What a shell can hand over: no null byte, no half of a character.
SHELL = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
    NUMBERS.map(str),
    WORDS.filter(lambda word: "\0" not in word),
)
COMMANDS = ["train", "run", "list", "verify", "reproduce"]


@st.composite
def command_lines(draw):
    command = draw(st.sampled_from(COMMANDS))
    # what builds the chapters, or looks for a cluster, takes its time
    known = st.sampled_from(options(command))
    words = draw(st.lists(st.one_of(SHELL, known, st.tuples(known, SHELL)), max_size=5))
    flat = [w for word in words for w in (word if isinstance(word, tuple) else (word,))]
    return [command, *(w for w in flat if not w.startswith("--sch"))]


@pytest.mark.slow
@settings(max_examples=300)
@given(command_lines())
@example(["train", "--lr", "nan"])
@example(["train", "--epochs", "999999999999999999999"])
@example(["train", "--peak-epoch", "1e-320"])
@example(["train", "--out", "/"])
@example(["train", "--out", ""])
@example(["train", "--out", "a" * 5000])
@example(["run", "--import", "\ud800"])
@example(["run", "--import", "/dev/null"])
@example(["reproduce", "\ud800"])
@example(["reproduce", "a" * 5000])
@example(["run", "--jobs", "-1"])
@example(["run", ""])
def test_a_command_does_its_work_or_says_what_is_wrong(arguments):
    ends_well(arguments)


@pytest.mark.slow
@settings(max_examples=200)
@given(SETTINGS)
def test_train_takes_any_settings(given):
    arguments = ["train"]
    for name, value in given.items():
        option = "--" + name.replace("_", "-")
        if name == "nesterov":
            arguments += [option] * (value is True)
        elif isinstance(value, str | int | float) and "\0" not in str(value):
            arguments += [option, str(value)]
    ends_well(arguments)

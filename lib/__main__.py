"""The command line: ``python -m lib``."""

import sys
from dataclasses import fields, replace

import click

from lib import experiments
from lib.config import Config

# What needs torch is imported inside the commands: `--help` and a mistyped option answer at once.

ScaleOption = click.option(
    "--scale",
    default=experiments.DEFAULT_SCALE,
    show_default=True,
    help=f"one of {', '.join(experiments.SCALES)}",
)
#: The base run that `train` starts from, for each data set.
BASES = {"digits": experiments.SCALES["demo"], "cifar10": experiments.SCALES["small"]}


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def cli():
    """Trains the networks of the paper, records their norms, and builds the book."""


def config_options(command):
    """Gives a command one option for each setting of `Config`, with its help."""
    for field in reversed(fields(Config)):
        defaults = {name: getattr(base, field.name) for name, base in BASES.items()}
        if field.name == "dataset":
            default = "digits"
        elif field.name == "peak_epoch":
            default = "5 of 24, or in proportion"
        elif len(set(defaults.values())) == 1:
            default = defaults["digits"]
        else:
            default = ", ".join(f"{value} for {name}" for name, value in defaults.items())
        command = click.option(
            "--" + field.name.replace("_", "-"),
            type=field.type,
            is_flag=field.type is bool,
            default=None,
            help=f"{field.metadata['help']}" + ("" if field.type is bool else f"  [default: {default}]"),
        )(command)
    return command


@cli.command()
@config_options
@click.option("--out", type=click.Path(dir_okay=False), help="record the run in this Parquet file")
def train(out, dataset, **options):
    """Trains one network and compares its steps with the theory."""
    dataset = dataset or "digits"
    # an unknown name is refused by Config itself
    base = BASES.get(dataset, experiments.SCALES["small"])
    given = {name: value for name, value in options.items() if value is not None}
    if "epochs" in given and given["epochs"] > 0:  # else Config itself refuses it
        base = base.stretched(given["epochs"])
    config = replace(base, dataset=dataset, **given)
    from lib import analysis, records, training

    if out:
        records.check_writable(out)  # before the training, not after it
    run = training.train(config)
    if out:
        records.write(run, out)
    last = run.epochs.iloc[-1]
    click.echo(f"test accuracy {last['test_accuracy']:.2%}, test loss {last['test_loss']:.4f}")
    if not config.weight_decay:
        click.echo("without weight decay there is no equilibrium to compare with")
        return
    click.echo(f"λ|g|/|w| over its equilibrium value, epochs {analysis.window_text(config.epochs)}:")
    for layer, R in analysis.equilibrium({"": run})["R"].items():
        note = "  (not scale-invariant)" if layer == analysis.CLASSIFIER else ""
        click.echo(f"  {layer:<12} {R:.3f}{note}")


@cli.command()
@click.argument("names", metavar="[EXPERIMENT]...", nargs=-1)
@ScaleOption
@click.option("--retrain", is_flag=True, help="train also what is recorded, and replace it")
@click.option(
    "--jobs", type=click.IntRange(min=1), default=1, show_default=True, help="runs at a time, one thread each"
)
def run(names, scale, retrain, jobs):
    """Trains and records the runs that are missing.

    Of the experiments that are named, or of all. Can be stopped at any moment and started again.
    """
    from lib import runner

    runner.run(names or experiments.EXPERIMENTS, scale, retrain=retrain, jobs=jobs, report=click.echo)


@cli.command("list")
@ScaleOption
def list_(scale):
    """Lists experiments, their runs, which are recorded."""
    from lib import runner

    for experiment in experiments.EXPERIMENTS:
        configs = experiments.configs(experiment, scale)
        done = {name: runner.record_path(experiment, scale, name, c).exists() for name, c in configs.items()}
        click.echo(f"{experiment}: {sum(done.values())} of {len(done)} runs recorded at scale {scale}")
        for name in configs:
            click.echo(f"  {name:<20} {'recorded' if done[name] else 'not recorded yet'}")


@cli.command()
@ScaleOption
def claims(scale):
    """Prints the claims and the verdicts that the records give."""
    from lib import claims, runner

    for claim, row in claims.table(runner.recorded("dynamics", scale)).iterrows():
        click.echo(f"{row['verdict']}: {claim}")
        click.echo(f"  {row['what is looked at']}")
        click.echo(f"  observed {row['observed']}, tolerance {row['tolerance']}")


@cli.command()
@ScaleOption
@click.option("--retrain", is_flag=True, help="train also what is recorded, and replace it")
@click.option(
    "-p", "parameters", nargs=2, multiple=True, metavar="NAME VALUE", help="set a parameter of the chapters"
)
def book(scale, retrain, parameters):
    """Executes the chapters and builds the site.

    Trains what is not recorded at the scale first; prints where the site is.
    """
    from lib import book

    click.echo(book.build(scale, retrain=retrain, parameters=dict(parameters)))


def main() -> None:
    """Runs the command line; an expected error ends with one line and exit code 1."""
    try:
        cli(prog_name="python -m lib")
    except (ValueError, RuntimeError, OSError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()

"""The command line: ``python -m lib``, or by the name of the installed package."""

import gc
import shlex
import sys
from pathlib import Path

import click
from click.core import ParameterSource

from . import experiments, options, paths, scales

# What needs torch is imported inside the commands: `--help` and a mistyped option answer at once.

#: What a command raises on bad input or a bad day, with a message for its caller.
EXPECTED = (ValueError, RuntimeError, OSError)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def cli():
    """Trains the networks of the paper, records their norms, and builds the book."""


@cli.command()
@options.settings
@click.option("--out", type=click.Path(dir_okay=False), help="record the run in this Parquet file")
def train(out, dataset, **values):
    """Trains one network and compares its steps with the theory."""
    config = options.config(dataset, **values)
    from . import records, training
    from .machinery import checkpoints, files, machine

    machine.start_without_compiler()
    if out:
        files.check_writable(out)  # before the training, not after it
        # beside a device nothing is kept
        checkpoint = None if files.is_stream(out) else checkpoints.path_beside(Path(out))
        with options.resumable():
            run = training.train(config, checkpoint=checkpoint)
            records.write(run, out)
        if checkpoint:
            checkpoint.unlink(missing_ok=True)
    else:
        run = training.train(config)
    _report(run)
    kept = out and not files.is_stream(out)
    what = "step" if not config.momentum else "momentum-step"
    if config.optimizer == "sgd" and not config.nesterov:
        command = f"`{paths.COMMAND} figure {what} --run {shlex.quote(out) if kept else 'FILE'} --beside`"
        click.echo(f"{command} draws {'it' if kept else 'a run that was kept with --out FILE'}")


def _report(run):
    from .results import analysis

    config, last = run.config, run.epochs.iloc[-1]
    click.echo(f"test accuracy {last['test_accuracy']:.2%}, test loss {last['test_loss']:.4f}")
    if not config.weight_decay:
        click.echo("without weight decay there is no equilibrium to compare with")
        return
    click.echo(f"λ|g|/|w| over its equilibrium value, epochs {analysis.window_text(config.epochs)}:")
    for layer, R in analysis.equilibrium([run])["R"].items():
        note = "  (not scale-invariant)" if layer == analysis.CLASSIFIER else ""
        click.echo(f"  {layer:<12} {R:.3f}{note}")


@cli.command()
@click.argument("names", metavar="[EXPERIMENT]...", nargs=-1)
@options.WHICH_SCALE
@options.SET
@click.option("--retrain", is_flag=True, help="train also what is recorded, and replace it")
@click.option(
    "--jobs", type=click.IntRange(min=1), default=1, show_default=True, help="runs at a time, one thread each"
)
@click.option("--scheduler", metavar="ADDRESS", help="train on the workers of this Dask scheduler, tcp://…")
@click.option("--precision", help="fp32 or bf16  [default: that of the scale]")
@click.option(
    "--import",
    "import_",
    type=click.Path(exists=True, file_okay=False),
    help="add the records of another folder to those that are here, and train nothing",
)
@click.pass_context
def run(context, names, scale, changes, retrain, jobs, scheduler, precision, import_):
    """Trains and records the runs that are missing.

    Of the experiments that are named, or of all; of one form with experiment/form, such as dynamics/sgd. Can be
    stopped at any moment and started again.
    """
    given = {
        name for name in context.params if context.get_parameter_source(name) is ParameterSource.COMMANDLINE
    }
    if import_ and given != {"import_"}:
        raise click.UsageError("--import trains nothing and takes all that is in its folder: give it alone")
    if {"jobs", "scheduler"} <= given:
        raise click.UsageError(
            "--jobs are processes here, --scheduler has workers elsewhere: give one of them"
        )
    chosen = options.which(scale, changes)
    planned = experiments.planned(chosen, names or None, precision)
    experiments.check_has_runs(chosen, names)
    with options.resumable():
        if import_:
            _merge(import_)
            return
        from .running import runner

        runner.run(planned, retrain=retrain, jobs=jobs, scheduler=scheduler, report=click.echo)


def _merge(folder):
    from .running import merge

    merged = merge.merge(folder)
    for file in merged.different:
        click.echo(f"{file}: recorded here with other numbers, which stay")
    click.echo(
        f"{len(merged.new)} records added; {len(merged.same)} were here already, "
        f"{len(merged.different)} with other numbers"
    )


@cli.command("list")
@options.WHICH_SCALE
@options.SET
def list_(scale, changes):
    """Lists experiments, their runs, which are recorded; and what is trained at settings of one's own."""
    from . import library

    chosen = options.which(scale, changes)
    for experiment in experiments.EXPERIMENTS:
        done = {one.name: library.recorded(one) for one in experiments.planned(chosen, [experiment])}
        count = sum(file is not None for file in done.values())
        click.echo(f"{experiment}: {count} of {len(done)} runs recorded at scale {chosen}")
        for name, file in done.items():
            click.echo(f"  {name:<20} {'recorded' if file else 'not recorded yet'}")
    for file, differs in library.own(chosen.scale).items():
        click.echo(f"own: {file.parent.name} {file.stem.rpartition('-')[0]}: {differs}")


@cli.command()
@click.option("--scale", help=f"{options.SCALES}  [default: all]")
def verify(scale):
    """Checks every file in the folder of records.

    Exits with 1 when a record is refused.
    """
    from .running import verify

    states = list(verify.states(scale))
    for state in states:
        click.echo(f"{state.path}: {state.text}")
    bad = sum(state.bad for state in states)
    click.echo(f"{len(states)} files, {bad} records refused")
    sys.exit(min(bad, 1))


@cli.command()
@click.argument("run")
@options.SCALE
def reproduce(run, scale):
    """Trains a recorded run again, and says how far its numbers are from the record's.

    RUN is the path of a record, or experiment/name, such as dynamics/sgd-seed0. Exits with 0 when all
    are equal bit for bit, as on the machine of the record; with 3 when averages over halves of the
    run are equal within the tolerance, as on others; else with 1.
    """
    from . import records
    from .running import verify

    recorded = records.read(verify.find(run, scale))
    again = verify.again(recorded)
    if recorded.diverged_at != again.diverged_at:
        raise RuntimeError(f"diverged at step {again.diverged_at}, the record at {recorded.diverged_at}")
    found = verify.differences(recorded, again)
    if len(found):
        click.echo(found.to_string(float_format="{:.2g}".format))
    if not found["largest"].any():
        click.echo("the same numbers, bit for bit")
        return
    click.echo(f"averages differ by {found['averages'].max():.2g}, the tolerance is {verify.TOLERANCE:g}")
    sys.exit(3 if found["averages"].max() <= verify.TOLERANCE else 1)


@cli.command()
@options.WHICH_SCALE
@options.SET
def claims(scale, changes):
    """Prints the claims and the verdicts that the records give."""
    from .results import verdicts
    from .results.claims import CLAIMS

    scale = options.which(scale, changes)
    click.echo(f"scale {scale}: {verdicts.about(scale)}")
    for claim, found in verdicts.judged(CLAIMS, verdicts.recorded(scale)):
        click.echo(f"{verdicts.brief(found)}\n  {claim.origin}: {claim.sentence}")
        click.echo(f"  {claim.looked_at}; bound {claim.bound_text}")
        if found:
            click.echo(f"  {found.reason}")


@cli.command()
@click.argument("name")
@options.WHICH_SCALE
@options.SET
@click.option(
    "--run", "file", type=click.Path(exists=True, dir_okay=False), help="draw a run that `train --out` made"
)
@click.option("--beside", is_flag=True, help="draw the recorded runs in grey behind, with --set or --run")
@click.option("--out", type=click.Path(dir_okay=False), help="file to write  [default: NAME.svg]")
def figure(name, scale, changes, file, beside, out):
    """Makes one figure of the book from the records.

    The suffix of the file says the format: .svg, .png or .pdf, or .csv for the numbers that are drawn. With --set
    the runs that it needs are trained first, unless they are already.
    """
    from . import records
    from .figures import gallery, origins
    from .running import own

    if file and changes:
        raise click.UsageError("--run draws a run as it is, --set trains others: give one of them")
    if beside and not (file or changes):
        raise click.UsageError("--beside draws the recorded runs behind others: give --set or --run as well")
    out = out or f"{name}.svg"
    gallery.check_suffix(out)
    chosen = origins.given(name, records.read(file), file, scale) if file else options.which(scale, changes)
    if isinstance(chosen, scales.Chosen) and chosen.changes:
        needed = origins.check_depends(name, chosen)
        experiments.check_has_runs(chosen, needed)
        with options.resumable():
            own.train(chosen, needed)
    click.echo(gallery.save(name, chosen, out, beside))


@cli.command()
@click.option(
    "--width",
    "widths",
    type=int,
    multiple=True,
    default=(8,),
    show_default=True,
    help="of the network; can be given several times",
)
@click.option("--batch-size", type=int, default=512, show_default=True, help="images in a step")
@click.option("--precision", default="fp32", show_default=True, help="fp32 or bf16")
@click.option("--device", type=click.Choice(["cpu", "cuda"]), help="[default: cuda where there is one]")
@click.option("--rounds", type=int, default=5, show_default=True, help="how often each variant is measured")
@click.option("--steps", type=int, help="batches in a round  [default: a few seconds' worth]")
@click.option("--jobs", type=click.IntRange(min=1), help="measure also a sweep, so many runs at a time")
@click.option("--all", "all_", is_flag=True, help="measure each width and batch size of the page on cost")
@click.option("--out", type=click.Path(dir_okay=False), help="write the measurements to this JSON file")
def bench(widths, batch_size, precision, device, rounds, steps, jobs, all_, out):
    """Measures how fast the trainer is.

    Beside the same without probes, a plain training loop, and the convolutions alone.
    """
    from .config import PRECISIONS
    from .machinery import files, speeds
    from .running import bench

    if out:
        files.check_writable(out)  # before the measurements, not after them
    measured, sweeps = [], []
    plan = [(width, batch_size, precision) for width in widths]
    if all_:
        plan = [(*width_and_batch, p) for p in PRECISIONS for width_and_batch in bench.PLAN]
    for width, batch, p in plan:
        measured.append(bench.run(width, device, rounds, steps, batch, p))
        click.echo(measured[-1].text())
    if jobs:
        sweeps.append(bench.sweep(jobs))
        click.echo(sweeps[-1].text())
    if out:
        speeds.write(measured, sweeps, out)


@cli.command()
@click.option(
    "--scale",
    help=f"{options.SCALES}  [default: of each chapter the largest that is recorded]",
)
@options.SET
@click.option("--retrain", is_flag=True, help="train also what is recorded, and replace it")
def book(scale, changes, retrain):
    """Executes the chapters and builds the site.

    At a scale, or with --set, trains first what the chapters need and is not recorded, and builds in a folder of
    its own; prints where the site is.
    """
    from .site import book

    book.notebooks(paths.ROOT)  # refuses an installed package before hours of training, not after them
    chosen = options.which(scale, changes) if scale or changes else None
    if chosen or retrain:
        from .running import own

        needed = {name: None for names in experiments.CHAPTERS.values() for name in names}
        with options.resumable():
            own.train(chosen or scales.chosen(scales.DEFAULT_SCALE), needed, retrain)
    click.echo(book.build(chosen))


@cli.command()
@click.option(
    "--out", type=click.Path(file_okay=False), default="copies", show_default=True, help="folder to write to"
)
def copies(out):
    """Writes the chapters as readers take them away.

    With the numbers in their sentences, and a first cell that installs what they need.
    """
    from .site import readers

    click.echo(f"{len(readers.write(Path(out)))} notebooks in {out}")


@cli.command()
def pdf():
    """Prints the book as it is, without the pages to look up or to work with, into one PDF.

    It needs Chromium.
    """
    from .site import pdf

    click.echo(pdf.build())


def main() -> None:
    """Runs the command line; an expected error ends with one line and exit code 1."""
    from .machinery import machine

    gc.set_threshold(50_000, 20, 20)  # to load torch and pandas takes a third longer with Python's own
    machine.print_what_can_be_printed()
    try:
        cli(prog_name=paths.COMMAND)
    except EXPECTED as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()

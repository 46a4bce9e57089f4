"""`progan train`."""

import argparse
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from progan_service import exit_codes
from progan_service.commands.terminal import progress_bars, say
from progan_service.errors import ConfigError, FileError
from progan_service.host.functions import load_function
from progan_service.host.signals import take_over
from progan_service.host.tensorflow import import_tensorflow
from progan_service.model.config import NetworkConfig
from progan_service.settings.manual import HelpPage, add_path, add_settings, given_settings
from progan_service.training.config import InitConfig, RunConfig, TrainingConfig
from progan_service.training.presets import DEFAULT_PRESET

if TYPE_CHECKING:
    from progan_service.sources.initial import Initial

DESCRIPTION = """\
Train a Progressive GAN (Karras et al., ICLR 2018), or go on with a run.

Both networks begin with 4x4 images. Each resolution is trained until it is
stable. Then the next one fades in, up to the final one, which is trained to
the end of the run. Every tick prints a status line, draws an image grid and
saves a checkpoint. Amounts are in kimg: thousands of real images shown.

status line:
  kimg shown and total, resolution, weight alpha of a resolution that fades in.
  Means since the last line: loss of the discriminator (D), its gradient
  penalty, score of real minus score of generated images (distance, an estimate
  of the Wasserstein distance), loss of the generator (G). Then images/s and
  the share of time in which steps waited for input.

settings:
  The value of a setting comes from its option, else from the preset, else from
  its default, which is that of the paper where the paper has one. `progan
  presets` lists the presets; `progan presets NAME` prints all settings of one.
  A setting "by resolution" takes one value for all resolutions, such as 16, or
  a list, such as 4:32,16:16. A resolution without a value uses that of the
  next lower one.

run directory:
  config.json    all settings, and the dataset
  checkpoints/   the newest two, each with all that is needed to go on. If the
                 newest is damaged, the run warns and goes on from the other
  snapshots/     the averaged generator at earlier ticks, for export; all stay
  grids/         reals.png, and images of the same latents at each tick
  tensorboard/   losses, schedule, speed and grids: tensorboard --logdir DIR
  `progan runs`, `plot`, `timelapse`, `grid` and `walk` show what is there.

stopping and going on:
  SIGTERM, SIGHUP or Ctrl-C ends the current step, saves a checkpoint and exits
  with 75. `progan train --run DIR` goes on from the newest checkpoint: all
  else stands in config.json. --total-kimg, --tick-kimg, --snapshot-ticks and
  --metric-images may be given anew. Another setting that is given and differs
  would make another run; the command names it and refuses. --data names the
  place to which the dataset was moved; its content must be the same: it is
  compared before anything is trained, by the checksums of all images and by
  the labels. Each image is checked again whenever it is read, and a damaged
  one ends the run with its name.

beginning with trained weights:
  --init takes both networks of a run, or the generator of a version or a
  weights file, for new data, other labels or a higher resolution. Layers of
  other shapes, and a discriminator that is not there, begin with random
  weights, as the log says. Training begins at the resolution that is trained
  already (--initial-resolution). Prefer a run, or a version of `progan export
  --discriminator`: a discriminator that begins anew teaches a good generator
  nonsense at first.

a run that is ruined:
  Steps whose gradients are not finite are skipped. A tick in which nearly all
  steps were skipped saves nothing, and after three of them in a row the run
  ends with 78.

devices:
  All GPUs of the machine share each batch. To use several machines, run this
  command on each with its own TF_CONFIG (see tf.distribute) and the same
  --run; the first machine writes it. They wait ten minutes for each other; if
  one is missing or lost, the others end with 75. A batch must be a multiple of
  the number of devices times --mbstd-group-size. The result is that of one
  device, up to rounding."""

EXAMPLES = """\
examples:
  Train on two CPU cores, in about twenty minutes:
    progan dataset demo data/faces --resolution 32
    progan train --data data/faces --run runs/faces

  Go on with that run, and make it longer:
    progan train --run runs/faces --total-kimg 200

  Learn the labels, too: faces with and without glasses:
    progan train --data data/faces --run runs/glasses --labels

  Learn attributes, of which any number may hold together:
    progan dataset demo data/moods --resolution 32 --label glasses,smile
    progan train --data data/moods --run runs/moods --labels

  Train the paper's CelebA-HQ at 256x256 instead of 1024x1024:
    progan train --data data/celebahq --run runs/hq --preset celebahq-1024 \\
        --resolution 256

  Begin with the networks of another run, on other data:
    progan train --data data/cats --run runs/cats --preset cpu-64 \\
        --init runs/fruits

  Use your own preset, and change settings for this run:
    progan presets lsun-256 > mine.json
    progan train --data data/cats --run runs/cats --preset mine.json \\
        --batch-sizes 4:32,64:16 --seed 7

  Find out what the machine can do, without training:
    progan train --data data/cats --run runs/cats --preset mine.json --dry-run"""


def add_train(subparsers: Any) -> None:
    codes = "\n".join(
        f"  {code:<3} {meaning}" for code, meaning in exit_codes.MEANINGS.items() if code <= exit_codes.BAD_CONFIG
    )
    command = subparsers.add_parser(
        "train",
        help="train a model, or go on with a run",
        formatter_class=HelpPage,
        usage="%(prog)s --run DIR [--data DIR] [--preset P] [--SETTING VALUE ...]",
        description=DESCRIPTION,
        epilog=f"exit codes:\n{codes}\n\n{EXAMPLES}",
    )
    add_path(command, "--run", required=True, metavar="DIR", dest="run_directory", help="directory of the run")
    add_path(
        command,
        "--data",
        metavar="DIR",
        help="dataset made by `progan dataset` (default: that of the run, if it goes on)",
    )
    add_path(
        command,
        "--preset",
        type=str,
        metavar="PRESET",
        help=f"values of other settings: a name or a FILE.json (default: {DEFAULT_PRESET}, for a new run)",
    )
    add_path(
        command,
        "--init",
        type=str,
        default="",
        metavar="SOURCE",
        help="begin with the weights of a run, a version STORE/MODEL/VERSION or a weights file, not with random ones",
    )
    command.add_argument(
        "--on-tick",
        metavar="MODULE:FUNCTION",
        help="call a Python function of your own at each tick, for example to write to another logger: with the images "
        "shown, a dict of scalars, and the path of the image grid",
    )
    _add_switches(add_settings(command, NetworkConfig, TrainingConfig))
    command.set_defaults(
        run=lambda given: train(
            data=given.data,
            run=given.run_directory,
            preset=given.preset,
            init=given.init,
            settings=given_settings(given, NetworkConfig, TrainingConfig),
            labels=given.labels,
            auto_batch=given.auto_batch,
            deterministic=given.deterministic,
            dry_run=given.dry_run,
            on_tick=given.on_tick,
            tf_config=os.environ.get("TF_CONFIG"),
        )
    )


def _add_switches(groups: Mapping[str, argparse._ArgumentGroup]) -> None:
    """Add the options that are no settings: a preset cannot contain them."""
    groups["data"].add_argument(
        "--labels",
        action=argparse.BooleanOptionalAction,
        help="learn the classes or attributes of the dataset, too, for images by label (default: false)",
    )
    groups["computing"].add_argument(
        "--auto-batch",
        action=argparse.BooleanOptionalAction,
        help="compute a batch that does not fit into memory in parts; its size stays (default: false)",
    )
    groups["computing"].add_argument(
        "--deterministic",
        action=argparse.BooleanOptionalAction,
        help="give the same weights, bit for bit, in each run, resumed or not; slower (default: false)",
    )
    groups["computing"].add_argument("--dry-run", action="store_true", help="try every stage, print a table and stop")


def train(
    *,
    data: Path | None,
    run: Path,
    preset: str | None,
    init: str,
    settings: Mapping[str, Any],
    labels: bool | None,
    auto_batch: bool | None,
    deterministic: bool | None,
    dry_run: bool,
    on_tick: str | None,
    tf_config: str | None,
) -> int:
    """Train a new run, or go on with one, to its end or until a signal. What is None is as the run has it.

    init        the run, version or file whose weights the run begins with; "": those it began with, else random ones
    on_tick     MODULE:FUNCTION
    settings    values by the names of settings; they override those of the preset
    tf_config   the cluster and the place of this worker in it, in the JSON of tf.distribute
    """
    stopped: list[int] = []
    _note_signals(stopped)

    from progan_service.data.dataset import Dataset
    from progan_service.training.run.configuration import Given, config_of, data_of
    from progan_service.training.run.directory import begun_config, claim_run_directory, is_finished
    from progan_service.training.workers import Workers, meet

    told = None if on_tick is None else load_function("--on-tick", on_tick)
    before = begun_config(run)
    dataset = Dataset.open(data or data_of(run, before))
    initial = _initial(run, before, init, tf_config)
    given = Given(preset, settings, labels, auto_batch, deterministic, initial.config if initial else InitConfig())
    config = config_of(run, before, dataset, given)
    workers = Workers.from_json(tf_config) if tf_config else None
    if workers and config.setup.auto_batch:
        raise ConfigError("--auto-batch is for one worker: give batches that fit, as its dry run finds them")
    if workers and not dry_run and is_finished(run, config.training.total_kimg):
        say("nothing to do: all images were shown")  # and the others may have ended: nobody is left to meet
        return _ended(run, finished=True)
    import_tensorflow()
    from progan_service.training import devices, trainer

    chief = workers is None or workers.chief
    if chief and not dry_run:
        claim_run_directory(run, config)
    if config.setup.deterministic:
        devices.make_deterministic()
    if workers and not meet(workers, report=say, stopping=lambda: bool(stopped)):
        return _ended(run, finished=False)
    strategy = devices.choose_strategy(workers)
    _note_signals(stopped)  # again: TensorFlow has installed its own handlers
    shared: dict[str, Any] = {
        "auto_batch": config.setup.auto_batch,
        "strategy": strategy,
        "stopping": lambda: bool(stopped),
    }
    if dry_run:
        trainer.dry_run(config, dataset, report=say, **shared)
        return exit_codes.PREEMPTED if stopped else exit_codes.DONE
    with progress_bars(transient=True) as progress, devices.lost_workers(), _what_is_saved_named(run):
        finished = trainer.train(
            run,
            config,
            dataset,
            report=say if chief else lambda _: None,
            progress=lambda done, total: progress("training", done, total),
            initial=initial.arrays if initial else None,
            chief=chief,
            on_tick=told,
            **shared,
        )
    return _ended(run, finished)


def _initial(run: Path, begun: RunConfig | None, init: str, tf_config: str | None) -> "Initial | None":
    """Return the weights that a run begins with, None for random ones and for a run that goes on from a checkpoint.

    Before the first checkpoint, `init` may name the place to which the source was moved: the weights are compared.
    Raises ConfigError where the run began with others, and for several workers.
    """
    from progan_service.training.run.checkpoint import latest_checkpoint

    saved = latest_checkpoint(run / "checkpoints")
    if begun and init and init != begun.init.source and (saved or not begun.init.source):
        raise ConfigError(
            f"{run}: began with {begun.init.source or 'random weights'}, --init is {init}; leave it out to go on, or "
            "name a new run"
        )
    source = init or (begun.init.source if begun else "")
    if not source or saved:
        return None
    if begun and not init and not Path(source).exists():
        raise ConfigError(f"{run}: began with {source}, which is not there any more: give --init with its new place")
    if tf_config:
        # TensorFlow joins the workers before it makes its first tensor, and the weights are read with it.
        raise ConfigError(
            "--init is for one worker: begin the run with one; from its first checkpoint on, several go on"
        )
    import_tensorflow()
    from progan_service.sources.initial import load_initial

    initial = load_initial(source)
    if begun and initial.config.digest != begun.init.digest:
        now = " now" if source == begun.init.source else ""
        raise ConfigError(f"{source}: has other weights{now} than those that {run} began with; name a new run")
    return initial


@contextmanager
def _what_is_saved_named(run: Path) -> Iterator[None]:
    """Say in an error of a file, such as that of a full disk, from where the run goes on."""
    from progan_service.training.run.checkpoint import latest_checkpoint

    try:
        yield
    except FileError as error:
        saved = latest_checkpoint(run / "checkpoints")
        if saved is None:
            raise
        raise FileError(f"{error}; progan train --run {run} then goes on from {saved.name}, which is saved") from error


def _ended(run: Path, finished: bool) -> int:
    """Print how the training ended, and return the exit code."""
    if not finished:
        say(f"stopped by a signal; everything is saved, progan train --run {run} goes on")
        return exit_codes.PREEMPTED
    say(f"done: progan export {run} --store DIR --name NAME makes it servable")
    return exit_codes.DONE


def _note_signals(noted: list[int]) -> None:
    """Only note signals that would end the command from now on."""
    take_over(lambda number, _: noted.append(number))

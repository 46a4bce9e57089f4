"""The options of `progan train`, one for every setting of a run, and the manual page around them."""

import argparse
import shutil
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields
from functools import partial
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from progan_service.model.config import NetworkConfig
from progan_service.training.config import TrainingConfig

DESCRIPTION = """\
Train a Progressive GAN (Karras et al., ICLR 2018), or go on with a run.

Both networks begin with 4x4 images. Each resolution is trained until it is
stable, then the next one fades in, up to the final one, which is trained to
the end of the run. Every tick prints a status line, draws an image grid and
saves a checkpoint. Amounts are in kimg: thousands of real images shown.

status line:
  kimg shown and to be shown, resolution, weight alpha of a resolution that
  fades in; means since the line before: loss of the discriminator (D), its
  gradient penalty, score of real minus score of generated images (distance, an
  estimate of the Wasserstein distance), loss of the generator (G); images/s
  and the share of time that steps waited for their input.

settings:
  A setting has the value of its option; without one, that of the preset; and
  where the preset leaves it out, its default, which is the paper's where the
  paper has one and stands in parentheses below. `progan presets` lists the
  presets, `progan presets NAME` prints one with all settings.
  A setting "by resolution" takes one value for all of them, as in 16, or a
  list, as in 4:32,16:16; a resolution left out has the next lower one's value.

run directory:
  config.json    all settings, and the dataset
  checkpoints/   the newest two, each with everything that going on needs
  snapshots/     the averaged generator as it was, for export; all are kept
  grids/         reals.png, and images of the same latents tick after tick
  tensorboard/   losses, schedule and speed: tensorboard --logdir DIR

stopping and going on:
  SIGTERM or Ctrl-C saves a checkpoint after the step under way and ends with
  75. The same command goes on from the newest checkpoint. Only --total-kimg,
  --tick-kimg, --snapshot-ticks and --metric-images may differ then; anything
  else would be another run and is refused, naming the difference.

devices:
  All GPUs of the machine share each batch. Several machines do, when each runs
  this command with its own TF_CONFIG (as of tf.distribute) and all share one
  --run; the first one writes it. A batch must be a multiple of devices times
  mbstd_group_size; the result is that of one device, up to rounding."""

EXAMPLES = """\
examples:
  On two CPU cores, in about twenty minutes:
    progan dataset demo data/faces --resolution 32
    progan train --data data/faces --run runs/faces

  The same, learning what tells faces with glasses from those without:
    progan train --data data/faces --run runs/glasses --labels

  The paper's CelebA-HQ, at 256x256 instead of 1024x1024:
    progan train --data data/celebahq --run runs/hq --preset celebahq-1024 \\
        --resolution 256

  A preset of one's own, and one setting changed for this run:
    progan presets lsun-256 > mine.json
    progan train --data data/cats --run runs/cats --preset mine.json \\
        --batch-sizes 4:32,64:16 --seed 7

  What the machine can do, without training:
    progan train --data data/cats --run runs/cats --preset mine.json --dry-run"""

# Group -> its settings: the field of NetworkConfig or TrainingConfig, what its value is called, what it means. The
# option is the field's name with dashes; its type and its default are the field's.
SETTINGS: dict[str, list[tuple[str, str, str]]] = {
    "network": [
        ("resolution", "R", "of the final images, a power of two (the preset's, or else the dataset's)"),
        ("fmap_base", "N", "feature maps at resolution R: 2 N / R ..."),
        ("fmap_max", "N", "... but no more than this; also the size of the latents"),
        ("d_pool", "{pre_act,post_act}", "discriminator halves features before bias and activation, or after"),
        ("mbstd_group_size", "N", "images over which the minibatch standard deviation is taken"),
    ],
    "schedule": [
        ("total_kimg", "K", "length of the run, which may change when going on"),
        ("stable_kimg", "K", "at each resolution before the next one fades in"),
        ("fade_kimg", "K", "over which a resolution fades in"),
        ("batch_sizes", "N", "images a step, by resolution"),
    ],
    "optimisation": [
        ("learning_rates", "X", "of Adam, by resolution"),
        ("learning_rate_ramp_kimg", "K", "over which the learning rate rises from 0 at the start"),
        ("adam_beta2", "X", "of Adam; beta1 is 0"),
        ("ema_halflife_kimg", "K", "after which a weight counts half in the averaged generator"),
    ],
    "penalty": [
        ("gp_weight", "X", "of the gradient penalty"),
        ("gp_target", "X", "gradient norm that costs nothing"),
        ("gp_reference", "{canvas,native}", "norm with respect to the final resolution, or to the stage's"),
        ("drift_weight", "X", "of the squared scores of real images"),
    ],
    "data": [
        ("mirror", "", "show each real image mirrored half of the time"),
        ("seed", "S", "of weights, image order, mirroring and latents"),
    ],
    "computing": [
        ("precision", "{float32,bfloat16}", "of features; bfloat16 takes less time and memory, weights stay float32"),
        ("fused_kernels", "", "scale inside the convolutions: the same function, less arithmetic"),
    ],
    "output": [
        ("tick_kimg", "K", "between status lines, image grids and checkpoints, by resolution"),
        ("snapshot_ticks", "N", "between snapshots of the averaged generator; 0: none"),
        ("metric_images", "N", "images of which every tick computes SWD and MS-SSIM; 0: none"),
    ],
}


class ManualPage(argparse.RawDescriptionHelpFormatter):
    """Text as it was written, options under it, no line longer than 100 columns."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=min(shutil.get_terminal_size().columns - 2, 100))


def add_to(command: argparse.ArgumentParser, epilog: str) -> None:
    """Make `command` the parser of `progan train`: what is given becomes an argument named as its setting."""
    command.formatter_class = ManualPage
    command.usage = "%(prog)s --data DIR --run DIR [--preset PRESET] [--SETTING VALUE ...]"
    command.epilog = epilog
    command.add_argument("--data", type=Path, required=True, metavar="DIR", help="dataset of `progan dataset`")
    command.add_argument(
        "--run",
        type=Path,
        required=True,
        metavar="DIR",
        dest="run_directory",
        help="run directory, new or to go on with",
    )
    command.add_argument(
        "--preset",
        default="cpu-small",
        metavar="PRESET",
        help="where the other settings come from: a name, or a FILE.json (%(default)s)",
    )
    kinds = get_type_hints(NetworkConfig) | get_type_hints(TrainingConfig)
    fields_by_name = {field.name: field for config in (NetworkConfig, TrainingConfig) for field in fields(config)}
    groups = {}
    for title, settings in SETTINGS.items():
        groups[title] = group = command.add_argument_group(title)
        for name, value_name, meaning in settings:
            options = _takes(kinds[name], value_name)
            group.add_argument(_option(name), help=meaning + _default(fields_by_name[name]), **options)
    groups["data"].add_argument(
        "--labels",
        action=argparse.BooleanOptionalAction,
        help="learn the dataset's labels too, to ask for images by label (no)",
    )
    groups["computing"].add_argument(
        "--auto-batch",
        action="store_true",
        help="halve what is computed at once until it fits into memory; the batch stays",
    )
    groups["computing"].add_argument(
        "--deterministic",
        action="store_true",
        help="the same weights to the bit, run by run and however often it was resumed; slower",
    )
    groups["computing"].add_argument("--dry-run", action="store_true", help="try every stage, print the table and stop")


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")


def _takes(kind: Any, value_name: str) -> dict[str, Any]:
    """What add_argument needs to read a value of the field type `kind`; None stands for "not given"."""
    if kind is bool:
        return {"action": argparse.BooleanOptionalAction}
    if get_origin(kind) is Mapping:
        return {"type": partial(_by_resolution, _NUMBERS[get_args(kind)[1]]), "metavar": value_name}
    return {"type": _NUMBERS.get(kind, str), "metavar": value_name}


def _default(field: "Field[Any]") -> str:
    """The default of a field as it would be given, in parentheses; nothing where the field has none."""
    value = field.default_factory() if field.default_factory is not MISSING else field.default
    if value is MISSING:
        return ""
    if isinstance(value, bool):
        return " (yes)" if value else " (no)"
    if isinstance(value, Mapping):
        one_for_all = value.keys() == {4}
        return f" ({value[4]:g})" if one_for_all else f" ({','.join(f'{r}:{x:g}' for r, x in value.items())})"
    return f" ({value})"


def _whole_number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None


def _number(text: str) -> float:
    """12.0 becomes 12: a run must not tell them apart."""
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
    return int(value) if value.is_integer() else value


_NUMBERS = {int: _whole_number, float: _number}


def _by_resolution(number: Any, text: str) -> dict[int, Any]:
    """Parses "16" and "4:32,16:16" into values by resolution."""
    if ":" not in text:
        return {4: number(text)}
    pairs = [pair.split(":") for pair in text.split(",")]
    if any(len(pair) != 2 for pair in pairs):
        raise argparse.ArgumentTypeError(f"{text!r} is neither one value nor a list such as 4:32,16:16")
    table = {_whole_number(resolution): number(value) for resolution, value in pairs}
    if len(table) < len(pairs):
        raise argparse.ArgumentTypeError(f"{text!r} gives a resolution twice")
    return table

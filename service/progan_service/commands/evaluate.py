"""The command `progan evaluate`: measure a generator against its dataset."""

from pathlib import Path
from typing import Any

from progan_service import exit_codes
from progan_service.commands.terminal import progress_bars
from progan_service.errors import ConfigError
from progan_service.host.files import replaced
from progan_service.host.tensorflow import import_tensorflow
from progan_service.settings.manual import add_path


def add_evaluate(subparsers: Any) -> None:
    command = subparsers.add_parser(
        "evaluate",
        help="measure the quality of a generator",
        description="Print SWD and MS-SSIM of generated images. SWD is the sliced Wasserstein distance x 10^3 by "
        "pyramid level; lower is better. MS-SSIM is best when it is close to that of the real images. The row Reals2 "
        "compares real images with other real images: no generator can do better. Only results with the same --images "
        "are comparable. Temporary files in TMPDIR take up to 150 KB per image and level: 7.4 GB for 16384 images at "
        "64x64.",
    )
    add_path(command, "source", metavar="SOURCE", help="run directory of `progan train`, or STORE/MODEL/VERSION")
    add_path(command, "--data", required=True, metavar="DIR", help="dataset that the generator was trained on")
    command.add_argument(
        "--images",
        type=int,
        default=16384,
        metavar="N",
        help="number of images of each kind; the paper uses 16384 (default: %(default)s)",
    )
    command.add_argument(
        "--seed", type=int, default=0, metavar="S", help="seed of images and patches (default: %(default)s)"
    )
    add_path(command, "--json", metavar="FILE", help="also write the results as JSON")
    command.set_defaults(
        run=lambda given: evaluate(
            source=given.source, data=given.data, images=given.images, seed=given.seed, json_file=given.json
        )
    )


def evaluate(*, source: Path, data: Path, images: int, seed: int, json_file: Path | None) -> int:
    """Print the quality of a generator: that of a run, or of a version in a store."""
    from progan_service.data.dataset import Dataset

    if images < 2:
        raise ConfigError(f"--images is {images}: must be 2 or more")
    if not 0 <= seed < 2**31:
        raise ConfigError(f"--seed is {seed}: must be 0 or more, and below 2^31")
    dataset = Dataset.open(data)
    import_tensorflow()
    from progan_service.evaluation.measure import fake_inputs, measure_reals
    from progan_service.sources.fakes import Fakes

    fakes = Fakes.open(source)
    columns = 0 if dataset.labels is None else dataset.labels.shape[1]
    if fakes.label_size not in (0, columns):
        raise ConfigError(f"{dataset.directory}: has {columns} labels, {source} needs {fakes.label_size}")
    latents, labels = fake_inputs(dataset, fakes.latent_size, fakes.label_size, count=images, seed=seed)
    with (
        progress_bars(transient=True) as progress,
        measure_reals(
            dataset, fakes.resolution, image_count=images, seed=seed, mirror=fakes.mirror, progress=progress
        ) as reals,
    ):
        evaluation = reals.evaluate(fakes.draw(latents, labels), progress=progress)
    print(evaluation.table())
    if json_file:
        with replaced(json_file) as partial:
            partial.write_text(evaluation.to_json())
    return exit_codes.DONE

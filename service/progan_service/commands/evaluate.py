"""The command `progan evaluate`: measure generators against their dataset."""

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from progan_service import exit_codes
from progan_service.commands.terminal import progress_bars
from progan_service.errors import ConfigError
from progan_service.host.files import replaced, temporary_directory
from progan_service.host.tensorflow import import_tensorflow
from progan_service.names import escaped
from progan_service.progress import Progress
from progan_service.settings.manual import add_path

if TYPE_CHECKING:
    from progan_service.data.dataset import Dataset
    from progan_service.sources.extractor import Extractor
    from progan_service.sources.fakes import Fakes
    from progan_service.sources.measuring import Result


def add_evaluate(subparsers: Any) -> None:
    command = subparsers.add_parser(
        "evaluate",
        help="measure the quality of generators",
        description="Print SWD and MS-SSIM of generated images. SWD is the sliced Wasserstein distance x 10^3 by "
        "pyramid level; lower is better. MS-SSIM is best when it is close to that of the real images. The row Reals2 "
        "compares real images with other real images: no generator can do better. Only results with the same --images "
        "are comparable. Temporary files in TMPDIR take up to 150 KB per image and level: 7.4 GB for 16384 images at "
        "64x64. With --features, print FID, KID, precision and recall as well: docs/evaluation.md says how they are "
        "computed.",
    )
    add_path(
        command,
        "sources",
        nargs="+",
        metavar="SOURCE",
        help="run directory of `progan train`; STORE/MODEL/VERSION; snapshot or other weights file (.safetensors, "
        ".npz); NVIDIA's pickle (.pkl); or PyTorch's checkpoint (.pth, .pt). Several are printed as one table",
    )
    add_path(command, "--data", required=True, metavar="DIR", help="dataset that the generators were trained on")
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
    add_path(
        command,
        "--features",
        type=str,
        metavar="MODULE",
        help="network whose features FID, KID, precision and recall compare: SavedModel directory, .tar.gz or TF Hub "
        "handle; for the usual FID https://tfhub.dev/tensorflow/tfgan/eval/inception/1. It takes images float32 [N, H, "
        "W, 3], of 299x299 pixels if its signature says no size, and gives [N, F]. It is a program: load those you "
        "trust",
    )
    command.add_argument(
        "--feature-range",
        choices=("signed", "unit", "byte"),
        default="signed",
        help="range of the images that --features takes: `signed`, -1..1, as TF-GAN's inception; `unit`, 0..1, as most "
        "of TF Hub; `byte`, 0..255 (default: %(default)s)",
    )
    add_path(
        command,
        "--json",
        metavar="FILE",
        help="also write the results as JSON, with the digests of sources and data, and the settings",
    )
    command.set_defaults(
        run=lambda given: evaluate(
            sources=given.sources,
            data=given.data,
            images=given.images,
            seed=given.seed,
            features=given.features,
            feature_range=given.feature_range,
            json_file=given.json,
        )
    )


def evaluate(
    *,
    sources: Sequence[Path],
    data: Path,
    images: int,
    seed: int,
    features: str | None,
    feature_range: str,
    json_file: Path | None,
) -> int:
    """Print the quality of generators, each beside the noise floor of the real images of its size."""
    from progan_service.data.dataset import Dataset

    if images < 2:
        raise ConfigError(f"--images is {images}: must be 2 or more")
    if not 0 <= seed < 2**31:
        raise ConfigError(f"--seed is {seed}: must be 0 or more, and below 2^31")
    dataset = Dataset.open(data)
    import_tensorflow()
    from progan_service.sources.measuring import measure

    fakes = {source: _opened(source, dataset) for source in sources}
    with progress_bars(transient=True) as progress, _extractor(features, feature_range, progress) as extractor:
        _note_repetition(dataset, images)
        results = measure(dataset, fakes, image_count=images, seed=seed, extract=extractor, progress=progress)
    print(_table(results, images))
    if json_file:
        with replaced(json_file) as partial:
            partial.write_text(_json(results, dataset, images, seed, extractor))
    return exit_codes.DONE


@contextmanager
def _extractor(features: str | None, feature_range: str, progress: Progress) -> "Iterator[Extractor | None]":
    """Yield the network of --features, None without one."""
    if features is None:
        yield None
        return
    from progan_service.sources.extractor import open_extractor

    with temporary_directory() as staging:
        yield open_extractor(features, staging, value_range=feature_range, progress=progress)


def _note_repetition(dataset: "Dataset", images: int) -> None:
    if images > dataset.count:
        note = (
            f"--images is {images}, and {escaped(str(dataset.directory))} has {dataset.count}: each is taken up to "
            f"{-(-images // dataset.count)} times, and the noise floor compares them with themselves"
        )
        print(f"progan: note: {note}", file=sys.stderr)


def _opened(source: Path, dataset: "Dataset") -> "Fakes":
    from progan_service.sources.fakes import Fakes

    fakes = Fakes.open(source)
    columns = 0 if dataset.labels is None else dataset.labels.shape[1]
    if fakes.label_size not in (0, columns):
        raise ConfigError(f"{dataset.directory}: has {columns} labels, {source} needs {fakes.label_size}")
    dataset.level(fakes.resolution)  # raises where it has none: before hours of work
    return fakes


def _table(results: Sequence["Result"], images: int) -> str:
    """Return a row for each source, below that of the real images that it is measured against."""
    from progan_service.evaluation.report import NOISE_FLOOR
    from progan_service.evaluation.table import table

    kinds = dict.fromkeys(result.kind for result in results)
    rows = []
    for kind in kinds:
        of_kind = [result for result in results if result.kind == kind]
        rows.append((f"{kind} {NOISE_FLOOR}" if len(kinds) > 1 else NOISE_FLOOR, of_kind[0].noise_floor))
        rows += [(escaped(str(result.source)), result.figures) for result in of_kind]
    return table(f"{images} images", rows)


def _json(
    results: Sequence["Result"], dataset: "Dataset", images: int, seed: int, extractor: "Extractor | None"
) -> str:
    from progan_service import __version__

    resolutions = sorted({result.fakes.resolution for result in results})
    document = {
        "progan": __version__,
        "data": {
            "name": dataset.name,
            "images": dataset.count,
            "digests": {f"{size}x{size}": f"sha256:{dataset.levels[size].digest}" for size in resolutions},
        },
        "settings": {"images": images, "seed": seed, **({"features": _about(extractor)} if extractor else {})},
        "results": [
            {
                "source": str(result.source),
                "digest": result.fakes.digest,
                "resolution": result.fakes.resolution,
                "mirror": result.fakes.mirror,
                "reals2": result.noise_floor,
                "fakes": result.figures,
            }
            for result in results
        ],
    }
    return json.dumps(document, indent=2) + "\n"


def _about(extractor: "Extractor") -> dict[str, Any]:
    """Return what the figures of features depend on."""
    from progan_service.evaluation.features import KID_BLOCK, NEIGHBOURS

    return {
        "module": extractor.origin,
        "digest": f"sha256:{extractor.sha256}",
        "size": extractor.size,
        "range": extractor.value_range,
        "kid_block": KID_BLOCK,
        "neighbours": NEIGHBOURS,
    }

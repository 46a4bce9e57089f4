"""TODO"""

import argparse
from typing import TYPE_CHECKING

from progan_service import exit_codes
from progan_service.errors import ConfigError
from progan_service.host.files import replaced
from progan_service.host.tensorflow import import_tensorflow

if TYPE_CHECKING:
    pass
from progan_service.commands.terminal import progress_bars


def evaluate(arguments: argparse.Namespace) -> int:
    from progan_service.data.dataset import Dataset

    count, seed = arguments.images, arguments.seed
    if count < 2:
        raise ConfigError(f"images is {count}: must be 2 or more")
    if not 0 <= seed < 2**31:
        raise ConfigError(f"seed is {seed}: must be 0 or more, and below 2^31")
    dataset = Dataset.open(arguments.data)
    import_tensorflow()
    from progan_service.evaluation.measure import fake_inputs, measure_reals
    from progan_service.sources.fakes import Fakes

    fakes = Fakes.open(arguments.source)
    columns = 0 if dataset.labels is None else dataset.labels.shape[1]
    if fakes.label_size not in (0, columns):
        raise ConfigError(f"{dataset.directory}: has {columns} labels, {arguments.source} needs {fakes.label_size}")
    latents, labels = fake_inputs(dataset, fakes.latent_size, fakes.label_size, count=count, seed=seed)
    with (
        progress_bars(transient=True) as progress,
        measure_reals(
            dataset, fakes.resolution, image_count=count, seed=seed, mirror=fakes.mirror, progress=progress
        ) as reals,
    ):
        evaluation = reals.evaluate(fakes.draw(latents, labels), progress=progress)
    print(evaluation.table())
    if arguments.json:
        with replaced(arguments.json) as partial:
            partial.write_text(evaluation.to_json())
    return exit_codes.DONE

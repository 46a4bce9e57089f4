"""What the `progan` commands do; each takes the parsed arguments and gives the exit code.

They import what they need when they run: no command pays for TensorFlow that does without it.
"""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from progan_service import exit_codes
from progan_service.errors import ConfigError
from progan_service.host.files import temporary_directory
from progan_service.host.tensorflow import import_tensorflow

if TYPE_CHECKING:
    from progan_service.export.exportable import Exportable
    from progan_service.export.trained import TrainedGenerator
from progan_service.commands.terminal import progress_bars


def export(arguments: argparse.Namespace) -> int:
    from progan_service.store.store import ModelStore, check_model_name

    check_model_name(arguments.name)
    if arguments.store.exists():
        ModelStore(arguments.store)
    import_tensorflow()
    from progan_service.export.exportable import Exportable
    from progan_service.export.version import export_version

    with _opened_source(arguments) as source:
        exportable = source if isinstance(source, Exportable) else Exportable.of(source)
        arguments.store.mkdir(parents=True, exist_ok=True)
        store = ModelStore(arguments.store)
        version = export_version(exportable, store, arguments.name)
    metadata = store.metadata(arguments.name, version)
    size = f"{metadata.resolution}x{metadata.resolution}"
    print(f"{store.path(arguments.name, version)}: {arguments.name} version {version}, {size}, from {metadata.source}")
    for about in ("form", "reason", "sha256"):
        if metadata.provenance.get(about):
            print(f"  {about}: {metadata.provenance[about]}")
    if metadata.license:
        print(f"  license: {metadata.license.splitlines()[0]}")
    for signature, algorithms in metadata.algorithms.items():
        print(f"  {signature}: {'; '.join(f'{layer} {algorithm}' for layer, algorithm in algorithms.items())}")
    return exit_codes.DONE


def weights(arguments: argparse.Namespace) -> int:
    if arguments.out.exists():
        raise ConfigError(f"{arguments.out}: already exists: give the name of a new file")
    import_tensorflow()
    from progan_service.export.trained import TrainedGenerator
    from progan_service.export.weights_file import check_weights_name, save_weights

    check_weights_name(arguments.out)
    with _opened_source(arguments) as source:
        if not isinstance(source, TrainedGenerator):
            reason = source.provenance.get("reason")
            raise ConfigError(f"{arguments.source}: its weights are not those of a generator of ours: {reason}")
        save_weights(source, arguments.out)
    print(f"{arguments.out}: weights of {arguments.source}, {source.resolution}x{source.resolution}")
    return exit_codes.DONE


@contextmanager
def _opened_source(arguments: argparse.Namespace) -> "Iterator[TrainedGenerator | Exportable]":
    from progan_service.sources.source import open_source

    with temporary_directory() as staging, progress_bars(transient=True) as progress:

        def in_megabytes(stage: str, done: int, total: int) -> None:
            progress(f"{stage}, MB", done // 10**6, total // 10**6)

        yield open_source(arguments.source, staging, sha256=arguments.sha256, progress=in_megabytes)

"""`progan export`: versions in a store, which of them serve, and what is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from progan_command import refusal

from progan_service.export.trained import TrainedGenerator
from progan_service.export.weights_file import save_weights
from progan_service.label_kind import LabelKind
from progan_service.model.config import NetworkConfig
from progan_service.model.networks import Generator
from progan_service.store.rollout import Rollout
from progan_service.store.store import ModelStore

Progan = Callable[..., Any]  # see tests/service/conftest.py


def test_export_publishes_version_after_version(progan: Progan, finished_run: Path, tmp_path: Path) -> None:
    store = tmp_path / "new" / "store"
    for version in (1, 2):
        ended = progan("export", finished_run, "--store", store, "--name", "faces")
        told = f"{store}/faces/{version}: faces version {version}, 8x8, from progan train, 0.2 kimg\n"
        assert (ended.code, ended.out) == (0, told)
    metadata = ModelStore(store).verify("faces", 2)
    assert metadata.provenance["images_shown"] == 224
    assert metadata.provenance["training"]["batch_sizes"] == {"4": 8}


def test_export_beside_what_serves(progan: Progan, finished_run: Path, tmp_path: Path) -> None:
    """The newest version takes over unless it is told not to. Who exports a 4x4 picture of early training is warned."""
    store, early = tmp_path / "store", finished_run / "snapshots" / "images-000000032.safetensors"
    into = ("--store", store, "--name", "faces")
    assert progan("export", finished_run, *into).code == 0
    beside = progan("export", early, *into, "--no-serve", "--version-label", "early")
    assert (beside.code, beside.err) == (0, "")
    assert beside.out.splitlines()[1:] == [
        "  label: early",
        f"  version 1 is pinned and goes on serving; to let this one serve: progan models pin faces 2 --store {store}",
    ]
    assert ModelStore(store).rollout("faces") == Rollout(pinned=1, labels={"early": 2})
    assert ModelStore(store).serving("faces") == 1

    assert progan("models", "pin", "faces", "latest", "--store", store).code == 0
    labelled = progan("export", finished_run, *into, "--version-label", "early")
    assert ModelStore(store).rollout("faces") == Rollout(labels={"early": 3})
    assert labelled.err == (
        "progan: warning: faces version 3 takes over from version 2 and differs from it: images 8x8x3, not 4x4x3. "
        f"To go back: progan models pin faces 2 --store {store}\n"
    )


def test_export_warns_when_attributes_take_the_place_of_classes(progan: Progan, tmp_path: Path) -> None:
    network, names = NetworkConfig(resolution=4, label_size=2, fmap_base=8, fmap_max=4), ("glasses", "smile")
    kinds: tuple[LabelKind, LabelKind] = ("classes", "attributes")
    for kind in kinds:
        trained = TrainedGenerator(Generator(network), 4, 1.0, names, {"source": "test"}, label_kind=kind)
        save_weights(trained, tmp_path / f"{kind}.npz")
        ended = progan("export", tmp_path / f"{kind}.npz", "--store", tmp_path / "store", "--name", "faces")
        assert ended.code == 0
    assert "differs from it: labels 2 attributes, not 2 classes. To go back: " in ended.err


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--no-serve",), "{store}: model 'faces' has no good version yet that could go on serving"),
        (
            ("--version-label", "Early"),
            "label is 'Early': must be 1 to 63 small letters, digits, dashes or underscores, beginning with a letter",
        ),
        (("--version-label", "latest"), "label is 'latest': must be none of latest, pinned, serves"),
    ],
)
def test_export_refuses_what_cannot_be_before_it_reads(
    progan: Progan, tmp_path: Path, options: tuple[str, ...], sentence: str
) -> None:
    store = tmp_path / "store"
    ended = progan("export", tmp_path / "none", "--store", store, "--name", "faces", *options)
    assert ended == refusal(sentence.format(store=store))
    assert not store.exists()


def test_export_refuses_a_bad_name_before_anything_else(progan: Progan, tmp_path: Path) -> None:
    ended = progan("export", tmp_path / "none", "--store", tmp_path / "store", "--name", "my faces")
    assert ended == refusal(
        "model name is 'my faces': must be 1 to 63 letters, digits, dots, dashes or underscores, "
        "beginning with a letter or digit, and not default.json"
    )


def test_export_refuses_what_is_no_source(progan: Progan, tmp_path: Path) -> None:
    ended = progan("export", tmp_path / "none", "--store", tmp_path / "store", "--name", "faces")
    assert ended == refusal(
        f"{tmp_path}/none: no such file or directory; a source is a run directory, a .safetensors or .npz of weights, "
        "an NVIDIA .pkl, a PyTorch .pth or .pt, or a TF Hub module by its handle, .tar.gz or directory"
    )
    assert not (tmp_path / "store").exists()


def test_export_names_a_damaged_checkpoint(progan: Progan, copied_run: Path, tmp_path: Path) -> None:
    newest = copied_run / "checkpoints" / "images-000000224.npz"
    newest.write_bytes(b"PK")
    ended = progan("export", copied_run, "--store", tmp_path / "store", "--name", "faces")
    assert (ended.code, ended.out) == (78, "")
    assert ended.err.startswith(f"progan: {newest}: not a readable checkpoint (")


def test_export_fails_when_the_store_is_a_file(progan: Progan, finished_run: Path, tmp_path: Path) -> None:
    (tmp_path / "store").write_text("")
    ended = progan("export", finished_run, "--store", tmp_path / "store", "--name", "faces")
    assert ended == (78, "", f"progan: {tmp_path}/store: is not a directory; a model store is a directory of models\n")

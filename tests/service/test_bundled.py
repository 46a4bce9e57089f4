"""The bundled models, released versions: they have to load for ever and to keep their pictures."""

import io
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray
from PIL import Image
from tensor_cores import BFLOAT16_BITS, TF32, TF32_BITS, TF32_PSNR_DB, cut

from progan_client import Client
from progan_service.evaluation.psnr import psnr_db
from progan_service.evaluation.thumbnails import thumbnails
from progan_service.latents.seeds import latents_from_seeds
from progan_service.serving.config import ServerConfig
from progan_service.serving.models.servable import Servable
from progan_service.serving.models.warm_up import check_golden
from progan_service.serving.server import Server
from progan_service.store.bundled import BUNDLED_STORE
from progan_service.store.metadata import GRADIENT_SIGNATURE, UINT8_SIGNATURE, ModelMetadata
from progan_service.store.store import ModelStore

STORE = ModelStore(BUNDLED_STORE)
VERSIONS = {"faces": 5, "fruits": 6}
DIRECTIONS = {
    "faces": ["glasses", "long-hair", "dark-skin"],
    "fruits": ["size", "brightness", "redness", "aspect"],
}


@pytest.fixture(params=VERSIONS)
def model(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def directory(model: str) -> Path:
    return STORE.path(model, VERSIONS[model])


@pytest.fixture
def metadata(model: str) -> ModelMetadata:
    return STORE.verify(model, VERSIONS[model])


def test_each_model_has_one_version_and_fruits_is_the_default() -> None:
    assert {model: STORE.versions(model) for model in STORE.models()} == {"faces": [5], "fruits": [6]}
    assert STORE.default().model == "fruits"


@pytest.mark.golden
def test_it_shows_its_golden_pictures_again(directory: Path, metadata: ModelMetadata) -> None:
    assert list(metadata.golden) == ["0", "1", "2", "3"]
    servable = Servable(directory, metadata, "GPU:0" if tf.config.list_logical_devices("GPU") else "")
    if TF32:
        assert psnr_db(servable.from_seeds(np.arange(4, dtype=np.uint64)), golden(directory)) > TF32_PSNR_DB
    else:
        check_golden(servable, directory)


def test_tf32_comes_near_enough_to_the_golden_pictures_and_bfloat16_does_not(
    directory: Path, metadata: ModelMetadata
) -> None:
    version = tf.saved_model.load(directory)
    generate = version.signatures[UINT8_SIGNATURE]
    latents = latents_from_seeds(np.arange(4, dtype=np.uint64), metadata.latent_size)
    tf32, bfloat16 = (cut(generate, bits)(latents)[0] for bits in (TF32_BITS, BFLOAT16_BITS))
    assert psnr_db(tf32, golden(directory)) > TF32_PSNR_DB > psnr_db(bfloat16, golden(directory))


def golden(directory: Path) -> NDArray[np.uint8]:
    return np.stack([np.asarray(Image.open(directory / "golden" / f"seed-{seed}.png")) for seed in range(4)])


def test_it_stays_small(directory: Path) -> None:
    files = [file for file in directory.rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) < 12 * 2**20


def test_its_card_says_where_it_comes_from(directory: Path, model: str, metadata: ModelMetadata) -> None:
    assert metadata.provenance["source"] == "progan train"
    assert metadata.provenance["dataset"]["name"].startswith(model)
    assert metadata.digest in (directory.parent / "README.md").read_text()
    assert (directory.parent / "samples.png").is_file()


def test_it_can_be_edited_and_inverted(model: str, metadata: ModelMetadata) -> None:
    directions = STORE.directions(model, VERSIONS[model])
    assert list(directions) == DIRECTIONS[model]
    assert all((direction.r or 0) >= 0.7 for direction in directions.values())
    assert all((direction.monotone or 0) >= 0.9 for direction in directions.values())
    assert GRADIENT_SIGNATURE in metadata.signatures


def test_a_smooth_walk_at_an_even_pace_makes_no_jolt(
    run_server: Callable[[ServerConfig], AbstractContextManager[Server]],
) -> None:
    """Its largest step is less than 3 times the smallest. On great circles, at a uniform pace, it is 17 times."""
    walk = {"seeds": range(6), "frames_between": 23, "loop": True, "path": "smooth", "pace": "even"}
    config = ServerConfig(BUNDLED_STORE, port=0, http_port=0, lame_duck_s=0)
    with run_server(config) as server, Client(f"127.0.0.1:{server.port}") as client:
        frames = thumbnails(np.stack([frame.pixels for frame in client.interpolate(**walk)]))  # type: ignore[misc]
    steps = np.roll(frames, -1, axis=0) - frames
    sizes = np.sqrt((steps**2).mean(axis=1))
    assert sizes.max() / sizes.min() < 3
    accelerations = np.sqrt(((steps - np.roll(steps, 1, axis=0)) ** 2).mean(axis=1))
    assert accelerations.max() < 3 * accelerations.mean()  # 5.9 on great circles


def test_pictures_of_fruits_have_the_licence_of_the_photographs(
    run_server: Callable[[ServerConfig], AbstractContextManager[Server]],
) -> None:
    licence = STORE.metadata("fruits", 6).license
    assert licence.startswith("MIT License\n\nCopyright (c) 2017 Mihai Oltean, Horea Muresan\n")
    config = ServerConfig(BUNDLED_STORE, port=0, http_port=0, lame_duck_s=0)
    with run_server(config) as server, Client(f"127.0.0.1:{server.port}") as client:
        (file,) = client.generate(seeds=[1], encoding="png").files
        version = client.model("fruits").version()
    with Image.open(io.BytesIO(file)) as picture:
        assert picture.text["License"] == licence  # type: ignore[attr-defined]
    assert version.license == licence

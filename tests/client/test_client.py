"""Client against a real server with the tiny model: latent size 16, 8 x 8 RGB, version 1."""

from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest

from progan_client import (
    ArgumentError,
    Client,
    ClientClosedError,
    DeadlineExceededError,
    InvalidArgumentError,
    NotFoundError,
    ProganError,
    UnavailableError,
)


@pytest.fixture
def client(server_target: str) -> Iterator[Client]:
    with Client(server_target) as client:
        yield client


def test_images_of_seeds(client: Client) -> None:
    images = client.generate(seeds=[1, 2, 3])
    assert images.shape == images.pixels.shape == (3, 8, 8, 3)
    assert images.pixels.dtype == np.uint8
    assert images.latents.shape == (3, 16)
    assert images.latents.dtype == np.float32
    assert images.seeds == (1, 2, 3)
    assert (images.model.name, images.model.version) == ("tiny", 1)
    assert images.model.digest.startswith("sha256:")
    assert images.times.inference_s > 0
    assert len({image.tobytes() for image in images}) == 3


def test_the_latents_of_a_reply_give_the_same_images(client: Client) -> None:
    images = client.generate(seeds=[1, 2])
    again = client.generate(latents=images.latents)
    assert np.array_equal(again.pixels, images.pixels)
    assert again.seeds is None


def test_a_count_means_seeds_in_a_row(client: Client) -> None:
    counted = client.generate(count=3, seed=2**64 - 1)
    assert counted.seeds == (2**64 - 1, 0, 1)
    assert np.array_equal(counted.pixels, client.generate(seeds=[2**64 - 1, 0, 1]).pixels)


def test_a_random_seed_is_in_the_reply(client: Client) -> None:
    images = client.generate(count=2)
    assert images.seeds is not None
    assert np.array_equal(client.generate(seeds=images.seeds).pixels, images.pixels)
    assert client.generate(count=2).seeds != images.seeds


def test_png_and_lossless_pixels_are_the_same(client: Client) -> None:
    encoded = client.generate(seed=7, encoding="png")
    assert encoded.raw is None
    assert encoded.files[0].startswith(b"\x89PNG")
    assert np.array_equal(encoded.pixels, client.generate(seed=7).pixels)


@pytest.mark.parametrize(("encoding", "start"), [("jpeg", b"\xff\xd8"), ("webp", b"RIFF")])
def test_small_encodings(client: Client, encoding: str, start: bytes) -> None:
    images = client.generate(count=2, seed=7, encoding=encoding, quality=80)  # type: ignore[arg-type]
    assert [file.startswith(start) for file in images.files] == [True, True]
    assert images.pixels.shape == (2, 8, 8, 3)


def test_a_png_is_the_same_bytes_at_every_call(client: Client, tmp_path: Path) -> None:
    for name in ("first.png", "second.png"):
        client.generate(seed=1337).save(tmp_path / name)
    assert (tmp_path / "first.png").read_bytes() == (tmp_path / "second.png").read_bytes()


def test_a_stream_gives_the_same_images_in_order(client: Client) -> None:
    parts = list(client.stream(count=20, seed=5))
    whole = client.generate(count=20, seed=5)
    assert np.array_equal(np.concatenate([part.pixels for part in parts]), whole.pixels)
    assert tuple(seed for part in parts for seed in part.seeds or ()) == tuple(range(5, 25))


def test_a_walk_begins_and_ends_at_its_key_frames(client: Client) -> None:
    frames = list(client.interpolate(seeds=[1, 2, 3], frames_between=4))
    keys = client.generate(seeds=[1, 2, 3])
    assert [frame.index for frame in frames] == list(range(3 + 2 * 4))
    for key, frame in zip(range(3), frames[::5], strict=True):
        assert np.array_equal(frame.latent, keys.latents[key])
        assert np.array_equal(frame.pixels, keys.pixels[key])


def test_a_loop_does_not_repeat_its_first_frame(client: Client) -> None:
    frames = list(client.interpolate(seeds=[1, 2], frames_between=3, path="linear", loop=True))
    assert len(frames) == 2 * (3 + 1)
    assert np.allclose(frames[2].latent, (frames[0].latent + frames[4].latent) / 2, atol=1e-6)


def test_models_are_listed(client: Client) -> None:
    (model,) = [model for model in client.models() if model.name == "tiny"]
    assert model == client.model("tiny")
    version = model.versions[0]
    assert (version.version, version.state, version.error) == (1, "ready", "")
    assert (version.latent_size, version.resolution, version.channels, version.label_count) == (16, 8, 3, 0)
    assert version.digest == client.generate(seed=1, model="tiny", version=1).model.digest


def test_health(client: Client) -> None:
    client.wait_until_ready(timeout_s=60)
    assert client.health() == "SERVING"
    assert client.health("tiny") == "SERVING"
    assert client.health("nonesuch") == "SERVICE_UNKNOWN"


def test_an_unknown_model_is_not_found(client: Client) -> None:
    for call in (
        lambda: client.generate(seed=1, model="nonesuch"),
        lambda: client.generate(seed=1, model="tiny", version=99),
        lambda: client.model("nonesuch"),
        lambda: next(client.stream(count=1, model="nonesuch")),
        lambda: next(client.interpolate(seeds=[1, 2], model="nonesuch")),
    ):
        with pytest.raises(NotFoundError) as caught:
            call()
        assert caught.value.code is grpc.StatusCode.NOT_FOUND
        assert caught.value.reason


def test_a_wrong_latent_length_is_refused_by_the_service(client: Client) -> None:
    with pytest.raises(InvalidArgumentError, match="16") as caught:
        client.generate(latents=np.ones((2, 17)))
    assert caught.value.field_violations[0].field.startswith("latents")


def test_too_many_images_for_one_reply_name_the_way_out(client: Client) -> None:
    with pytest.raises(
        InvalidArgumentError, match=r"the call asks for 1000000 images; one call gives at most \d+, use client\.stream"
    ):
        client.generate(count=1_000_000, seed=1)


def test_labels_are_refused_by_a_model_without(client: Client) -> None:
    with pytest.raises(ProganError, match="label"):
        client.generate(seed=1, labels=[1.0, 0.0])


def test_wrong_arguments_are_found_before_anything_is_sent() -> None:
    with Client("127.0.0.1:1") as unreachable:  # a call would raise UnavailableError
        with pytest.raises(ArgumentError, match="give exactly one"):
            unreachable.generate()
        with pytest.raises(ArgumentError, match="count: must be 1 to"):
            unreachable.stream(count=0)
        with pytest.raises(ArgumentError, match="seeds: must be two or more; got 1"):
            unreachable.interpolate(seeds=[1])


def test_an_unreachable_service() -> None:
    with Client("127.0.0.1:1") as unreachable:
        with pytest.raises(UnavailableError, match=r"no ready ProGAN service at 127\.0\.0\.1:1: connection refused"):
            unreachable.generate(seed=1)
        with pytest.raises(DeadlineExceededError, match=r"no ready ProGAN service at 127\.0\.0\.1:1 within 0\.2 s"):
            unreachable.wait_until_ready(timeout_s=0.2)


def test_a_closed_client_says_so(server_target: str) -> None:
    client = Client(server_target)
    client.close()
    for call in (
        lambda: client.generate(seed=1),
        lambda: next(client.stream(count=1)),
        client.health,
    ):
        with pytest.raises(ClientClosedError, match="is closed; create a new one"):
            call()

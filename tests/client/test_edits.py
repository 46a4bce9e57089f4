"""Edits, smooth and even walks, from Python and from the command line, against the tiny model with two directions."""

import io
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageColor

from progan_client import ArgumentError, AsyncClient, Client, Direction, InvalidArgumentError, requests
from progan_client.command import main
from progan_service.latents.seeds import latents_from_seeds, seed_range
from progan_service.serving.config import BatchingConfig, ServerConfig
from progan_service.serving.server import Server
from progan_service.store.directions import Direction as Stored
from progan_service.store.store import ModelStore

SIZE = Stored("size", tuple(np.eye(16)[0].tolist()), "fitted", 2000, r=0.78, monotone=0.9, shift_sd=0.72)
RED = Stored("red", tuple(np.eye(16)[1].tolist()), "discovered", 4096)

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def target(
    tiny_store: Path,
    tmp_path_factory: pytest.TempPathFactory,
    run_server: Callable[[ServerConfig], AbstractContextManager[Server]],
    one_size: BatchingConfig,
) -> Iterator[str]:
    root = Path(shutil.copytree(tiny_store, tmp_path_factory.mktemp("edits") / "store"))
    ModelStore(root).publish_directions("tiny", 1, [SIZE, RED])
    with run_server(ServerConfig(root, port=0, http_port=0, lame_duck_s=0, batching=one_size)) as server:
        yield f"127.0.0.1:{server.port}"


@pytest.fixture
def client(target: str) -> Iterator[Client]:
    with Client(target) as client:
        yield client


@pytest.fixture
def run(target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PROGAN_TARGET", target)

    def run(*arguments: str) -> tuple[int, str, str]:
        return (main.main(arguments), *capsys.readouterr())

    return run


# Python


def test_an_edit_moves_by_standard_deviations_and_its_opposite_moves_back(client: Client) -> None:
    (latent,) = latents_from_seeds(seed_range(5, 1), 16)
    deviation = np.linalg.norm(latent) / 4
    moved = client.generate(seeds=[5], edits={"size": 1}, hold=["red"])
    assert moved.seeds == (5,)
    assert moved.latents[0, 0] == pytest.approx(latent[0] + deviation, rel=1e-5)
    back = client.generate(latents=moved.latents, edits={"size": -1}, hold=["red"])
    np.testing.assert_allclose(back.latents[0], latent, atol=1e-5)
    assert client.generate(seeds=[5, 6], sets={"size": 0.5, "red": 0}).latents[0, :2].tolist() == pytest.approx(
        [deviation / 2, 0], abs=1e-6
    )


def test_streams_and_walks_are_edited_too(client: Client) -> None:
    (part,) = client.stream(seeds=[5], edits={"size": 1})
    assert part.latents.tobytes() == client.generate(seeds=[5], edits={"size": 1}).latents.tobytes()
    walk = client.interpolate(seeds=[5, 6], frames_between=1, path="smooth", edits={"size": 1})
    assert next(walk).latent.tobytes() == part.latents.tobytes()


def test_an_even_walk_has_as_many_frames_and_smaller_jumps(client: Client) -> None:
    def largest_share(**arguments: Any) -> float:
        frames = list(client.interpolate(seeds=[1, 2, 3], frames_between=7, loop=True, path="smooth", **arguments))
        assert [frame.index for frame in frames] == list(range(24))
        pixels = np.stack([frame.pixels for frame in frames]).astype(float)
        steps = np.sqrt(((pixels - np.roll(pixels, -1, axis=0)) ** 2).mean(axis=(1, 2, 3)))
        return float(steps.max() / steps.mean())

    assert largest_share(pace="even") < 1.2 < largest_share()


async def test_the_client_for_asyncio_edits_likewise(target: str, client: Client) -> None:
    async with AsyncClient(target) as other:
        images = await other.generate(seeds=[5], edits={"size": 1}, hold=["red"])
    assert images.latents.tobytes() == client.generate(seeds=[5], edits={"size": 1}, hold=["red"]).latents.tobytes()


def test_a_model_lists_the_directions_of_the_version_that_serves(client: Client) -> None:
    model = client.model()
    assert model.directions == {
        "size": Direction("size", "fitted", 0.78, 0.9, 0.72),
        "red": Direction("red", "discovered", 0, 0, 0),
    }
    assert model.version(1).directions == {}
    assert repr(model) == "<Model tiny: versions 2, 1, serving 2>"
    assert repr(model.version()) == "<ModelVersion 2: ready, 8x8x3>"


def test_what_the_service_refuses_is_said_in_words_of_the_arguments(client: Client) -> None:
    with pytest.raises(InvalidArgumentError) as refusal:
        client.generate(seeds=[5], edits={"red": 1, "sise": 1})
    assert str(refusal.value) == "edits: is 'sise'; this version has: size, red"
    assert refusal.value.__suppress_context__  # what gRPC raised would be shown above it
    with pytest.raises(InvalidArgumentError) as refusal:
        client.generate(seeds=[5], edits={"red": 1}, hold=["sise"])
    assert str(refusal.value) == "hold: is 'sise'; this version has: size, red"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"edits": {"size": 5}}, "edits: size must be a number from -4 to 4; got 5"),
        ({"sets": {"size": float("nan")}}, "sets: size must be a number from -4 to 4; got nan"),
        (
            {"edits": ["size"]},
            "edits: must be amounts by the names of directions, such as {\"size\": 1.5}; got ['size']",
        ),
        ({"edits": {"size": 1}, "sets": {"size": 1}}, "edits, sets: give each direction in one of them; got 'size'"),
        (
            {"edits": {"size": 1}, "hold": ["size"]},
            "hold: must be other directions than those that move; got 'size'",
        ),
        ({"edits": {"size": 1}, "hold": "red"}, "hold: must be a list of names; got 'red'"),
        ({"hold": ["red"]}, "hold: needs edits or sets; got ['red']"),
        ({"edits": {"size": 1}, "hold": None}, "hold: must be a list of names; got None"),
        ({"edits": {"size": 1}, "hold": [1]}, "hold: must have names of directions; got 1"),
        ({"edits": {1: 1}}, "edits: must have names of directions; got 1"),
    ],
)
def test_wrong_edits_are_named_before_anything_is_sent(arguments: Any, sentence: str) -> None:
    with pytest.raises(ArgumentError) as error:
        requests.generate_request(seeds=[5], **arguments)
    assert str(error.value) == sentence


def test_an_iterator_holds_what_it_names() -> None:
    (edit,) = requests.generate_request(seeds=[5], edits={"size": 1}, hold=iter(["red", "tall"])).edits  # type: ignore[arg-type]
    assert list(edit.hold) == ["red", "tall"]


def test_images_and_frames_show_themselves_in_a_notebook(client: Client) -> None:
    images = client.generate(count=100, seed=0)
    with Image.open(io.BytesIO(images._repr_png_())) as picture:
        assert picture.size == (64, 64)  # 8 x 8 images of 8x8 pixels
    frame = next(client.interpolate(seeds=[1, 2]))
    with Image.open(io.BytesIO(frame._repr_png_())) as picture:
        assert np.array_equal(np.asarray(picture), frame.pixels)


# The command


def test_generate_writes_an_edited_image_and_says_so(run: Run, client: Client) -> None:
    code, out, _ = run("generate", "--seed", "5", "--edit", "size=+1.5", "--set", "red=0", "-o", "big.png")
    assert (code, out) == (0, "big.png: 1 image of seed 5, edited, 8x8 pixels, tiny version 2\n")
    with Image.open("big.png") as picture:
        assert picture.text["Edits"] == "red =0, size +1.5"  # type: ignore[attr-defined]
        pixels = client.generate(seeds=[5], edits={"size": 1.5}, sets={"red": 0}).pixels[0]
        assert np.array_equal(np.asarray(picture), pixels)


def test_a_smooth_and_even_walk(run: Run) -> None:
    options = ("--seeds", "1,2,3", "--frames", "3", "--loop", "--smooth", "--even", "--edit", "size=1")
    code, out, _ = run("walk", *options, "-o", "walk.webp")
    assert (code, out) == (0, "walk.webp: 12 frames of 8x8 pixels, 0.5 s, tiny version 2\n")


def test_models_shows_the_directions(run: Run) -> None:
    assert "           directions: size (r 0.78), red\n" in run("models")[1]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--edit", "size=9"), "--edit: size must be a number from -4 to 4; got 9.0"),
        (("--edit", "size=1", "--edit", "size=2"), "--edit: names each direction once; got 'size, size'"),
        (("--hold", "red"), "--hold: needs --edit or --set; got ['red']"),
        (("--edit", "sise=1"), "--edit: is 'sise'; this version has: size, red"),
    ],
)
def test_a_wrong_edit_is_one_sentence(run: Run, options: tuple[str, ...], sentence: str) -> None:
    code, _, err = run("generate", "--seed", "5", *options, "-o", "image.png")
    assert code in (1, 2)
    assert err == f"progan-client: {sentence}\n"


def test_a_sheet_has_a_row_for_each_seed_and_a_column_for_each_amount(run: Run, client: Client) -> None:
    code, out, _ = run("sheet", "--seeds", "5,6", "--edit", "size=-1:1:3", "--hold", "red", "-o", "size.png")
    assert (code, out) == (0, "size.png: 6 images of seeds 5 to 6, edited, 24x16 pixels, tiny version 2\n")
    with Image.open("size.png") as picture:
        corner = np.asarray(picture)[8:, 16:]
    assert np.array_equal(corner, client.generate(seeds=[6], edits={"size": 1}, hold=["red"]).pixels[0])


def test_a_photograph_is_found_and_edited_in_one_command(run: Run, client: Client) -> None:
    photo = client.generate(seed=5)
    photo.save("photo.png")
    options = ("--edit", "size=+1", "--hold", "red", "--max-evaluations", "20", "--beside")
    code, out, _ = run("edit", "photo.png", *options, "-o", "edited.png")
    assert code == 0
    assert out.splitlines()[0].startswith("photo.png: found at ")
    assert out.splitlines()[1] == ("edited.png: photograph, image found, image edited, 24x8 pixels, tiny version 2")
    found = client.invert("photo.png", max_evaluations=20)
    edited = client.generate(latents=found.latents, edits={"size": 1}, hold=["red"])
    with Image.open("edited.png") as written:
        expected = np.concatenate([photo.pixels[0], found.images.pixels[0], edited.pixels[0]], axis=1)
        np.testing.assert_array_equal(np.asarray(written), expected)


@pytest.mark.parametrize(("fit", "corner"), [("crop", "lime"), ("pad", "white"), ("stretch", "red")])
def test_the_photograph_is_shown_as_it_is_made_square(run: Run, fit: str, corner: str) -> None:
    photo = Image.new("RGB", (64, 32), "lime")
    photo.paste("red", (0, 0, 16, 32))
    photo.paste("red", (48, 0, 64, 32))
    photo.save("photo.png")
    options = ("--edit", "size=+1", "--max-evaluations", "1", "--beside", "--fit", fit)
    assert run("edit", "photo.png", *options, "-o", "edited.png")[0] == 0
    with Image.open("edited.png") as written:
        assert written.getpixel((0, 0)) == pytest.approx(ImageColor.getrgb(corner), abs=30)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--edit", "sise=1"), "--edit: must be one of size, red; got 'sise'"),
        (("--set", "size=1", "--hold", "Red"), "--hold: must be one of size, red; got 'Red'"),
        (("--edit", "size=9"), "--edit: size must be a number from -4 to 4; got 9.0"),
        (("--edit", "size=1", "--version", "1"), "--edit: needs a version with directions; got 'size'"),
    ],
)
def test_an_edit_of_a_photograph_is_checked_before_the_search(
    run: Run, client: Client, options: tuple[str, ...], sentence: str
) -> None:
    client.generate(seed=5).save("photo.png")
    assert run("edit", "photo.png", *options, "-o", "edited.png") == (2, "", f"progan-client: {sentence}\n")


def test_a_photograph_is_edited_by_the_version_that_found_its_image(run: Run, client: Client) -> None:
    """Another version may begin to serve during the search, and a latent of one is another image of the next."""
    client.generate(seed=5).save("photo.png")
    generate, versions = Client.generate, []

    def noted(self: Client, **arguments: Any) -> Any:
        versions.append(arguments["version"])
        return generate(self, **arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Client, "generate", noted)
        assert run("edit", "photo.png", "--edit", "size=1", "--max-evaluations", "2", "-o", "edited.png")[0] == 0
    assert versions == [2]


def test_a_sheet_has_any_number_of_rows(run: Run) -> None:
    seeds = ",".join(map(str, range(300)))  # one reply has 256 images at most
    assert run("sheet", "--seeds", seeds, "--edit", "size=-0.1:0.1:2", "-o", "size.png") == (
        0,
        "size.png: 600 images of seeds 0 to 299, edited, 16x2400 pixels, tiny version 2\n",
        "",
    )


def test_a_sheet_of_one_number_is_refused(run: Run) -> None:
    np.save("z.npy", np.float32(3))
    code, _, err = run("sheet", "--latents", "z.npy", "--edit", "size=-1:1:2", "-o", "size.png")
    assert (code, err) == (2, "progan-client: --latents: must have the shape [N, L], both above 0; got ()\n")


def test_a_sheet_may_begin_with_latents(run: Run, client: Client) -> None:
    np.save("z.npy", client.generate(seeds=[5, 6]).latents)
    assert run("sheet", "--latents", "z.npy", "--edit", "size=-1:1:3", "-o", "size.png")[0] == 0
    assert run("sheet", "--seeds", "5,6", "--edit", "size=-1:1:3", "-o", "same.png")[0] == 0
    with Image.open("size.png") as one, Image.open("same.png") as other:
        assert one.tobytes() == other.tobytes()


@pytest.mark.parametrize("sweep", ["size", "size=1", "size=-1:1", "size=-1:1:1", "size=-1:1:101", "size=a:1:3"])
def test_a_sheet_needs_two_amounts_and_a_number_of_columns(run: Run, sweep: str) -> None:
    code, _, err = run("sheet", "--edit", sweep, "-o", "size.png")
    assert code == 2
    assert f"must be a name, two amounts and 2 to 100 columns, such as size=-3:3:7; got '{sweep}'" in err

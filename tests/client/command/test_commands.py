"""The command `progan-client` against a real server, the tiny model."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import pytest
from PIL import Image, ImageSequence

import progan_client
from progan_client import Client, GeneratedImages, ReplyError
from progan_client.command import main
from progan_client.command.options import GenerateOptions, HealthOptions, InterpolateOptions, LoadOptions
from progan_client.command.output import Output
from progan_client.command.parser import command_parser
from progan_service.serving.config import ServerConfig

NOBODY = "127.0.0.1:1"

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(server_target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run one command in an empty directory and return exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PROGAN_TARGET", server_target)

    def run(*arguments: str) -> tuple[int, str, str]:
        return (main.main(arguments), *capsys.readouterr())

    return run


def test_one_image(run: Run, server_target: str) -> None:
    assert run("generate", "--seed", "1337", "-o", "image.png") == (
        0,
        "image.png: 1 image of seed 1337, 8x8 pixels, tiny version 1\n",
        "",
    )
    with Client(server_target) as client, Image.open("image.png") as image:
        assert np.array_equal(np.asarray(image), client.generate(seed=1337).pixels[0])


def test_one_image_in_a_wider_picture(run: Run) -> None:
    code, out, _ = run("generate", "--seed", "1337", "--columns", "2", "-o", "row.png")
    assert (code, out) == (0, "row.png: 1 image of seed 1337, 16x8 pixels, tiny version 1\n")


def test_several_images_are_one_picture(run: Run, server_target: str) -> None:
    code, out, _ = run("generate", "--seed", "5", "--count", "16", "-o", "grid.png")
    assert (code, out) == (0, "grid.png: 16 images of seeds 5 to 20, 32x32 pixels, tiny version 1\n")
    with Client(server_target) as client, Image.open("grid.png") as image:
        assert np.array_equal(np.asarray(image), np.asarray(client.generate(count=16, seed=5).grid()))


def test_the_same_command_writes_the_same_bytes(run: Run) -> None:
    for name in ("first.png", "second.png"):
        assert run("generate", "--seed", "1337", "--count", "16", "-o", name)[0] == 0
    assert Path("first.png").read_bytes() == Path("second.png").read_bytes()


def test_columns_and_scale(run: Run) -> None:
    code, out, _ = run("generate", "--seeds", "1,5,9", "--columns", "3", "--scale", "4", "-o", "row.webp")
    assert (code, out) == (0, "row.webp: 3 images of seeds 1,5,9, 96x32 pixels, tiny version 1\n")


def test_without_a_seed_a_random_one_is_printed(run: Run) -> None:
    code, out, _ = run("generate", "-o", "first.png")
    seed = re.fullmatch(r"first\.png: 1 image of seed (\d+), 8x8 pixels, tiny version 1\n", out)
    assert code == 0
    assert seed is not None
    run("generate", "--seed", seed[1], "-o", "second.png")
    assert Path("first.png").read_bytes() == Path("second.png").read_bytes()


def test_a_directory_gets_a_file_for_each_image(run: Run) -> None:
    code, out, _ = run("generate", "--seeds", "1,2,3", "-o", "new/images/")
    assert (code, out) == (
        0,
        "new/images/image-0000.png to image-0002.png: 3 images of seeds 1 to 3, 8x8 pixels, tiny version 1\n",
    )
    assert sorted(os.listdir("new/images")) == ["image-0000.png", "image-0001.png", "image-0002.png"]


def test_each_image_in_a_format_and_scale(run: Run) -> None:
    assert run("generate", "--count", "2", "-o", ".", "--format", "webp", "--scale", "3")[0] == 0
    assert run("generate", "--count", "2", "--each", "--quality", "50", "-o", "face.jpg")[0] == 0
    assert sorted(os.listdir()) == ["face-0000.jpg", "face-0001.jpg", "image-0000.webp", "image-0001.webp"]
    with Image.open("image-0001.webp") as image:
        assert (image.format, image.size) == ("WEBP", (24, 24))


def test_latents_of_a_file(run: Run, server_target: str) -> None:
    with Client(server_target) as client:
        images = client.generate(seeds=[3])
    np.save("z.npy", images.latents)
    assert run("generate", "--latents", "z.npy", "-o", "image.png")[:2] == (
        0,
        "image.png: 1 image, 8x8 pixels, tiny version 1\n",
    )
    with Image.open("image.png") as image:
        assert np.array_equal(np.asarray(image), images.pixels[0])


@pytest.mark.parametrize("name", ["walk.webp", "walk.gif"])
def test_a_walk(run: Run, name: str) -> None:
    code, out, _ = run("walk", "--seeds", "1,2,3", "--frames", "4", "--fps", "10", "--scale", "2", "-o", name)
    assert (code, out) == (0, f"{name}: 11 frames of 16x16 pixels, 1.1 s, tiny version 1\n")
    with Image.open(name) as picture:
        assert picture.size == (16, 16)
        assert len(list(ImageSequence.Iterator(picture))) == 11


def test_a_looping_walk_frame_by_frame(run: Run) -> None:
    code, out, _ = run("walk", "--seeds", "1,2", "--frames", "2", "--linear", "--loop", "-o", "frames/")
    assert (code, out) == (0, "frames/frame-0000.png to frame-0005.png: 6 images, 8x8 pixels, tiny version 1\n")


def test_models_and_their_versions(run: Run) -> None:
    code, out, _ = run("models")
    assert code == 0
    out = re.sub(r" +memory: \d+ MiB\n", "", out)  # it depends on what was loaded before
    assert re.sub("[0-9a-f]{12}", "0123456789ab", out) == (
        "tiny (default)\n"
        "  VERSION  STATE  IMAGES   LATENT  DIGEST               USE\n"
        "  1        ready  8x8 RGB  16      sha256:0123456789ab  serving\n"
        "           origin: tests\n"
    )


def test_health(run: Run, server_target: str) -> None:
    assert run("health") == (0, f"{server_target}: SERVING\n", "")
    assert run("health", "--wait", "10", "--model", "tiny") == (0, f"{server_target} tiny: SERVING\n", "")
    assert run("health", "--model", "nonesuch") == (1, f"{server_target} nonesuch: SERVICE_UNKNOWN\n", "")


def test_the_target_may_stand_before_or_after_the_command(run: Run, server_target: str) -> None:
    assert run("--target", NOBODY, "health")[0] == 1
    assert run("health", "--target", NOBODY)[0] == 1
    assert run("--target", NOBODY, "health", "--target", server_target)[0] == 0


def test_a_server_without_a_model_is_up_but_not_ready(run: Run, run_server: Any, tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    with run_server(ServerConfig(tmp_path / "store", port=0, http_port=0, lame_duck_s=0)) as server:
        target = f"127.0.0.1:{server.port}"
        code, out, err = run("generate", "--seed", "1", "-o", "image.png", "--timeout", "2", "--target", target)
    assert (code, out) == (1, "")
    assert err == (
        f"progan-client: {target} is up but not ready: it has no model yet, or it is shutting down; "
        "see `progan-client models`\n"
    )


def test_an_unreachable_server_is_one_sentence(run: Run) -> None:
    code, out, err = run("generate", "--seed", "1", "-o", "image.png", "--target", NOBODY)
    assert (code, out) == (1, "")
    assert err == (
        f"progan-client: no ready ProGAN service at {NOBODY}: connection refused; is the service running, and is the "
        "port right?\n"
    )
    assert not Path("image.png").exists()


def test_an_unknown_model_is_one_sentence(run: Run) -> None:
    code, out, err = run("generate", "--seed", "1", "--model", "nonesuch", "-o", "image.png")
    assert (code, out) == (1, "")
    assert re.fullmatch(r"progan-client: .*nonesuch.*\n", err)


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        ("generate --seed -1 -o a.png", "--seed: must be 0 to 18446744073709551615; got -1"),
        ("generate --count 0 -o a.png", "--count: must be 1 to 4294967295; got 0"),
        ("generate --seeds 1 --count 2 -o a.png", "give only one of --seeds and --count"),
        ("generate --latents z.npy --count 2 -o a.png", "give only one of --latents and --count"),
        ("health --tls-cert a.pem", "give both --tls-cert and --tls-key, or neither"),
        ("health --tls-key a.pem", "give both --tls-cert and --tls-key, or neither"),
        ("load --even", "--even needs --rate"),
        ("generate --seed 1 --version 0 -o a.png", "--version: must be 1 to 18446744073709551615; got 0"),
        ("walk --seeds 1,2 --version -1 -o a.gif", "--version: must be 1 to 18446744073709551615; got -1"),
        (
            "generate --seed 1 --version 1.5 -o a.png",
            "--version: must be a number or a label: a small letter, then small letters, digits, - or _, at most 63 in "
            "all; got '1.5'",
        ),
        (
            "generate --seed 1 -o a.bmp",
            "--output: must end in .png, .jpg, .jpeg or .webp for a picture, or in / for a directory; got 'a.bmp'",
        ),
        (
            "generate --seed 1 -o a",
            "--output: must end in .png, .jpg, .jpeg or .webp for a picture, or in / for a directory; got 'a'",
        ),
        ("generate --seed 1 -o a.png --quality 90", "--quality: is for JPEG and WebP; got 90"),
        (
            "generate --seed 1 -o a.png --format png",
            "--format: needs -o DIR/; the suffix of a file selects its format; got 'png'",
        ),
        ("generate --seed 1 -o a.png --timeout 0", "--timeout: must be a number of seconds above 0; got 0.0"),
        (
            "generate --count 10001 -o a.png",
            "--count: must be at most 10000 for one picture; use -o DIR/; got 10001",
        ),
        ("generate --latents cli.txt -o a.png", "--latents: must be a .npy file of numbers; got 'cli.txt'"),
        ("walk --seeds 1 -o walk.webp", "--seeds: must be two or more; got 1"),
        (
            "walk --seeds 1,2 -o walk.avi",
            "--output: must end in .webp, .gif or .mp4 for an animation, or in / for a directory; got 'walk.avi'",
        ),
        ("load -o load", "--output: must end in .png, .jpg, .jpeg or .webp; got 'load'"),
    ],
)
def test_wrong_usage_is_one_sentence_before_the_call(run: Run, command: str, sentence: str) -> None:
    Path("cli.txt").write_text("no array")
    assert run("--target", NOBODY, *command.split()) == (2, "", f"progan-client: {sentence}\n")
    assert os.listdir() == ["cli.txt"]


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        ("", "the following arguments are required: COMMAND"),
        ("generate --seed 1", "the following arguments are required: -o/--output"),
        ("generate --seeds 1,b -o a.png", "must be integers separated by commas, such as 1,2,3; got '1,b'"),
        ("generate -o a.jpg --quality 101", "--quality: must be an integer, at least 1 and at most 100; got '101'"),
        ("generate -o a.png --scale 0", "--scale: must be an integer, at least 1 and at most 64; got '0'"),
        ("generate -o a.png --columns 1.5", "--columns: must be an integer, at least 1; got '1.5'"),
        ("walk --fps 0 -o a.gif", "--fps: must be a number, at least 0.1 and at most 100; got '0'"),
        ("generate --labels 1;2 -o a.png", "must be numbers separated by commas, such as 0,1; got '1;2'"),
        ("generate --seed 1 --seeds 2 -o a.png", "argument --seeds: not allowed with argument --seed"),
        ("walk -o walk.webp", "one of the arguments --seeds --latents is required"),
        ("generate --sedes 1,2", "there is no option --sedes; did you mean --seeds?"),
        ("generate --see=1 --cuont=2 -o a.png", "there is no option --cuont; did you mean --count?"),
        ("generate -o a.png --xyzzy", "there is no option --xyzzy\n"),
        ("--tagret localhost:8500 models", "there is no option --tagret; did you mean --target?"),
        ("models tiny", "unrecognized arguments: tiny"),
    ],
)
def test_a_command_that_cannot_be_read_shows_its_usage(run: Run, command: str, sentence: str) -> None:
    code, out, err = run(*command.split())
    assert (code, out) == (2, "")
    assert err.startswith(" ".join(["usage: progan-client", *re.findall("^[a-z]+", command)]))
    assert sentence in err


@pytest.mark.parametrize(
    ("command", "argument"),
    [
        ("generate --seed 1 -o", "-o/--output"),
        ("walk --seeds 1,2 -o", "-o/--output"),
        ("generate -o a.png --latents", "--latents"),
        ("invert -o a.png", "PHOTO"),
        ("edit -o a.png", "PHOTO"),
        ("load --json", "--json"),
        ("health --tls-root", "--tls-root"),
    ],
)
def test_an_empty_path_is_none(run: Run, command: str, argument: str) -> None:
    """A variable of a shell that is not set: Python would take it for the working directory."""
    code, out, err = run(*command.split(), "")
    assert (code, out) == (2, "")
    assert err.endswith(f": error: argument {argument}: must be a path; got ''\n")
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        ("generate --seed 1 -o nowhere/a.png", "nowhere: no such directory"),
        ("generate --seed 1 -o file/", "file: File exists"),
        ("generate --latents z.npy -o a.png", "--latents z.npy: no such file"),
        ("generate --latents . -o a.png", "--latents .: is a directory"),
        ("walk --latents file/z.npy -o a.gif", "--latents file/z.npy: not a directory"),
        ("generate --seed 1 --tls-root ca.pem -o a.png", "--tls-root ca.pem: no such file"),
        ("health --tls-cert c.pem --tls-key k.pem", "--tls-cert c.pem: no such file"),
        ("health --token-file token", "--token-file token: no such file"),
    ],
)
def test_a_path_that_cannot_be_used_is_found_before_the_call(run: Run, command: str, sentence: str) -> None:
    Path("file").touch()
    code, out, err = run("--target", NOBODY, *command.split())
    assert (code, out) == (1, "")
    assert err == f"progan-client: {sentence}\n"


@pytest.mark.parametrize(
    "command",
    [
        "generate --seed 1 -o full.png",
        "generate --seed 1 --each -o full.png",
        "walk --seeds 1,2 --frames 1 -o full.gif",
        "load --calls 1 --warmup 0 --json full.json",
    ],
)
def test_a_full_disk_is_named_by_the_file(run: Run, command: str) -> None:
    for name in ("full.png", "full.gif", "full.json", "full-0000.png"):
        Path(name).symlink_to("/dev/full")
    code, _, err = run(*command.split())
    assert (code, err.replace("-0000", "")) == (1, f"progan-client: {command.split()[-1]}: No space left on device\n")


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_disk_below_standard_output_is_a_sentence(server_target: str, unbuffered: str) -> None:
    command = [Path(sys.executable).with_name("progan-client"), "--target", server_target, "health"]
    with Path("/dev/full").open("w") as full:
        environment = os.environ | {"PYTHONUNBUFFERED": unbuffered}
        ended = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, env=environment)
    assert (ended.returncode, ended.stderr) == (1, "progan-client: standard output: No space left on device\n")


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write anywhere")
def test_a_directory_that_must_not_be_written_is_found_before_the_call(run: Run) -> None:
    Path("closed").mkdir(mode=0o500)
    assert run("--target", NOBODY, "generate", "--seed", "1", "-o", "closed/a.png") == (
        1,
        "",
        "progan-client: closed/a.png: no permission to write\n",
    )


@pytest.mark.parametrize(
    ("content", "environment", "sent"), [("", "", ""), ("", "one", "one"), ("two\n", "one", "two")]
)
def test_a_token_comes_from_a_file_or_else_from_the_environment(
    run: Run, monkeypatch: pytest.MonkeyPatch, content: str, environment: str, sent: str
) -> None:
    tokens: list[str] = []

    class Recording(Client):
        def __init__(self, *arguments: Any, token: str, **settings: Any) -> None:
            tokens.append(token)
            super().__init__(*arguments, **settings)

    monkeypatch.setattr(main, "Client", Recording)
    monkeypatch.setenv("PROGAN_TOKEN", environment)
    Path("token").write_text(content)
    assert run("health", *(["--token-file", "token"] if content else []))[0] == 0
    assert tokens == [sent]


@pytest.mark.parametrize("command", [[], ["generate"], ["walk"], ["models"], ["health"], ["load"]])
def test_help(run: Run, command: list[str]) -> None:
    code, out, err = run(*command, "--help")
    assert (code, err) == (0, "")
    assert out.startswith(" ".join(["usage: progan-client", *command]))
    assert "--target HOST:PORT" in out


@pytest.mark.parametrize(
    ("command", "options"),
    [
        ("generate -o a.png", GenerateOptions),
        ("walk --seeds 1,2 -o a.gif", InterpolateOptions),
        ("health", HealthOptions),
        ("load", LoadOptions),
    ],
)
def test_the_parser_has_every_option_of_a_command(command: str, options: type) -> None:
    read_by_main = {"tls", "token"}
    assert get_type_hints(options).keys() <= vars(command_parser().parse_args(command.split())).keys() | read_by_main


def test_the_version(run: Run) -> None:
    assert run("--version") == (0, f"progan-client {progan_client.__version__}\n", "")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_completion_script_for_a_shell(run: Run, shell: str) -> None:
    code, out, err = run("completion", shell)
    assert (code, err) == (0, "")
    assert all(word in out for word in ("walk", "frames", "bulk"))


COMPLETE = """
source script.bash
COMP_WORDS=({words}) COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
_shtab_progan_client
echo "${{COMPREPLY[@]}}"
"""


@pytest.mark.parametrize(
    ("words", "completed"), [("progan-client ge", "generate"), ("progan-client walk --li", "--linear")]
)
def test_bash_completes_commands_and_options(run: Run, words: str, completed: str) -> None:
    Path("script.bash").write_text(run("completion", "bash")[1])
    done = subprocess.run(["bash", "-c", COMPLETE.format(words=words)], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == (f"{completed}\n", "")


@pytest.mark.parametrize("command", ["models", "completion bash", "health", "generate --seeds 1,2 -o images/"])
def test_a_reader_that_has_left_ends_the_command_quietly(server_target: str, tmp_path: Path, command: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [Path(sys.executable).with_name("progan-client"), *command.split()],
        cwd=tmp_path,
        env=os.environ | {"PROGAN_TARGET": server_target},
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")  # as a program that SIGPIPE ends, in a shell


def test_the_output_goes_to_a_terminal_of_another_encoding(server_target: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [Path(sys.executable).with_name("progan-client"), "generate", "--seed", "1", "-o", "\u00e4pfel.png"],
        cwd=tmp_path,
        env=os.environ | {"PROGAN_TARGET": server_target, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "\\xe4pfel.png: 1 image of seed 1, 8x8 pixels, tiny version 1\n"


def test_a_name_that_is_no_text_is_printed_as_it_can_be(run: Run) -> None:
    name = os.fsdecode(b"\xff\x1b[2J\n.png")
    assert run("generate", "--seed", "1", "-o", name) == (
        0,
        "\\udcff\\x1b[2J\\n.png: 1 image of seed 1, 8x8 pixels, tiny version 1\n",
        "",
    )
    assert run("generate", "--latents", name + "y", "-o", "a.png") == (
        1,
        "",
        "progan-client: --latents \\udcff\\x1b[2J\\n.pngy: no such file\n",
    )


def test_ctrl_c_reports_what_was_written(server_target: str, tmp_path: Path) -> None:
    command = [str(Path(sys.executable).with_name("progan-client")), "--target", server_target, "generate"]
    command += ["--seed", "5", "--count", "100000000", "-o", "images/"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        while not (tmp_path / "images" / "image-0003.png").exists():  # then the three before it are written and counted
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()
    assert (process.returncode, err) == (130, "progan-client: interrupted\n")
    written = re.fullmatch(
        r"images/image-0000\.png to image-(\d+)\.png: (\d+) images of seeds 5 to (\d+), 8x8 pixels, tiny version 1\n",
        out,
    )
    assert written
    last, count, seed = map(int, written.groups())
    assert count >= 3
    assert (last, seed) == (count - 1, count + 4)
    assert len(os.listdir(tmp_path / "images")) in (count, count + 1)  # it may have been writing the next


def test_a_stream_that_breaks_reports_what_was_written(
    server_target: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Client(server_target) as client:
        images = client.generate(seeds=[7, 8, 9])

    def parts() -> Iterator[GeneratedImages]:
        yield images[:2]
        yield images[2:]
        raise ReplyError("the service sent nonsense")

    with pytest.raises(ReplyError):
        Output(tmp_path / "face.png", each=True, quality=90, scale=2).write_each(parts())
    assert capsys.readouterr().out == (
        f"{tmp_path}/face-0000.png to face-0002.png: 3 images of seeds 7 to 9, 16x16 pixels, tiny version 1\n"
    )


def test_the_installed_command(server_target: str) -> None:
    command = Path(sys.executable).with_name("progan-client")
    done = subprocess.run([command, "health", "--target", server_target], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{server_target}: SERVING\n", "")

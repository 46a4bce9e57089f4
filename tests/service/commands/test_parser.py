"""The `progan` command: help, usage, completion, and what every subcommand has in common."""

import argparse
import inspect
import os
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any, get_type_hints

import pytest

import progan_service
from progan_service.commands import dataset, draw, evaluate, export, models, presets, runs, serve, train
from progan_service.commands.parser import parser

TRAIN = ["train", "--data", "d", "--run", "r"]
BY_RESOLUTION = "must be a whole number, or one by resolution such as 4:32,16:16"

Progan = Callable[..., Any]  # see tests/service/conftest.py


@pytest.mark.parametrize(
    "command",
    [
        [],
        ["serve"],
        ["dataset"],
        ["dataset", "build"],
        ["dataset", "demo"],
        ["train"],
        ["presets"],
        ["runs"],
        ["plot"],
        ["timelapse"],
        ["grid"],
        ["walk"],
        ["export"],
        ["weights"],
        ["models"],
        ["models", "pin"],
        ["models", "default"],
        ["evaluate"],
        ["completion"],
    ],
)
def test_every_command_has_help(progan: Progan, command: list[str]) -> None:
    ended = progan(*command, "--help")
    assert ended.code == 0
    assert ended.out.startswith("usage: " + " ".join(["progan", *command]))


@pytest.mark.parametrize(
    "command",
    ["train --run r --data", "train --data d --run", "serve --store", "models --store", "dataset demo", "weights run"],
)
def test_an_empty_path_is_wrong_usage(progan: Progan, command: str) -> None:
    ended = progan(*command.split(), "")
    assert ended.code == 2
    assert ended.err.endswith("''\n")


def test_a_directory_that_tensorflow_cannot_name_is_refused(tmp_path: Path) -> None:
    program, data, run = Path(sys.executable).with_name("progan"), tmp_path / "data", tmp_path / "caf\udce9"
    subprocess.run([program, "dataset", "demo", data, "--count", "8", "--resolution", "4"], check=True)
    ended = subprocess.run([program, "train", "--data", data, "--run", run], capture_output=True)
    sentence = f"{tmp_path}/caf\\xe9: the name is not UTF-8, as TensorFlow needs it; give another path"
    assert ended.returncode == 78
    assert ended.stderr.splitlines()[-1].decode() == f"progan: {sentence}"
    assert list(tmp_path.iterdir()) == [data]


@pytest.mark.parametrize(
    ("command", "usage", "sentence"),
    [
        ("serve --prot 9000", "progan serve [--config FILE]", "there is no option --prot; did you mean --port?"),
        (
            "serve --max_images=7",
            "progan serve [--config FILE]",
            "there is no option --max_images; did you mean --max-images?",
        ),
        ("train --dta faces", "progan train --run DIR", "there is no option --dta; did you mean --data?"),
        ("models --sotre s prune", "progan models [-h]", "there is no option --sotre; did you mean --store?"),
        ("models prune --sotre s", "progan models prune [-h]", "there is no option --sotre; did you mean --store?"),
        ("presets --xyzzy", "progan presets [-h]", "there is no option --xyzzy"),
        ("presets lsun-256 extra", "progan presets [-h]", "unrecognized arguments: extra"),
        ("--verison", "progan [-h]", "there is no option --verison; did you mean --version?"),
    ],
)
def test_a_misspelt_option_is_named_with_the_nearest_one(
    progan: Progan, command: str, usage: str, sentence: str
) -> None:
    ended = progan(*command.split())
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith(f"usage: {usage}")
    assert ended.err.endswith(f": error: {sentence}\n")


@pytest.mark.parametrize("command", ["presets", "presets lsun-256", "models", "completion bash"])
def test_a_reader_that_has_left_ends_the_command_quietly(command: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    program = Path(sys.executable).with_name("progan")
    ended = subprocess.run([program, *command.split()], stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert (ended.returncode, ended.stderr) == (141, "")  # as a program that SIGPIPE ends, in a shell


def test_the_help_tells_the_exit_codes(progan: Progan) -> None:
    assert progan("--help").out.endswith(
        "exit codes:\n"
        "  0   done\n"
        "  1   failed: fix what the message names, then run again\n"
        "  2   wrong usage\n"
        "  75  stopped by a signal, or a worker was lost or missing: run again to go on\n"
        "  78  bad configuration or data: running again will not help\n"
        "  130 ended by Ctrl-C\n"
        "  141 the reader of the output has left\n"
        "  143 ended by SIGTERM\n"
    )


def test_the_version(progan: Progan) -> None:
    assert progan("--version") == (0, f"progan {progan_service.__version__}\n", "")
    assert progan_service.__version__ == metadata.version("progan-service")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_completion_script_for_a_shell(progan: Progan, shell: str) -> None:
    ended = progan("completion", shell)
    assert (ended.code, ended.err) == (0, "")
    assert all(word in ended.out for word in ("evaluate", "lame-duck-s", "gp-weight"))


COMPLETE = """
source {script}
COMP_WORDS=({words}) COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
_shtab_progan
echo "${{COMPREPLY[@]}}"
"""


@pytest.mark.parametrize(("words", "completed"), [("progan ev", "evaluate"), ("progan serve --lame", "--lame-duck-s")])
def test_bash_completes_commands_and_options(progan: Progan, tmp_path: Path, words: str, completed: str) -> None:
    script = tmp_path / "script.bash"
    script.write_text(progan("completion", "bash").out)
    command = ["bash", "-c", COMPLETE.format(script=script, words=words)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == (f"{completed}\n", "")


@pytest.mark.parametrize(
    ("module", "function", "line"),
    [
        (serve, "serve", "serve --port 0"),
        (dataset, "build_dataset", "dataset build a b --resolution 8"),
        (dataset, "label_dataset", "dataset label a --labels folders"),
        (dataset, "draw_dataset", "dataset demo a"),
        (train, "train", "train --data d --run r"),
        (presets, "presets", "presets"),
        (runs, "list_runs", "runs"),
        (runs, "plot", "plot r -o c.png"),
        (runs, "timelapse", "timelapse r -o t.webp"),
        (draw, "grid", "grid r -o g.png"),
        (draw, "draw_walk", "walk r -o w.webp"),
        (evaluate, "evaluate", "evaluate r --data d"),
        (export, "export", "export r --store s --name n"),
        (export, "weights", "weights r w.npz"),
        (models, "list_models", "models"),
        (models, "verify", "models verify"),
        (models, "pin", "models pin --store s m 1"),
        (models, "label", "models label --store s m canary 1"),
        (models, "unlabel", "models unlabel --store s m canary"),
        (models, "default", "models default --store s m"),
        (models, "prune", "models prune --store s"),
    ],
)
def test_a_command_is_a_function_with_typed_keywords(
    monkeypatch: pytest.MonkeyPatch, module: ModuleType, function: str, line: str
) -> None:
    signature = inspect.signature(getattr(module, function))
    assert {parameter.kind for parameter in signature.parameters.values()} == {inspect.Parameter.KEYWORD_ONLY}
    assert argparse.Namespace not in get_type_hints(getattr(module, function)).values()
    monkeypatch.setattr(module, function, lambda **values: values)
    arguments = parser().parse_args(line.split())
    assert arguments.run(arguments).keys() == signature.parameters.keys()


def test_help_takes_no_tensorflow() -> None:
    script = (
        "import sys; from progan_service.commands import parser; "
        "parser.parser().format_help(); print('tensorflow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout == "False\n"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["paint"], "invalid choice: 'paint'"),
        (["train", "--data", "d"], "the following arguments are required: --run"),
        ([*TRAIN, "--fmap-base", "big"], "argument --fmap-base: must be a whole number; got 'big'"),
        ([*TRAIN, "--fade-kimg", "long"], "argument --fade-kimg: must be a number; got 'long'"),
        ([*TRAIN, "--batch-sizes", "1.5"], f"argument --batch-sizes: {BY_RESOLUTION}; got '1.5'"),
        ([*TRAIN, "--batch-sizes", "4:32,16"], f"argument --batch-sizes: {BY_RESOLUTION}; got '4:32,16'"),
        ([*TRAIN, "--batch-sizes", "4:8,4:9"], f"argument --batch-sizes: {BY_RESOLUTION}; got '4:8,4:9'"),
        (["dataset", "build", "a", "b", "--resolution", "big"], "argument --resolution: invalid int value: 'big'"),
    ],
)
def test_wrong_usage_ends_with_2(progan: Progan, arguments: list[str], complaint: str) -> None:
    ended = progan(*arguments)
    assert ended.code == 2
    assert complaint in ended.err

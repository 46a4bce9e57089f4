"""How the command begins: signals while it imports, and standard streams that are closed."""

import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

PROGAN = Path(sys.executable).with_name("progan")
PATIENCE_S = 60

# The entry of the command, with an import that takes until somebody writes to the standard input.
SLOW_IMPORT = """
import builtins, sys
from progan_service.commands import entry

real = builtins.__import__

def slow(name, *rest, **more):
    if name == "argparse":
        print("importing", flush=True)
        sys.stdin.readline()
    return real(name, *rest, **more)

builtins.__import__ = slow
entry.main()
"""


@contextmanager
def importing(*before: str, arguments: Sequence[str] = ("--version",)) -> Iterator["subprocess.Popen[str]"]:
    """A command that is in the middle of its imports."""
    command = [*before, sys.executable, "-c", SLOW_IMPORT, *arguments]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == "importing\n"
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)], ids=lambda one: str(one)
)
def test_a_signal_while_python_imports_ends_the_command_without_a_traceback(number: signal.Signals, code: int) -> None:
    with importing() as process:
        process.send_signal(number)
        _, errors = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, errors) == (code, "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda one: str(one))
def test_training_that_has_not_begun_goes_on_later_as_one_that_has(number: signal.Signals) -> None:
    with importing(arguments=["train", "--run", "run"]) as process:
        process.send_signal(number)
        _, errors = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, errors) == (75, "")


def test_under_nohup_a_hangup_is_ignored() -> None:
    with importing("nohup") as process:
        process.send_signal(signal.SIGHUP)
        output, errors = process.communicate("go on\n", timeout=PATIENCE_S)
    assert (process.returncode, errors) == (0, "")
    assert output.splitlines()[-1].startswith("progan ")


def test_the_command_is_in_charge_before_it_imports_anything_large() -> None:
    script = "import sys; from progan_service.commands import entry; print(*sorted(sys.modules), sep='\\n')"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert {"argparse", "logging", "importlib.metadata", "numpy"}.isdisjoint(loaded)
    assert [name for name in loaded if name.startswith("progan_service")] == [
        "progan_service",
        "progan_service.commands",
        "progan_service.commands.entry",
        "progan_service.exit_codes",
        "progan_service.host",
        "progan_service.host.signals",
    ]

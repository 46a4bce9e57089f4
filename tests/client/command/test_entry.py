"""How the command begins: Ctrl-C while it imports."""

import signal
import subprocess
import sys

import pytest

PATIENCE_S = 60

# The entry of the command, with an import of gRPC that takes until somebody writes to the standard input.
SLOW_IMPORT = """
import builtins, sys
import progan_client_entry

real = builtins.__import__

def slow(name, *rest, **more):
    if name == "grpc":
        print("importing", flush=True)
        sys.stdin.readline()
        builtins.__import__ = real
    return real(name, *rest, **more)

builtins.__import__ = slow
sys.exit(progan_client_entry.main())
"""


def importing(*before: str) -> "subprocess.Popen[str]":
    """A command that is in the middle of its imports."""
    command = [*before, sys.executable, "-c", SLOW_IMPORT, "--version"]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout
    assert process.stdout.readline() == "importing\n"
    return process


def test_ctrl_c_while_python_imports_ends_the_command_without_a_traceback() -> None:
    with importing() as process:
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, errors) == (130, "")


def test_where_ctrl_c_is_ignored_it_stays_so() -> None:
    with importing("sh", "-c", 'trap "" INT; exec "$@"', "sh") as process:
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate("go on\n", timeout=PATIENCE_S)
    assert (process.returncode, errors) == (0, "")
    assert output.startswith("progan-client ")


@pytest.mark.parametrize("module", ["grpc", "numpy", "progan_client", "argparse"])
def test_the_command_is_in_charge_before_it_imports_anything_large(module: str) -> None:
    script = f"import sys, progan_client_entry; sys.exit({module!r} in sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True)

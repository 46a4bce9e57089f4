"""TensorFlow computes by oneDNN on every x86 processor, and says nothing that helps nobody."""

import os
import platform
import subprocess
import sys

import pytest

ONEDNN = """
from progan_service.host.tensorflow import import_tensorflow
import_tensorflow()
from tensorflow.python.util import _pywrap_util_port
print(_pywrap_util_port.IsMklEnabled())
"""
BFLOAT16 = """
from progan_service.host.tensorflow import begin_bfloat16, import_tensorflow
import_tensorflow()
begin_bfloat16()
import tensorflow as tf
x = tf.ones([2, 2], tf.bfloat16)
print(tf.matmul(x, x)[0, 0].numpy())
"""


def told(script: str, **environment: str) -> tuple[str, str]:
    """Run the script and return what it writes to stdout and stderr."""
    inherited = {name: value for name, value in os.environ.items() if name != "TF_ENABLE_ONEDNN_OPTS"}
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=inherited | {"TF_CPP_MIN_LOG_LEVEL": "2"} | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout, done.stderr


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="others have no oneDNN")
def test_it_computes_by_onednn_unless_the_environment_forbids_it() -> None:
    assert told(ONEDNN) == ("True\n", "")
    assert told(ONEDNN, TF_ENABLE_ONEDNN_OPTS="0") == ("False\n", "")


def test_nothing_is_said_about_bfloat16_where_the_processor_has_none() -> None:
    assert told(BFLOAT16) == ("2\n", "")

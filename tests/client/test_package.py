"""What `import progan_client` provides, and what it needs."""

import subprocess
import sys
from importlib import metadata

import progan_client

WITHOUT_SERVICE = """
import sys
sys.modules["tensorflow"] = None  # importing it now raises ImportError
sys.modules["progan_service"] = None
import progan_client, progan_client.command.main
print(len(progan_client.__all__))
"""


def test_public_names_are_these() -> None:
    assert progan_client.__all__ == [
        "ArgumentError",
        "AsyncClient",
        "Client",
        "ClientClosedError",
        "DeadlineExceededError",
        "Direction",
        "FailedPreconditionError",
        "FieldViolation",
        "Frame",
        "GeneratedImages",
        "InternalError",
        "InvalidArgumentError",
        "Inversion",
        "InversionReport",
        "MessageTooLargeError",
        "Model",
        "ModelVersion",
        "NotFoundError",
        "PermissionDeniedError",
        "ProganError",
        "ReplyError",
        "ResourceExhaustedError",
        "ServedModel",
        "ServiceError",
        "StageTimes",
        "Tls",
        "UnauthenticatedError",
        "UnavailableError",
        "save_animation",
    ]
    assert all(hasattr(progan_client, name) for name in progan_client.__all__)


def test_the_version_is_that_of_the_package() -> None:
    assert progan_client.__version__ == metadata.version("progan-client")


def test_public_names_are_sorted() -> None:
    assert progan_client.__all__ == sorted(progan_client.__all__)


def test_imports_where_there_is_no_tensorflow_and_no_service() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT_SERVICE], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "29\n", "")

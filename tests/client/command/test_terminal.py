"""What a server, or a file system, sends is printed as plain lines."""

from concurrent import futures
from typing import Any

import grpc
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc import error_details_pb2, status_pb2

from progan_client.command import main
from progan_client.command.terminal import printable
from progan_protos.v1 import image_generator_pb2 as pb
from progan_protos.v1 import image_generator_pb2_grpc as pb_grpc

CLEAR = "\x1b[2J"  # clears the screen of a terminal


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("Äpfel, リンゴ 🍎", "Äpfel, リンゴ 🍎"),
        ("two\nlines\r", r"two\nlines\r"),
        ("\x1b]0;title\x07", r"\x1b]0;title\x07"),
        ("\x9b2J", r"\x9b2J"),
        ("\udcff.png", r"\udcff.png"),
        ("gnp.\u202ea", r"gnp.\u202ea"),  # turns the direction of what follows
        (r"C:\new", r"C:\new"),
    ],
)
def test_what_would_control_the_terminal_is_spelt(text: str, printed: str) -> None:
    assert printable(text) == printed


class HostileServicer(pb_grpc.ImageGeneratorServiceServicer):
    """Has a model whose every text clears the screen, and refuses calls for images with such a text."""

    def ListModels(self, request: Any, context: Any) -> pb.ListModelsResponse:  # noqa: N802
        version = pb.ModelVersion(
            version=1,
            state=pb.MODEL_STATE_FAILED,
            error=f"{CLEAR}\nno",
            digest=CLEAR,
            label_count=1,
            label_names=[f"a\n{CLEAR}"],
        )
        return pb.ListModelsResponse(
            models=[pb.Model(name=f"evil{CLEAR}\n", versions=[version], version_labels={f"b{CLEAR}": 1}, error=CLEAR)]
        )

    def Generate(self, request: Any, context: Any) -> Any:  # noqa: N802
        details = error_details_pb2.ErrorInfo(reason=f"{CLEAR}\n")
        packed = AnyMessage()
        packed.Pack(details)
        status = status_pb2.Status(code=3, message="x", details=[packed])
        context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"first{CLEAR}\nsecond")

    StreamGenerate = Generate


@pytest.fixture(scope="module")
def target() -> Any:
    server = grpc.server(futures.ThreadPoolExecutor(2))
    pb_grpc.add_ImageGeneratorServiceServicer_to_server(HostileServicer(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None)


def test_models_are_printed_without_escape_sequences(target: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["models", "--target", target]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert [line.strip() for line in out.splitlines()] == [
        r"evil\x1b[2J\n",
        r"error: \x1b[2J",
        "VERSION  STATE   IMAGES  LATENT  DIGEST  USE",
        r"1        failed  -       -       \x1b[2J    b\x1b[2J",
        r"classes: a\n\x1b[2J",
        r"error: \x1b[2J\nno",
    ]


@pytest.mark.parametrize("command", ["generate --seed 1 -o a.png", "load --calls 1 --warmup 0"])
def test_errors_are_printed_without_escape_sequences(
    target: str, command: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main.main([*command.split(), "--target", target]) == 1
    out, err = capsys.readouterr()
    assert (out, err) == ("", "progan-client: first\\x1b[2J\\nsecond\n")

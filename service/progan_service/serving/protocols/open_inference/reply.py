"""Images become inference replies. Values are always raw: clients read nothing else. Pure."""

from dataclasses import replace
from typing import Any

import numpy as np

from progan_service.serving.jobs.job import Piece
from progan_service.serving.protocols.open_inference.messages import ModelInferResponse
from progan_service.serving.protocols.open_inference.parse import Inference

_FINAL_RESPONSE = "triton_final_response"


def whole(piece: Piece, asked: Inference, request_id: str) -> Any:
    """Return a ModelInferResponse with all images of a piece. A marked one says whether it is the last."""
    version = asked.job.version
    reply = ModelInferResponse(model_name=version.name, model_version=str(version.number), id=request_id)
    for name in asked.outputs:
        datatype, shape, content = _tensor(name, piece)
        reply.outputs.add(name=name, datatype=datatype, shape=shape)
        reply.raw_output_contents.append(content)
    if asked.final_response:
        reply.parameters[_FINAL_RESPONSE].bool_param = piece.first + len(piece.latents) == asked.job.latents.count
    return reply


def frame(piece: Piece, place: int, asked: Inference, request_id: str) -> Any:
    """Return a ModelInferResponse with one frame of a walk, which says its index."""
    reply = whole(_one(piece, place), asked, request_id)
    reply.parameters["first_index"].int64_param = piece.first + place
    return reply


def _one(piece: Piece, place: int) -> Piece:
    here = slice(place, place + 1)
    generated = replace(piece.generated, pixels=piece.generated.pixels[here])
    return replace(
        piece, first=piece.first + place, latents=piece.latents[here], generated=generated, files=piece.files[here]
    )


def _tensor(name: str, piece: Piece) -> tuple[str, list[int], bytes]:
    """Return datatype, shape and raw bytes of an output."""
    if name == "images":
        return "UINT8", list(piece.generated.pixels.shape), piece.generated.pixels.tobytes()
    if name == "files":
        return "BYTES", [len(piece.files)], b"".join(_sized(file) for file in piece.files)
    latents = piece.latents.astype(np.dtype("<f4"), copy=False)
    return "FP32", list(latents.shape), latents.tobytes()


def _sized(element: bytes) -> bytes:
    """Return an element of a BYTES tensor: its length in 4 bytes, then the bytes."""
    return len(element).to_bytes(4, "little") + element

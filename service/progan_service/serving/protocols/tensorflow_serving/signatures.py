"""The signatures that every model has for TensorFlow Serving's clients."""

from dataclasses import dataclass

from progan_service.serving.errors import InvalidArgument
from progan_service.store.metadata import ModelMetadata


@dataclass(frozen=True)
class Signature:
    """What goes in and what comes out. A model with labels takes `labels`, too.

    rows     the input that says which images: latents or seeds
    output   its name. TensorFlow Serving's JSON has base64 for outputs whose names end in _bytes
    dtype    of the output
    """

    name: str
    rows: str
    output: str
    dtype: str

    def inputs(self, metadata: ModelMetadata) -> tuple[str, ...]:
        return (self.rows, "labels") if metadata.label_count else (self.rows,)

    def input_shape(self, name: str, metadata: ModelMetadata) -> tuple[int, ...]:
        """Return the shape of an input; -1 for the number of images."""
        sizes = {"latents": (metadata.latent_size,), "labels": (metadata.label_count,), "seeds": ()}
        return -1, *sizes[name]

    def output_shape(self, metadata: ModelMetadata) -> tuple[int, ...]:
        if self.is_file:
            return (-1,)
        return -1, metadata.resolution, metadata.resolution, metadata.channels

    @property
    def is_file(self) -> bool:
        return self.output == "image_bytes"


SIGNATURES = {
    signature.name: signature
    for signature in (
        Signature("serving_default", "latents", "images", "DT_FLOAT"),
        Signature("generate_uint8", "latents", "images", "DT_UINT8"),
        Signature("generate_png", "latents", "image_bytes", "DT_STRING"),
        Signature("seeds_uint8", "seeds", "images", "DT_UINT8"),
        Signature("seeds_png", "seeds", "image_bytes", "DT_STRING"),
    )
}
INPUT_TYPES = {"latents": "DT_FLOAT", "labels": "DT_FLOAT", "seeds": "DT_UINT64"}


def signature_of(name: str) -> Signature:
    """Return a signature by its name; serving_default for ''. Raise InvalidArgument, in TensorFlow Serving's words."""
    try:
        return SIGNATURES[name or "serving_default"]
    except KeyError:
        known = ", ".join(SIGNATURES)
        raise InvalidArgument(
            "Serving signature name", f'"{name[:100]}" not found in signature def; there are {known}'
        ) from None

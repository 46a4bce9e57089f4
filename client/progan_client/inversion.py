"""The latents that were found for pictures."""

from dataclasses import dataclass
from typing import Literal

from progan_client.images import GeneratedImages, Latents

InversionEnd = Literal["enough", "budget", "no_gain", "deadline", "unspecified"]


@dataclass(frozen=True, eq=False)
class InversionReport:
    """How far the search for one picture is.

    `picture`      its index in the request.
    `evaluations`  of the gradient, so far.
    `psnr_db`      of the image of `latent`.
    `latent`       float32 [L], the best so far.
    """

    picture: int
    evaluations: int
    psnr_db: float
    latent: Latents


@dataclass(frozen=True, eq=False, repr=False)
class Inversion:
    """The latents that were found for P pictures, in the order of the request.

    `latents`      float32 [P, L]; edit them by `generate(latents=found.latents, edits=...)`.
    `labels`       float32 [P, K], given or found; None for a model without labels.
    `psnr_db`      P numbers: how near the images are to the pictures as they were scaled.
    `evaluations`  P numbers: of the gradient.
    `ends`         why each ended: "enough", "budget", "no_gain" (it comes no nearer) or "deadline".
    `images`       GeneratedImages of the latents.
    """

    latents: Latents
    labels: Latents | None
    psnr_db: tuple[float, ...]
    evaluations: tuple[int, ...]
    ends: tuple[InversionEnd, ...]
    images: GeneratedImages

    def __repr__(self) -> str:
        found = ", ".join(f"{psnr:.1f} dB" for psnr in self.psnr_db)
        return f"<Inversion: {found}, {self.images.model.name} version {self.images.model.version}>"

    def _repr_png_(self) -> bytes | None:
        """Show the images where a notebook asks for it."""
        return self.images._repr_png_()

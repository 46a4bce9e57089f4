"""A stream that broke goes on: the same request with `first_index` gives the rest, equal to the bit."""

from collections.abc import Iterator

import grpc
import numpy as np
import pytest

from progan_protos.v1 import image_generator_pb2 as pb
from progan_protos.v1 import image_generator_pb2_grpc as pb_grpc

PATIENCE_S = 60
COUNT = 45

LATENTS = np.random.default_rng(7).standard_normal((COUNT, 16)).astype("<f4")
VECTORS = pb.Latents(vectors=pb.FloatMatrix(rows=COUNT, columns=16, values=LATENTS.tobytes()))
SEEDS = pb.Latents(seeds=pb.SeedList(seeds=range(1000, 1000 + 3 * COUNT, 3)))
RANGE = pb.Latents(seed_range=pb.SeedRange(first_seed=2**64 - 20, count=COUNT))  # passes the largest seed
PNG = pb.OutputFormat(encoding=pb.IMAGE_ENCODING_PNG)  # holds the seed


@pytest.fixture
def stub(server_target: str) -> Iterator[pb_grpc.ImageGeneratorServiceStub]:
    with grpc.insecure_channel(server_target) as channel:
        yield pb_grpc.ImageGeneratorServiceStub(channel)


def received(replies: Iterator[pb.StreamGenerateResponse | pb.InterpolateResponse]) -> list[tuple[int, bytes, bytes]]:
    """Index, file and latent of each image."""
    images = []
    for reply in replies:
        for place, file in enumerate(reply.images.files):
            size = 4 * reply.latents.columns
            latent = reply.latents.values[place * size : (place + 1) * size]
            images.append((reply.first_index + place, file, latent))
    return images


@pytest.mark.parametrize("latents", [VECTORS, SEEDS, RANGE], ids=["vectors", "seeds", "range"])
@pytest.mark.parametrize("first", [1, 17, COUNT - 1])
def test_the_rest_of_a_stream(stub: pb_grpc.ImageGeneratorServiceStub, latents: pb.Latents, first: int) -> None:
    request = pb.StreamGenerateRequest(latents=latents, format=PNG)
    whole = received(stub.StreamGenerate(request, timeout=PATIENCE_S))
    request.first_index = first
    assert [index for index, _, _ in whole] == list(range(COUNT))
    assert received(stub.StreamGenerate(request, timeout=PATIENCE_S)) == whole[first:]


@pytest.mark.parametrize("path", [pb.INTERPOLATION_PATH_SPHERICAL, pb.INTERPOLATION_PATH_LINEAR])
@pytest.mark.parametrize("first", [1, 8, 20, 31])
def test_the_rest_of_a_walk(stub: pb_grpc.ImageGeneratorServiceStub, path: pb.InterpolationPath, first: int) -> None:
    keys = pb.Latents(seeds=pb.SeedList(seeds=[1, 2, 3, 4]))
    request = pb.InterpolateRequest(key_frames=keys, frames_between=7, path=path, loop=True, format=PNG)
    whole = received(stub.Interpolate(request, timeout=PATIENCE_S))
    request.first_index = first
    assert [index for index, _, _ in whole] == list(range(32))
    assert received(stub.Interpolate(request, timeout=PATIENCE_S)) == whole[first:]


def test_an_index_behind_the_last_image_is_refused(stub: pb_grpc.ImageGeneratorServiceStub) -> None:
    images = pb.StreamGenerateRequest(latents=RANGE, first_index=COUNT)
    walk = pb.InterpolateRequest(key_frames=pb.Latents(seeds=pb.SeedList(seeds=[1, 2])), first_index=2**64 - 1)
    with pytest.raises(grpc.RpcError) as refused:
        next(stub.StreamGenerate(images, timeout=PATIENCE_S))
    assert refused.value.details() == "first_index: is 45; must be below 45, the number of images"
    with pytest.raises(grpc.RpcError) as refused:
        next(stub.Interpolate(walk, timeout=PATIENCE_S))
    assert refused.value.details() == "first_index: is 18446744073709551615; must be below 2, the number of images"

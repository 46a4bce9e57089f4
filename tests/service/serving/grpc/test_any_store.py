"""Whatever a store's files say, they are read or refused with a sentence, and what is read can be sent."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from progan_protos.v1 import image_generator_pb2 as pb
from progan_service.serving.models.model import Model
from progan_service.serving.protocols.progan_v1 import reply
from progan_service.store.metadata import ModelMetadata
from progan_service.store.store import ModelStore
from progan_service.store.watcher import StoreWatcher

METADATA = ModelMetadata(
    16, 8, 3, 1, ("a",), {"license": "MIT", "source": "s"}, {"0": "0.png"}, {"0.png": "0" * 64}, bfloat16_psnr_db=40.0
)
DOCUMENTS = {
    "progan.json": json.loads(METADATA.to_json()),
    "rollout.json": {"format_version": 1, "pinned": 1, "labels": {"canary": 1}},
}

TEXT = st.text(st.characters(exclude_categories=()))  # halves of characters, too
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([2**31, 2**32, 2**40, 2**64, 10**18, 10**40, -1])
    | st.floats()
    | TEXT
)
JSON = st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner), max_leaves=20)


def nested(depth: int, *, lists: bool) -> Any:
    value: Any = 0
    for _ in range(depth):
        value = [value] if lists else {"in": value}
    return value


DEEP = st.builds(nested, st.integers(1, 30), lists=st.booleans())


@st.composite
def documents(draw: st.DrawFn, name: str) -> Any:
    """A file of a store in which any value anywhere may have become another one, or come in addition."""
    document = json.loads(json.dumps(DOCUMENTS[name]))
    for _ in range(draw(st.integers(1, 3))):
        place = document
        key = draw(st.sampled_from(sorted(place)) | TEXT)
        if isinstance(place.get(key), dict) and draw(st.booleans()):
            place = place[key]
            key = draw(st.sampled_from(sorted(place)) | TEXT) if place else draw(TEXT)
        place[key] = draw(JSON | DEEP)
    return draw(st.just(document) | JSON) if draw(st.booleans()) else document


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    (tmp_path / "any" / "1").mkdir(parents=True)
    return ModelStore(tmp_path)


@given(metadata=documents("progan.json"), rollout=documents("rollout.json"))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_any_json_is_read_and_can_be_sent_or_is_refused(store: ModelStore, metadata: Any, rollout: Any) -> None:
    (store.path("any", 1) / "progan.json").write_text(json.dumps(metadata))
    (store.root / "any" / "rollout.json").write_text(json.dumps(rollout))
    model = Model("any")
    model.update(StoreWatcher(store).look("any"))
    (status,) = model.versions
    assert (status.metadata is None) == bool(status.error)
    sent = pb.ListModelsResponse(models=[reply.Models().message(model, is_default=True)]).SerializeToString()
    (received,) = pb.ListModelsResponse.FromString(sent).models
    assert received.versions[0].error == status.error
    if status.metadata:
        assert received.versions[0].latent_size == status.metadata.latent_size

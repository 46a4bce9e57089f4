"""A version is named by its number or by a label, in the words of each protocol."""

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import numpy as np
import pytest
from open_inference import Caller, inference
from tf_serving import Tensorflow, predict
from web import Web

from progan_service.serving.config import ServerConfig
from progan_service.serving.server import Server
from progan_service.store.rollout import Rollout
from progan_service.store.store import ModelStore

SEED = np.array([1], np.uint64)
NO_VERSION = "NOT_FOUND model 'puppet' has no version 99"
NO_LABEL = "model 'puppet' has no version label 'nightly'; it has: stable"


@pytest.fixture(scope="module")
def server(publish_puppet: Any, run_server: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Versions 1 and 2 of a puppet. The first one has the label `stable`; the second one answers who names none."""
    store = tmp_path_factory.mktemp("versions")
    for _ in range(2):
        publish_puppet(store, "puppet")
    ModelStore(store).set_rollout("puppet", Rollout(labels={"stable": 1}))
    with run_server(ServerConfig(store, port=0, http_port=0, lame_duck_s=0)) as server:
        yield server


def test_by_the_open_inference_protocol(server: Server) -> None:
    caller = Caller(f"127.0.0.1:{server.port}")

    def version(named: str, **parameters: Any) -> str:
        request = inference("puppet", named, parameters=parameters, seeds=SEED)
        return str(caller.send("ModelInfer", request).model_version)

    with closing(caller.channel):
        assert [version(named) for named in ("", "1", "2", "stable")] == ["2", "1", "2", "1"]
        assert version("", version_label="stable") == "1"
        for named, refusal in (("99", NO_VERSION), ("nightly", f"NOT_FOUND {NO_LABEL}")):
            assert caller.refusal("ModelInfer", inference("puppet", named, seeds=SEED)).startswith(refusal)
        both = inference("puppet", "2", parameters={"version_label": "stable"}, seeds=SEED)
        assert caller.refusal("ModelInfer", both).startswith("INVALID_ARGUMENT ")
        assert list(caller.ask("ModelMetadata", name="puppet").versions) == ["1", "2"]


def test_by_tensorflow_serving(server: Server) -> None:
    caller = Tensorflow(f"127.0.0.1:{server.port}")

    def version(**named: Any) -> int:
        reply = caller.send("Predict", predict("puppet", "seeds_uint8", seeds=SEED, **named))
        return int(reply.model_spec.version.value)

    with closing(caller.channel):
        assert [version(), version(version=1), version(label="stable"), version(label="2")] == [2, 1, 1, 2]
        refusal = caller.refusal("Predict", predict("puppet", label="nightly"))
        assert refusal == ("INVALID_ARGUMENT Unrecognized servable version label: nightly; model 'puppet' has: stable")
        stable = {"name": "puppet", "version_label": "stable"}
        assert [each.version for each in caller.ask("GetModelStatus", model_spec=stable).model_version_status] == [1]


@pytest.mark.parametrize(("path", "version"), [("", "2"), ("/versions/1", "1"), ("/versions/stable", "1")])
def test_by_rest_v2(server: Server, path: str, version: str) -> None:
    answer = Web(server.http_port).post(f"/v2/models/puppet{path}/infer", {"parameters": {"seed": 1}})
    assert answer.json["model_version"] == version
    both = {"parameters": {"seed": 1, "version_label": "stable"}}
    assert Web(server.http_port).post(f"/v2/models/puppet{path}/infer", both).status == (400 if path else 200)


@pytest.mark.parametrize(("path", "version"), [("/versions/2", 2), ("/labels/stable", 1), ("/labels/2", 2)])
def test_by_rest_v1(server: Server, path: str, version: int) -> None:
    web = Web(server.http_port)
    content = {"signature_name": "seeds_uint8", "instances": [1]}
    assert web.post(f"/v1/models/puppet{path}:predict", content).status == 200
    [state] = web.get(f"/v1/models/puppet{path}").json["model_version_status"]
    assert (state["version"], state["state"]) == (str(version), "AVAILABLE")
    assert web.get(f"/v1/models/puppet{path}/metadata").json["model_spec"]["version"] == str(version)

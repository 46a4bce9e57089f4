"""What the server tells of its models."""

import json
import re
from pathlib import Path

from progan_v1 import PATIENCE_S, Guest, Publish, configured, guest, refusal

from progan_protos.v1 import image_generator_pb2 as pb


def test_models_are_listed_by_name_with_the_state_of_each_version(puppets: Guest) -> None:
    models = puppets.stub.ListModels(pb.ListModelsRequest(), timeout=PATIENCE_S).models
    assert [(model.name, model.is_default) for model in models] == [
        ("labelled", False),
        ("puppet", True),
        ("wide", False),
    ]
    assert [(version.version, version.state) for version in models[1].versions] == [
        (3, pb.MODEL_STATE_FAILED),
        (2, pb.MODEL_STATE_READY),
        (1, pb.MODEL_STATE_AVAILABLE),
    ]


def test_a_model_tells_its_sizes_labels_and_provenance(puppets: Guest) -> None:
    model = puppets.stub.GetModel(pb.GetModelRequest(name="labelled"), timeout=PATIENCE_S).model
    (version,) = model.versions
    assert (version.latent_size, version.resolution, version.channels, version.label_count) == (4, 4, 3, 2)
    assert list(version.label_names) == ["label 0", "label 1"]
    assert dict(version.provenance) == {"source": "tests", "images_shown": 1200}
    assert re.fullmatch("sha256:[0-9a-f]{64}", version.digest)


def test_get_model_without_a_name_is_the_default_model(puppets: Guest) -> None:
    model = puppets.stub.GetModel(pb.GetModelRequest(), timeout=PATIENCE_S).model
    assert (model.name, model.is_default) == ("puppet", True)


def test_a_version_that_failed_says_why(puppets: Guest) -> None:
    newest = puppets.stub.GetModel(pb.GetModelRequest(), timeout=PATIENCE_S).model.versions[0]
    assert "saved_model.pb: differs from what was published" in newest.error


def test_a_version_without_bfloat16_fails_where_that_is_asked_for(tmp_path: Path, publish_puppet: Publish) -> None:
    publish_puppet(tmp_path, "puppet")
    with guest(configured(tmp_path, precision="bfloat16")) as host:
        (version,) = host.stub.GetModel(pb.GetModelRequest(), timeout=PATIENCE_S).model.versions
    assert version.state == pb.MODEL_STATE_FAILED
    assert version.error.startswith("precision bfloat16 needs a version with the signature generate_uint8_bfloat16: ")


def test_get_model_of_an_unknown_model_is_not_found(puppets: Guest) -> None:
    refused = refusal(lambda: puppets.stub.GetModel(pb.GetModelRequest(name="cats"), timeout=PATIENCE_S))
    assert (refused.code, refused.reason) == ("NOT_FOUND", "MODEL_NOT_FOUND")


def test_what_the_wire_cannot_carry_of_a_provenance_is_left_out(tmp_path: Path, publish_puppet: Publish) -> None:
    publish_puppet(tmp_path, "puppet")
    file = tmp_path / "puppet" / "1" / "progan.json"
    strange = {"source": "tests", "torn": "\ud800", "huge": 10**400, "deep": {"huge": [10**400]}, "\ud800": 1}
    file.write_text(json.dumps(json.loads(file.read_text()) | {"provenance": strange}))
    with guest(configured(tmp_path)) as host:
        (version,) = host.stub.GetModel(pb.GetModelRequest(), timeout=PATIENCE_S).model.versions
    assert dict(version.provenance) == {"source": "tests"}


def test_of_several_models_without_a_default_one_must_be_named(puppet_store: Path) -> None:
    with guest(configured(puppet_store, model=""), loaded=False) as host:
        generate = refusal(lambda: host.generate((0, 0, 0, 1)))
        get_model = refusal(lambda: host.stub.GetModel(pb.GetModelRequest(), timeout=PATIENCE_S))
    assert (generate.code, generate.field) == ("INVALID_ARGUMENT", "model.name")
    assert (get_model.code, get_model.field) == ("INVALID_ARGUMENT", "name")

"""What the Open Inference Protocol says about the server and its models."""

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from open_inference import Caller, inference

from progan_service import __version__
from progan_service.serving.config import ServerConfig
from progan_service.serving.server import Server


def test_the_server_lives_and_is_ready(caller: Any) -> None:
    assert caller.ask("ServerLive").live
    assert caller.ask("ServerReady").ready


@pytest.mark.parametrize(
    ("name", "version", "ready"),
    [
        ("puppet", "", True),
        ("", "", True),
        ("puppet", "2", True),
        ("puppet", "1", False),  # in the store, not loaded
        ("puppet", "99", False),
        ("puppet", "nightly", False),  # no such label
        ("nobody", "", False),
    ],
)
def test_a_model_is_ready_or_not_and_what_is_unknown_is_not(caller: Any, name: str, version: str, ready: bool) -> None:
    assert caller.ask("ModelReady", name=name, version=version).ready is ready


async def test_health_is_told_while_models_load_and_while_the_server_drains(puppet_store: Path, hold: Path) -> None:
    server = Server(ServerConfig(puppet_store, port=0, http_port=0, lame_duck_s=0, model="puppet"))
    await server.start()
    caller = Caller(f"127.0.0.1:{server.port}")

    def health() -> list[bool]:
        live, ready = caller.ask("ServerLive").live, caller.ask("ServerReady").ready
        return [live, ready, caller.ask("ModelReady", name="puppet").ready]

    assert await asyncio.to_thread(health) == [True, False, False]
    await server.refresh()
    assert await asyncio.to_thread(health) == [True, True, True]
    waiting = inference("puppet", latents=np.array([[0, 0, 99, 0]], np.float32))  # until `hold` is gone
    running = asyncio.create_task(asyncio.to_thread(caller.send, "ModelInfer", waiting))
    while not server._gate.inside:
        await asyncio.sleep(0.005)
    stopping = asyncio.create_task(server.stop())
    refusal = await asyncio.to_thread(caller.refusal, "ModelInfer", inference("puppet", parameters={"seed": 1}))
    assert refusal == "UNAVAILABLE the server is shutting down; ask another one"
    assert await asyncio.to_thread(health) == [True, False, False]
    hold.unlink()
    assert [output.name for output in (await running).outputs] == ["images"]
    await stopping
    caller.channel.close()


def test_the_server_names_what_it_can_do(caller: Any) -> None:
    server = caller.ask("ServerMetadata")
    assert (server.name, server.version) == ("progan", __version__)
    assert sorted(server.extensions) == [
        "binary_tensor_data",
        "model_configuration",
        "model_repository",
        "parameters",
        "schedule_policy",
        "statistics",
    ]


def tensors(declared: Any) -> list[tuple[str, str, list[int]]]:
    return [(tensor.name, tensor.datatype, list(tensor.shape)) for tensor in declared]


def test_a_model_declares_two_ways_to_ask_and_one_output(caller: Any) -> None:
    puppet = caller.ask("ModelMetadata", name="puppet")
    assert (puppet.name, list(puppet.versions), puppet.platform) == ("puppet", ["2"], "progan")
    assert tensors(puppet.inputs) == [("latents", "FP32", [-1, 4]), ("seeds", "UINT64", [-1, 1])]
    assert tensors(puppet.outputs) == [("images", "UINT8", [-1, 4, 4, 3])]
    labelled = caller.ask("ModelMetadata", name="labelled")
    assert tensors(labelled.inputs)[2] == ("labels", "FP32", [-1, 2])


def test_a_configuration_has_what_load_generators_need(caller: Any) -> None:
    config = caller.ask("ModelConfig", name="labelled").config
    assert (config.name, config.platform, config.backend) == ("labelled", "progan", "progan")
    assert config.max_batch_size == 256
    assert [(each.name, each.data_type, list(each.dims), each.optional) for each in config.input] == [
        ("latents", 11, [4], True),
        ("seeds", 5, [1], True),
        ("labels", 11, [2], False),
    ]
    assert [(each.name, each.data_type, list(each.dims)) for each in config.output] == [("images", 2, [4, 4, 3])]
    assert list(config.dynamic_batching.preferred_batch_size) == [4]
    assert not config.model_transaction_policy.decoupled
    assert config.parameters["extra_outputs"].string_value == "files,latents"


def test_the_largest_batch_is_what_fits_into_a_reply(caller: Any) -> None:
    assert caller.ask("ModelConfig", name="wide").config.max_batch_size == 256  # 256 x 196,624 bytes
    reply_bytes = 64 * 2**20 - 64 * 2**10
    assert reply_bytes // (256 * 256 * 3 + 4 * 4) == 340


def test_an_unknown_model_or_version_is_not_found(caller: Any) -> None:
    for rpc in ("ModelMetadata", "ModelConfig", "ModelStatistics"):
        assert caller.refusal(rpc, name="nobody").startswith("NOT_FOUND no model 'nobody'; this server has: labelled")
    assert caller.refusal("ModelMetadata", name="puppet", version="99").startswith("NOT_FOUND")
    assert "has no version label 'nightly'" in caller.refusal("ModelConfig", name="puppet", version="nightly")
    assert caller.refusal("ModelReady", name="puppet", version="9" * 30) == (
        f"INVALID_ARGUMENT model_version: is {'9' * 30}; no version has so high a number"
    )


def test_the_index_lists_every_version_and_why_one_cannot_serve(caller: Any) -> None:
    versions = {(each.name, each.version): each for each in caller.ask("RepositoryIndex").models}
    assert {key: each.state for key, each in versions.items()} == {
        ("labelled", "1"): "READY",
        ("puppet", "1"): "UNAVAILABLE",
        ("puppet", "2"): "READY",
        ("puppet", "3"): "UNAVAILABLE",
        ("wide", "1"): "READY",
    }
    assert "saved_model.pb" in versions["puppet", "3"].reason
    ready = caller.ask("RepositoryIndex", ready=True).models
    assert [(each.name, each.version) for each in ready] == [("labelled", "1"), ("puppet", "2"), ("wide", "1")]


def test_the_store_decides_what_is_loaded(caller: Any) -> None:
    assert caller.ask("RepositoryModelLoad", model_name="wide").isLoaded
    assert caller.ask("RepositoryModelLoad", repository_name="wide").model_name == "wide"  # as KServe numbers it
    assert caller.refusal("RepositoryModelLoad", model_name="nobody").startswith("NOT_FOUND no model 'nobody'")
    files = {"config": {"string_param": "{}"}, "file:1/model": {"bytes_param": b"x"}}
    assert caller.refusal("RepositoryModelLoad", model_name="wide", parameters=files) == (
        "INVALID_ARGUMENT parameters: holds config, file:1/model; the files of a model come from the store alone"
    )
    assert caller.refusal("RepositoryModelUnload", model_name="wide") == (
        "FAILED_PRECONDITION the store decides which models are loaded; take 'wide' out of it"
    )


def test_what_the_server_does_not_have_is_off_and_cannot_be_turned_on(caller: Any) -> None:
    for memory in ("System", "Cuda"):
        assert not caller.ask(f"{memory}SharedMemoryStatus").regions
        caller.ask(f"{memory}SharedMemoryUnregister")
    assert caller.refusal("SystemSharedMemoryRegister", name="mine", key="/mine", byte_size=4) == (
        "UNIMPLEMENTED shared memory is not supported; send the values in the request"
    )
    assert caller.refusal("CudaSharedMemoryRegister", name="mine").startswith("UNIMPLEMENTED CUDA shared memory")
    assert list(caller.ask("TraceSetting").settings["trace_level"].value) == ["OFF"]
    assert caller.ask("LogSettings").settings["log_info"].bool_param
    assert caller.refusal("TraceSetting", settings={"trace_level": {"value": ["TIMESTAMPS"]}}).startswith(
        "UNIMPLEMENTED traces are set when the server starts"
    )
    assert caller.refusal("LogSettings", settings={"log_info": {"bool_param": False}}) == (
        "UNIMPLEMENTED the log is set when the server starts: --log-level"
    )

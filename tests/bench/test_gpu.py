"""What `make bench-gpu` measures, and what it says of what cannot be had; no GPU is needed for that."""

import os
import subprocess
import sys
from pathlib import Path

import gpu
import pytest
import tensorflow as tf
from contenders.protocol import PRODUCT_SIDES
from generator import OURS, ROOT, Contender, Entry, measured_peaks, reason, row
from picture import origin
from results import Row
from training import rates

from progan_service.export.exportable import Exportable
from progan_service.export.version import export_version
from progan_service.model.config import NetworkConfig
from progan_service.store.store import ModelStore

TOY = """
import sys
import numpy as np

device, variant, weights, latents, out = sys.argv[1:]
np.save(out, np.zeros([8, 4, 4, 3], np.uint8))
print("ready", device, flush=True)
for line in sys.stdin:
    batch = int(line.split()[0])
    if batch > 64:
        raise MemoryError(f"no room for {batch} images")
    print(10.0 * batch, flush=True)
"""


@pytest.fixture
def toy(tmp_path: Path) -> Contender:
    """A contender after its turns: 10 images/s for each image of a batch, of which there are at most 64."""
    (tmp_path / "toy.py").write_text(TOY)
    return gpu.measured(Entry("Toy", OURS, str(tmp_path / "toy.py"), "plain-fp32"), tmp_path)


def test_without_a_gpu_it_says_so_in_one_sentence_and_ends_well() -> None:
    hidden = os.environ | {"CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = (sys.executable, "tests/bench/gpu.py")
    done = subprocess.run(command, cwd=ROOT, env=hidden, capture_output=True, text=True, timeout=300)
    assert (done.stdout, done.stderr, done.returncode) == (
        "TensorFlow sees no GPU here, so nothing is measured: `make bench` measures CPUs.\n",
        "",
        0,
    )


def test_every_network_is_measured_in_every_precision_beside_the_peak_of_each() -> None:
    assert [f"{entry.library} {entry.variant}" for entry in gpu.ENTRIES] == [
        *("TensorFlow fp32", "TensorFlow tf32", "TensorFlow bf16"),
        "TensorFlow plain-fp32",
        *("TensorFlow fused-fp32", "TensorFlow fused-tf32", "TensorFlow fused-bf16"),
        *("TensorFlow xla-fp32", "TensorFlow xla-tf32", "TensorFlow xla-bf16"),
        *("TensorFlow exported-fp32", "TensorFlow exported-tf32", "TensorFlow exported-bf16"),
        *("PyTorch eager-fp32", "PyTorch eager-tf32", "PyTorch eager-bf16"),
        *("PyTorch compiled-fp32", "PyTorch compiled-tf32", "PyTorch compiled-bf16"),
    ]


def test_what_a_contender_did_counts_though_a_larger_batch_ended_it(toy: Contender) -> None:
    peaks = {"fp32": 1.28e12}
    assert row(toy, 64, toy, 1e9, peaks) == Row("Toy gpu, plain fp32", 640.0, "images/s", "50% of the peak")
    failure = "failed: MemoryError: no room for 256 images"
    assert row(toy, 256, toy, 1e9, peaks) == Row("Toy gpu, plain fp32", 0.0, "images/s", failure)


def test_without_a_peak_and_a_reference_the_rate_stands_alone(toy: Contender, tmp_path: Path) -> None:
    nothing = Contender(Entry("Toy", OURS, "no_such_contender.py", "plain-fp32"), tmp_path, "gpu")
    nothing.end()
    assert row(toy, 64, nothing, 1e9, {}) == Row("Toy gpu, plain fp32", 640.0, "images/s")


def test_the_reason_is_the_last_line_of_a_log_that_names_an_error() -> None:
    assert reason("I am loading\nResourceExhaustedError: Graph execution error:\n\nDetected at node") == (
        "ResourceExhaustedError: Graph execution error:"
    )
    assert reason("a warning\nthis PyTorch sees no GPU\n") == "this PyTorch sees no GPU"


def test_a_library_that_is_not_installed_is_named(toy: Contender, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "ENTRIES", [toy.entry, Entry("PyTorch", "nowhere/bin/python", "pytorch.py", "eager-tf32")])
    assert gpu.generator_rows([toy], 16, 1e9) == [
        Row("Toy gpu, plain fp32", 160.0, "images/s"),
        Row("PyTorch, eager tf32", 0.0, "images/s", "not installed"),
    ]


def test_peaks_are_operations_of_products_and_the_best_batch_is_the_exported_generators(
    toy: Contender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(toy, "entry", Entry("TensorFlow", OURS, "matrix_products.py", "tf32"))
    assert measured_peaks([toy], 1, "gpu") == {"tf32": 2 * PRODUCT_SIDES["gpu"] ** 3 * 10.0}
    assert gpu.best_rates([toy]) == {}
    monkeypatch.setattr(toy, "entry", Entry("TensorFlow", OURS, "tensorflow_graph.py", "exported-tf32"))
    assert gpu.best_rates([toy]) == {"tf32": 640.0}


def test_only_fp32_forbids_tf32() -> None:
    assert [gpu.environment(precision) for precision in ("fp32", "tf32", "bf16")] == [
        {"NVIDIA_TF32_OVERRIDE": "0"},
        {},
        {},
    ]


def test_a_server_that_refuses_a_precision_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The version here is a grey picture, exported without bfloat16."""
    grey = Exportable(
        lambda latents, _: tf.zeros([tf.shape(latents)[0], 4, 4, 3]), 16, 4, 3, provenance={"source": "t"}
    )
    export_version(grey, ModelStore(tmp_path), "grey")
    for name, value in (("PRECISIONS", ("fp32", "bf16")), ("LARGEST_BATCHES", (16,)), ("ROUNDS", 1), ("SECONDS", 0.1)):
        monkeypatch.setattr(gpu, name, value)
    one, eight, refused = gpu.serving_rows(tmp_path, 1e9, {"fp32": 1e12}, {"fp32": 1000.0})
    assert one.what == "server, 32 callers, fp32, batches up to 16, calls of 1"
    assert eight.what == "server, 32 callers, fp32, batches up to 16, calls of 8"
    assert (
        eight.note == f"{eight.value / 1000:.2f} of the exported generator's best; {eight.value / 1000:.0%} of the peak"
    )
    assert (refused.what, refused.value) == ("server, 32 callers, bf16, batches up to 16", 0.0)
    assert "precision bfloat16 needs a version with the signature" in refused.note


def test_a_training_step_states_its_share_of_the_peak_and_one_that_fails_is_named() -> None:
    network = NetworkConfig(resolution=8, fmap_base=64, fmap_max=16)
    (step,) = rates(network, 8, 4, [("tf32", True)], side=64)
    assert (step.what, step.unit) == ("8x8, tf32 fused", "images/s")
    assert step.value > 0
    assert step.note.endswith("% of the peak")
    assert gpu.step_rows(network, 8, "int4", side=64) == [Row("8x8, int4 fused", 0.0, "images/s", "failed: 'int4'")]


def test_golden_tests_are_one_row_that_says_what_failed() -> None:
    assert gpu.tests_row("golden", 0, "....\n34 passed in 9.87s\n") == Row("golden", 34.0, "tests passed")
    assert gpu.tests_row("golden", 1, "F\nFAILED a\n1 failed, 33 passed in 9.87s\n") == (
        Row("golden", 33.0, "tests passed", "failed: 1 failed, 33 passed in 9.87s")
    )
    assert gpu.tests_row("golden", 1, "No module named pytest") == (
        Row("golden", 0.0, "tests passed", "failed: No module named pytest")
    )


def test_the_picture_names_the_gpu() -> None:
    machine = {"processor": "a CPU", "cpus": 2, "memory_gib": 8, "system": "Linux", "versions": {}}
    result = {"machine": machine | {"gpu": "a GPU"}, "commit": "", "date": "2026-11-29T22:00:00+00:00"}
    assert origin([result])[0] == "a GPU, a CPU, 2 CPUs, 8 GiB, Linux"

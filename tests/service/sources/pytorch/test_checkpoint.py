"""Of a checkpoint nothing comes but a generator's plain data; nothing in it is run, and what lies is refused."""

import io
import os
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from progan_service.sources.pickles.restricted import RefusedPickleError
from progan_service.sources.pickles.stored import StoredGenerator
from progan_service.sources.pytorch import checkpoint
from progan_service.sources.pytorch.checkpoint import read_generator

FIRST = np.arange(96, dtype=np.float32).reshape(2, 3, 4, 4)
FORMATS = ["save", "save_as_before"]


def saved(torch: Any, form: str = "save", **different: Any) -> bytes:
    """A tiny state_dict; it need not be a whole generator."""
    state = {"lod": torch.Tensor(np.array(1.5, np.float32)), "layer0.weight": torch.Tensor(FIRST)} | different
    return getattr(torch, form)({"generator": state})  # type: ignore[no-any-return]


@pytest.mark.parametrize("form", FORMATS)
def test_a_checkpoint_becomes_plain_data(form: str, torch: Any) -> None:
    generator = read_generator(saved(torch, form))
    assert (generator.name, generator.builder, generator.arguments) == ("generator", "genforce", {})
    assert list(generator.variables) == ["lod", "layer0.weight"]
    assert generator.variables["lod"] == 1.5
    np.testing.assert_array_equal(generator.variables["layer0.weight"], FIRST)


@pytest.mark.parametrize("form", FORMATS)
def test_views_of_one_storage(form: str, torch: Any) -> None:
    numbers = np.arange(24, dtype=np.float32)
    base = numbers.reshape(4, 6)[:]
    generator = read_generator(saved(torch, form, a=torch.Tensor(base.T), b=torch.Tensor(base[1:3, 2:])))
    np.testing.assert_array_equal(generator.variables["a"], np.arange(24).reshape(4, 6).T)
    np.testing.assert_array_equal(generator.variables["b"], [[8, 9, 10, 11], [14, 15, 16, 17]])


def test_parameters_are_tensors(torch: Any) -> None:
    generator = read_generator(saved(torch, b=torch.Parameter(torch.Tensor(np.ones(2, np.float32)))))
    np.testing.assert_array_equal(generator.variables["b"], [1, 1])


@pytest.mark.parametrize("kind", ["f2", "f8", "i8"])
def test_weights_are_float32(kind: str, torch: Any) -> None:
    """Other numbers may be in a file, but not among the weights."""
    step = torch.Tensor(np.ones(2, kind))
    assert "lod" in read_generator(torch.save({"generator": {"lod": torch.Tensor(FIRST)}, "step": step})).variables
    with pytest.raises(RefusedPickleError, match=r"^layer0.bias is no tensor of float32 numbers$"):
        read_generator(saved(torch, **{"layer0.bias": step}))


# Attacks


class Call:
    """Pickled, a call of any function."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.function, self.arguments


@pytest.mark.parametrize("form", FORMATS)
def test_nothing_is_run(form: str, torch: Any, tmp_path: Path) -> None:
    call = Call(os.system, f"touch {tmp_path / 'marker'}")
    with pytest.raises(RefusedPickleError) as caught:
        read_generator(saved(torch, form, lod=call))
    assert str(caught.value) == (
        f"asks for {os.name}.system, which is no part of plain weights; it was not run. "
        "Save the state_dict() of the generator instead"
    )
    assert not (tmp_path / "marker").exists()


def pickled(torch: Any, data: bytes) -> bytes:
    """A checkpoint whose pickle is this."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("archive/data.pkl", data)
        archive.writestr("archive/data/0", np.zeros(4, np.float32).tobytes())
    return stream.getvalue()


STORAGE = b"(U\x07storagectorch\nFloatStorage\nU\x010U\x03cpuK\x04tQ"  # four numbers
TENSOR = b"ctorch._utils\n_rebuild_tensor_v2\n("
NO_HOOKS = b"\x89}tR"


def state(tensor: bytes) -> bytes:
    return b"\x80\x02}U\x09generator}U\x03lod" + tensor + b"ss."


@pytest.mark.parametrize(
    ("tensor", "sentence"),
    [
        (TENSOR + STORAGE + b"K\x00K\x04\x85K\x01\x85" + NO_HOOKS, ""),
        (TENSOR + STORAGE + b"K\x01K\x04\x85K\x01\x85" + NO_HOOKS, "lod is empty, or goes beyond its storage"),
        (TENSOR + STORAGE + b"K\x00K\x04\x85K\x02\x85" + NO_HOOKS, "lod is empty, or goes beyond its storage"),
        (TENSOR + STORAGE + b"K\x00K\x05\x85K\x00\x85" + NO_HOOKS, "lod is empty, or goes beyond its storage"),
        (TENSOR + STORAGE + b"K\x00K\x00\x85K\x01\x85" + NO_HOOKS, "lod is empty, or goes beyond its storage"),
        (TENSOR + STORAGE + b"J\xff\xff\xff\xffK\x01\x85K\x01\x85" + NO_HOOKS, "holds a tensor that goes beyond its"),
        (TENSOR + STORAGE + b"K\x00K\x01\x85J\xff\xff\xff\xff\x85" + NO_HOOKS, "holds a tensor that goes beyond its"),
        (TENSOR + STORAGE + b"K\x00K\x01\x85)" + NO_HOOKS, "holds a tensor with other strides than sides"),
        (TENSOR + STORAGE + b"K\x00J\xff\xff\xff\x7f\x85K\x01\x85" + NO_HOOKS, "holds an array with more than 4 sides"),
        (TENSOR + b"NK\x00K\x04\x85K\x01\x85" + NO_HOOKS, "holds a tensor without a storage"),
        (TENSOR + STORAGE + b"K\x00K\x04\x85K\x01\x85" + NO_HOOKS + b"}U\x06offsetK\x09sb", "changes an object after"),
        (STORAGE + b"}U\x06lengthK\x63sb", "changes an object after it is made"),
        (STORAGE, "lod is no tensor"),
        (STORAGE.replace(b"K\x04t", b"K\x05t"), "lod is no tensor"),
        (
            TENSOR + STORAGE.replace(b"K\x04t", b"K\x05t") + b"K\x00K\x04\x85K\x01\x85" + NO_HOOKS,
            "lod has not as many numbers as it says: the file is damaged",
        ),
        (STORAGE + b"0" + STORAGE.replace(b"K\x04t", b"K\x05t"), "holds a storage under two descriptions"),
        (b"(U\x06modulectorch\nFloatStorage\nU\x00U\x00tQ", "holds a whole module, not plain weights; save the"),
        (b"(U\x07storageNU\x010U\x03cpuK\x04tQ", "holds something other than tensors beside its pickle"),
        (b"NQ", "holds something other than tensors beside its pickle"),
        (b"ctorch\nFloatStorage\n)R", "holds a storage within its pickle"),
        (b"ctorch\nFloatStorage\n}U\x06numberK\x01sb", "changes an object after it is made"),
        (STORAGE.replace(b"K\x04t", b"J\xff\xff\xff\xfft"), "holds a storage that is not made the way PyTorch"),
        (TENSOR + STORAGE.replace(b"U\x010", b"U\x0299") + b"K\x00K\x04\x85K\x01\x85" + NO_HOOKS, "is damaged or cut"),
        (TENSOR + STORAGE.replace(b"U\x010", b"U\x03../") + b"K\x00K\x04\x85K\x01\x85" + NO_HOOKS, "is damaged or cut"),
    ],
)
def test_a_tensor_stays_within_its_storage(tensor: bytes, sentence: str, torch: Any) -> None:
    if not sentence:
        assert read_generator(pickled(torch, state(tensor))).variables["lod"].shape == (4,)
        return
    with pytest.raises(RefusedPickleError) as caught:
        read_generator(pickled(torch, state(tensor)))
    assert str(caught.value).startswith(sentence)


def test_one_storage_under_many_names(torch: Any) -> None:
    tensor = torch.Tensor(np.zeros(1000, np.float32))
    with pytest.raises(RefusedPickleError, match="^holds arrays that take more room than the file itself$"):
        read_generator(saved(torch, **{f"v{number}": tensor for number in range(100)}))


def zipped(members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "is empty"),
        (b"<html>Too many users</html>", "is no binary pickle (it begins with b'<html>Too ma')"),
        (b"PK\x03\x04 and no more", "is damaged or cut short (File is not a zip file)"),
        (zipped({"photo.png": b"x"}), "is a zip, but no checkpoint of PyTorch: it holds no data.pkl, or several"),
        (zipped({"a/data.pkl": b"x", "b/data.pkl": b"x"}), "is a zip, but no checkpoint of PyTorch: it holds no data"),
        (zipped({"a/data.pkl": b"x", "a/constants.pkl": b"x"}), "is a program of TorchScript; save the state_dict()"),
        (zipped({"a/data.pkl": b"\x80\x02N." * 99}, zipfile.ZIP_DEFLATED), "holds a compressed data.pkl, which no"),
        (pickle.dumps({"generator": 1}), "is a pickle, but no checkpoint of PyTorch"),
    ],
)
def test_what_is_no_checkpoint_is_refused(data: bytes, sentence: str) -> None:
    with pytest.raises(RefusedPickleError) as caught:
        read_generator(data)
    assert str(caught.value).startswith(sentence)


@pytest.mark.parametrize("form", FORMATS)
def test_a_file_cut_short_anywhere_is_refused(form: str, torch: Any) -> None:
    data = saved(torch, form)
    for length in range(len(data)):
        with pytest.raises(RefusedPickleError):
            read_generator(data[:length])


@settings(max_examples=300)
@given(st.integers(0), st.integers(1, 255), st.sampled_from(FORMATS))
def test_a_damaged_byte_is_refused_or_harmless(torch: Any, place: int, change: int, form: str) -> None:
    data = bytearray(saved(torch, form))
    data[place % len(data)] ^= change
    with suppress(RefusedPickleError):
        assert isinstance(read_generator(bytes(data)), StoredGenerator)


def test_the_reader_runs_without_tensorflow() -> None:
    code = "import sys; sys.modules['tensorflow'] = sys.modules['keras'] = None; "
    subprocess.run([sys.executable, "-c", f"{code}import {checkpoint.__name__}"], check=True, timeout=300)

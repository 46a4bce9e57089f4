"""Of a pickle nothing comes but a generator's plain data; nothing in it is run, and what is not plain is refused."""

import hashlib
import io
import os
import pickle
import re
import signal
import struct
import subprocess
import sys
import types
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from progan_service.sources.nvidia import networks_pickle
from progan_service.sources.nvidia.networks_pickle import read_generator
from progan_service.sources.pickles import process
from progan_service.sources.pickles.restricted import RefusedPickleError
from progan_service.sources.pickles.stored import StoredGenerator

DENSE = np.arange(6, dtype=np.float32).reshape(2, 3)
KWARGS = {"resolution": 4, "use_wscale": True, "fmap_decay": 1.0, "dtype": "float32", "latent_size": None}


class Network:
    """Stands in for the class of NVIDIA's program."""

    def __init__(self, **different: Any) -> None:
        self.state = {
            "version": 2,
            "name": "Gs",
            "build_func_name": "G_paper",
            "build_module_src": "raise SystemExit('source of the network')",
            "static_kwargs": KWARGS,
            "variables": [("lod", np.float32(1.5)), ("4x4/Dense/weight", DENSE)],
        } | different

    def __getstate__(self) -> dict[str, Any]:
        return self.state


PicklerInPython: Any = pickle._Pickler


class Python2Pickler(PicklerInPython):  # type: ignore[misc]
    """Texts and bytes are the same thing, and protocol 2 is the highest."""

    dispatch: ClassVar[dict[type, Any]] = dict(PicklerInPython.dispatch)

    def save_text(self, text: str | bytes) -> None:
        content = text.encode("latin1") if isinstance(text, str) else text
        self.write(pickle.BINSTRING + struct.pack("<i", len(content)) + content)
        self.memoize(text)

    dispatch[str] = dispatch[bytes] = save_text


def pickled(content: Any, protocol: int = 4, module: str = "tfutil", pickler: Any = pickle.Pickler) -> bytes:
    """As the program that the class Network comes from would write it; that program is gone afterwards."""
    stream = io.BytesIO()
    with pytest.MonkeyPatch.context() as patch:
        program = types.ModuleType(module)
        program.Network = Network  # type: ignore[attr-defined]
        patch.setitem(sys.modules, module, program)
        patch.setattr(Network, "__module__", module)
        pickler(stream, protocol).dump(content)
    return stream.getvalue()


def assert_the_network_above(generator: StoredGenerator) -> None:
    assert (generator.name, generator.builder, generator.arguments) == ("Gs", "G_paper", KWARGS)
    assert list(generator.variables) == ["lod", "4x4/Dense/weight"]
    assert generator.variables["lod"] == 1.5
    np.testing.assert_array_equal(generator.variables["4x4/Dense/weight"], [[0, 1, 2], [3, 4, 5]])


# Honest files


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("module", ["tfutil", "network"])
def test_a_network_becomes_plain_data(protocol: int, module: str) -> None:
    generator = read_generator(pickled(Network(), protocol, module))
    assert_the_network_above(generator)
    assert generator.discriminator == ()


def test_of_three_networks_the_averaged_generator_is_taken() -> None:
    discriminator = Network(name="D", variables=[("lod", np.float32(0)), ("8x8/Conv1_down/weight", DENSE)])
    data = pickled((Network(name="G", variables=[]), discriminator, Network()))
    generator = read_generator(data)
    assert_the_network_above(generator)
    assert generator.discriminator == ("lod", "8x8/Conv1_down/weight")


def test_the_file_is_known_by_its_digest() -> None:
    data = pickled(Network())
    assert read_generator(data).sha256 == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("core", [b"cnumpy.core.multiarray\n", b"cnumpy._core.multiarray\n"])
def test_numpy_has_had_two_names_for_its_core(core: bytes) -> None:
    data = re.sub(rb"cnumpy\._?core\.multiarray\n", core, pickled(Network(), 2))
    assert core in data
    assert_the_network_above(read_generator(data))


def test_a_file_of_python_2() -> None:
    data = pickled(Network(), 2, "network", Python2Pickler).replace(b"cnumpy._core.", b"cnumpy.core.")
    assert b"_codecs" not in data
    assert_the_network_above(read_generator(data))


def test_a_class_of_python_2_without_a_base() -> None:
    new, old = b"ctfutil\nNetwork\nq\x00)\x81", b"(ctfutil\nNetwork\nq\x00o"
    data = pickled(Network(), 2)
    assert new in data
    assert_the_network_above(read_generator(data.replace(new, old)))


def test_dictionaries_of_other_kinds() -> None:
    assert_the_network_above(read_generator(pickled(Network(static_kwargs=OrderedDict(KWARGS)))))
    easy = pickled(Network(static_kwargs=OrderedDict(KWARGS)), 2).replace(
        b"ccollections\nOrderedDict\n", b"cconfig\nEasyDict\n"
    )
    assert b"EasyDict" in easy
    assert_the_network_above(read_generator(easy))


@pytest.mark.parametrize("protocol", [2, 5])
def test_arrays_in_other_orders(protocol: int) -> None:
    variables = [("lod", np.float32(1.5)), ("4x4/Dense/weight", np.asfortranarray(DENSE.astype(">f4")))]
    generator = read_generator(pickled(Network(variables=variables), protocol))
    assert_the_network_above(generator)
    assert generator.variables["4x4/Dense/weight"].dtype == np.dtype("float32")


def test_a_number_of_numpy_is_a_plain_one() -> None:
    generator = read_generator(pickled(Network(static_kwargs={"resolution": np.int64(4)})))
    assert generator.arguments == {"resolution": 4}


def test_the_source_code_in_a_network_is_left_behind(tmp_path: Path) -> None:
    data = pickled(Network())
    assert b"source of the network" in data
    read_generator(data).save(tmp_path / "generator.npz")
    assert b"source of the network" not in (tmp_path / "generator.npz").read_bytes()


# Attacks


class Call:
    """Pickled, a call of any function."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.function, self.arguments


ATTACKS: dict[str, tuple[Callable[[Path], Call], str]] = {
    "a command": (lambda marker: Call(os.system, f"touch {marker}"), r"(posix|nt)\.system"),
    "an expression": (lambda marker: Call(eval, f"__import__('os').mkdir({str(marker)!r})"), "builtins.eval"),
    "a chain of attributes": (lambda marker: Call(marker.touch), "builtins.getattr"),
    "a name with a dot": (lambda marker: Call(Path.touch, marker), r"pathlib\S*\.Path\.touch"),
    "another name of numpy": (lambda marker: Call(np.savetxt, str(marker), [1]), "numpy.savetxt"),
}


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("place", ["alone", "among the arguments", "as a variable", "as a network"])
def test_nothing_is_run(attack: str, place: str, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    call, name = ATTACKS[attack][0](marker), ATTACKS[attack][1]
    content = {
        "alone": call,
        "among the arguments": Network(static_kwargs={"resolution": call}),
        "as a variable": Network(variables=[("lod", call)]),
        "as a network": (Network(), Network(), call),
    }[place]
    with pytest.raises(
        RefusedPickleError, match=f"^asks for {name}, which is no part of NVIDIA's ProGAN; it was not run$"
    ):
        read_generator(pickled(content))
    assert not marker.exists()


@pytest.mark.parametrize("attack", ATTACKS)
def test_the_attacks_are_real(attack: str, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    pickle.loads(pickle.dumps(ATTACKS[attack][0](marker)))
    assert marker.exists()


def text(content: str) -> bytes:
    return pickle.SHORT_BINUNICODE + bytes([len(content)]) + content.encode()


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("tfutil", "Network.__init__"),
        ("tfutil", "os.system"),
        ("numpy", "dtype.__class__"),
        ("numpy.core.multiarray", "fromfile"),
        ("numpy.core", "multiarray.scalar"),
        ("_codecs", "decode"),
        ("collections", "OrderedDict.fromkeys"),
        ("config", "EasyDict.__class__"),
        ("builtins", "dict"),
    ],
)
def test_only_whole_names_are_known(module: str, name: str) -> None:
    data = pickle.PROTO + b"\x04" + text(module) + text(name) + pickle.STACK_GLOBAL + pickle.STOP
    with pytest.raises(RefusedPickleError, match=f"^asks for {re.escape(module)}.{re.escape(name)}, which is no part"):
        read_generator(data)


def test_a_strange_name_is_shown_short_and_plain() -> None:
    data = pickle.PROTO + b"\x04" + text("evil\n\x1b[31m" + "x" * 200) + text("f") + pickle.STACK_GLOBAL + pickle.STOP
    with pytest.raises(RefusedPickleError, match=r"^asks for evil\\n\\x1b\[31mx{86}, which is no part of"):
        read_generator(data)


@pytest.mark.parametrize("name", [b"tfutil\nNetwork", b"numpy\ndtype", b"collections\nOrderedDict", b"_codecs\nencode"])
@pytest.mark.parametrize("state", [b"}", b"N}X\x0c\x00\x00\x00__setstate__c_codecs\nencode\ns\x86"])
def test_what_a_name_stands_for_cannot_be_changed(name: bytes, state: bytes) -> None:
    with pytest.raises(RefusedPickleError):
        read_generator(b"\x80\x02c" + name + b"\n" + state + b"b.")
    assert_the_network_above(read_generator(pickled(Network(), 2)))


INSTRUCTIONS = {
    "EXT1": b"\x82\x01",
    "EXT2": b"\x83\x01\x00",
    "EXT4": b"\x84\x01\x00\x00\x00",
    "PERSID": b"P1\n",
    "BINPERSID": b"NQ",
    "INST": b"(iposix\nsystem\n",
    "NEWOBJ_EX": b"N)}\x92",
    "NEXT_BUFFER": b"\x97",
    "READONLY_BUFFER": b"N\x98",
    "FROZENSET": b"(\x91",
    "LONG4": b"\x8b\x01\x00\x00\x00\x07",
    "INT": b"I7\n",
}


@pytest.mark.parametrize("name", INSTRUCTIONS)
def test_instructions_that_data_does_not_need_are_refused(name: str) -> None:
    with pytest.raises(RefusedPickleError, match=f"^holds the instruction {name}, which no network needs$"):
        read_generator(pickle.PROTO + b"\x05" + INSTRUCTIONS[name] + pickle.STOP)


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize(
    ("array", "kind"),
    [
        (np.array([Network()], dtype=object), "O8"),
        (np.array(["text"]), "U4"),
        (np.zeros(2, [("a", "f4"), ("b", "O")]), "V12"),
        (np.zeros(2, "M8[s]"), "M8"),
        (np.zeros(2, complex), "c16"),
    ],
)
def test_arrays_hold_nothing_but_numbers(array: Any, kind: str, protocol: int) -> None:
    with pytest.raises(RefusedPickleError, match=f"^holds an array of type {kind}, not of plain numbers$"):
        read_generator(pickled(Network(variables=[("lod", array)]), protocol))


UNLIKE_NUMPY = "holds an array that is not made the way numpy makes them"
TOO_LARGE = "holds an array with more than 4 sides, or one longer than 1048576"


@pytest.mark.parametrize(
    ("honest", "forged", "sentence"),
    [
        (b"K\x00\x85", b"J\xff\xff\xff\x7f\x85", UNLIKE_NUMPY),
        (b"K\x02K\x03\x86", b"K\x02K\x04\x86", r"holds an array of shape \(2, 4\) without the bytes for it"),
        (b"K\x02K\x03\x86", b"J\xff\xff\xff\x7fK\x03\x86", TOO_LARGE),
        (b"K\x02K\x03\x86", b"K\x02J\xff\xff\xff\xff\x86", TOO_LARGE),
        (b"K\x02K\x03\x86", b"K\x02N\x86", TOO_LARGE),
        (b"K\x02K\x03\x86", b"(K\x01K\x01K\x01K\x02K\x03t", TOO_LARGE),
        (b"K\x03X\x01\x00\x00\x00<", b"K\x03X\x01\x00\x00\x00O", "holds an array of records, not of plain numbers"),
        (b"latin1", b"rot_13", "holds an encoded text, which no network needs"),
    ],
)
def test_arrays_are_made_of_the_bytes_that_are_there(honest: bytes, forged: bytes, sentence: str) -> None:
    data = pickled(Network(variables=[("4x4/Dense/weight", DENSE)]), 2)
    assert honest in data
    with pytest.raises(RefusedPickleError, match=f"^{sentence}"):
        read_generator(data.replace(honest, forged))


# Bombs


def nested(levels: int) -> Any:
    """Lists of lists, each ten times in the next one: 10^levels entries in no room at all."""
    laugh: list[Any] = ["ha"]
    for _ in range(levels):
        laugh = [laugh] * 10
    return laugh


def endless() -> list[Any]:
    around: list[Any] = []
    around.append(around)
    return around


@pytest.mark.parametrize(
    "value", [nested(50), endless(), {"a": 1}, 2**60, float("nan"), "x" * 101, "\ud800", "\x1b[2J", np.zeros(2)]
)
def test_an_argument_is_a_number_or_a_short_text(value: Any) -> None:
    with pytest.raises(RefusedPickleError, match="^fmap_base is neither a number nor a short text$"):
        read_generator(pickled(Network(static_kwargs={"fmap_base": value})))


def test_a_billion_laughs_are_no_network() -> None:
    with pytest.raises(
        RefusedPickleError, match=r"^holds something other than three networks \(G, D, Gs\) or a single"
    ):
        read_generator(pickled(nested(50)))


@pytest.mark.parametrize(
    "data",
    [
        b"\x80\x02" + b"]" * 100_000 + b".",
        b"\x80\x02]" + b"]r\xff\xff\xff\x7f" + b".",
        b"\x80\x02" + b"N0" * 60_000 + b"N.",
    ],
    ids=["deep lists", "a memo of two billion places", "a long list"],
)
def test_a_file_has_no_more_instructions_than_networks_need(data: bytes) -> None:
    with pytest.raises(RefusedPickleError, match="^holds more than 100000 instructions or objects$"):
        read_generator(data)


@pytest.mark.parametrize("length", [2**20, 2**40, 2**62, 2**64 - 1])
def test_a_length_that_lies_reserves_nothing(length: int) -> None:
    with pytest.raises(RefusedPickleError, match=r"^is damaged or cut short \(.*\)$"):
        read_generator(pickle.PROTO + b"\x05" + pickle.BINBYTES8 + struct.pack("<Q", length) + b"few" + pickle.STOP)


def test_one_array_under_many_names() -> None:
    array = np.zeros(1000, np.float32)
    with pytest.raises(RefusedPickleError, match="^holds arrays that take more room than the file itself$"):
        read_generator(pickled(Network(variables=[(f"v{n}", array) for n in range(100)])))


def test_more_variables_than_any_generator_has() -> None:
    variables = [(f"v{n}", np.float32(n)) for n in range(257)]
    with pytest.raises(RefusedPickleError, match="^holds 257 variables, more than 256$"):
        read_generator(pickled(Network(variables=variables)))


# Not a pickle of networks


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "is empty"),
        (b"<!DOCTYPE html><title>Quota exceeded</title>", r"is no binary pickle \(it begins with b'<!DOCTYPE ht'\)"),
        (pickle.dumps(1, 0), r"is no binary pickle \(it begins with b'I1\\n.'\)"),
        (b"\x80", r"is damaged or cut short \(.*\)"),
        (b"\x80\x09N.", r"is damaged \(unsupported pickle protocol: 9\)"),
        (b"\x80\x02\xff.", r"is damaged or cut short \(at position 2, opcode b'.{1,2}xff' unknown\)"),
        (b"\x80\x02S'\\u'\n.", r"is damaged or cut short \(.*invalid escape sequence .*\)"),
        (b"\x80\x02R.", r"is damaged \(.*\)"),
        (b"\x80\x02h\x07.", r"is damaged \(.*\)"),
        (b"\x80\x02N.N.", "goes on for 2 bytes after its end"),
        (pickle.dumps({"state_dict": 1}), r"holds something other than three networks \(G, D, Gs\) or a single one"),
        (pickle.dumps((1, 2, 3)), r"holds something other than three networks \(G, D, Gs\) or a single one"),
        (pickled((Network(), Network())), r"holds something other than three networks \(G, D, Gs\) or a single one"),
        (b"\x80\x02ctfutil\nNetwork\n.", r"holds something other than three networks \(G, D, Gs\) or a single one"),
        (b"\x80\x02ctfutil\nNetwork\n)\x81.", "holds a network without a description"),
        (b"\x80\x02ctfutil\nNetwork\n)\x81Nb.", "holds a network without a description"),
    ],
)
def test_what_is_no_pickle_of_networks_is_refused(data: bytes, sentence: str) -> None:
    with pytest.raises(RefusedPickleError, match=f"^{sentence}$"):
        read_generator(data)


@pytest.mark.parametrize(
    ("different", "sentence"),
    [
        ({"version": 3}, "holds a network whose format is not version 2"),
        ({"name": None}, "holds a name that is no text of 1 to 100 plain characters"),
        ({"name": "G\x1b[2J"}, "holds a name that is no text of 1 to 100 plain characters"),
        ({"build_func_name": "G" * 101}, "holds a name that is no text of 1 to 100 plain characters"),
        ({"static_kwargs": None}, "static_kwargs is no dictionary"),
        ({"static_kwargs": {1: 1}}, "holds a name that is no text of 1 to 100 plain characters"),
        ({"variables": None}, "variables is no list"),
        ({"variables": [1]}, "holds a name that is no text of 1 to 100 plain characters"),
        ({"variables": [("lod", 1.5)]}, "lod is no array"),
        ({"variables": [("lod", np.float64(1.5))]}, "lod is no array of float32 numbers"),
        ({"variables": [("lod", np.float32(0)), ("lod", np.float32(1))]}, "holds the variable lod twice"),
    ],
)
def test_a_network_that_is_not_described_as_it_must_be(different: dict[str, Any], sentence: str) -> None:
    with pytest.raises(RefusedPickleError, match=f"^{sentence}$"):
        read_generator(pickled(Network(**different)))


def test_networks_of_the_theano_code_are_not_guessed_at() -> None:
    theano = Network()
    theano.state = {
        "build_func_spec": {"func": "G_paper"},
        "build_module_src": "",
        "param_values": [DENSE],
        "toplevel_params": {"resolution": 4},
    }
    with pytest.raises(
        RefusedPickleError,
        match="^holds networks of the original Theano code, whose parameters have no names here; "
        "load them with NVIDIA's TensorFlow code and save them there first$",
    ):
        read_generator(pickled((theano, theano, theano), 2, "network", Python2Pickler))


@pytest.mark.parametrize("protocol", [2, 5])
def test_a_file_cut_short_anywhere_is_refused(protocol: int) -> None:
    data = pickled(Network(), protocol)
    for length in range(1, len(data)):
        with pytest.raises(RefusedPickleError, match="^is damaged"):
            read_generator(data[:length])


@settings(max_examples=300)
@example(4, 58, 2)  # the standard library warns of an invalid escape sequence
@given(st.integers(0), st.integers(1, 255), st.sampled_from([2, 4, 5]))
def test_a_damaged_byte_is_refused_or_harmless(place: int, change: int, protocol: int) -> None:
    data = bytearray(pickled((Network(), Network(), Network()), protocol))
    data[place % len(data)] ^= change
    with suppress(RefusedPickleError):
        assert isinstance(read_generator(bytes(data)), StoredGenerator)


# The hand-over


def test_what_is_handed_over_is_the_same(tmp_path: Path) -> None:
    handed = read_generator(pickled(Network()))
    handed.save(tmp_path / "generator.npz")
    received = StoredGenerator.load(tmp_path / "generator.npz")
    assert_the_network_above(received)
    assert (received.sha256, received.discriminator) == (handed.sha256, handed.discriminator)


@pytest.mark.parametrize(
    "arrays",
    [
        {},
        {"description": np.array("no JSON")},
        {"description": np.array('{"variables": ["lod"]}')},
        {"description": np.array([{"an": "object"}], dtype=object)},
    ],
)
def test_what_is_handed_over_is_checked_again(arrays: dict[str, Any], tmp_path: Path) -> None:
    np.savez(tmp_path / "generator.npz", **arrays)
    with pytest.raises(RefusedPickleError, match=r"^was read, but what the reader made of it is not usable \(.*\)$"):
        StoredGenerator.load(tmp_path / "generator.npz")


def test_what_is_handed_over_does_not_unfold(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "generator.npz", description=np.array("{}"), arr_0=np.zeros(100_000, np.float32))
    with pytest.raises(RefusedPickleError, match=r"\(larger than its file\)$"):
        StoredGenerator.load(tmp_path / "generator.npz")


# The process


def reader(source: Path, result: Path, *limit: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-I", "-m", networks_pickle.__name__, str(source), str(result), *limit]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def test_the_reader_runs_without_tensorflow() -> None:
    code = "import sys; sys.modules['tensorflow'] = sys.modules['keras'] = None; "
    subprocess.run([sys.executable, "-c", f"{code}import {networks_pickle.__name__}"], check=True, timeout=300)


def test_the_reader_writes_its_result(tmp_path: Path) -> None:
    (tmp_path / "network.pkl").write_bytes(pickled(Network()))
    done = reader(tmp_path / "network.pkl", tmp_path / "generator.npz")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert_the_network_above(StoredGenerator.load(tmp_path / "generator.npz"))


def test_the_reader_says_why_not(tmp_path: Path) -> None:
    (tmp_path / "network.pkl").write_bytes(pickled(Call(os.system, f"touch {tmp_path / 'marker'}")))
    done = reader(tmp_path / "network.pkl", tmp_path / "generator.npz")
    assert (done.returncode, done.stderr) == (process.REFUSED, "")
    assert done.stdout == f"asks for {os.name}.system, which is no part of NVIDIA's ProGAN; it was not run\n"
    assert [path.name for path in tmp_path.iterdir()] == ["network.pkl"]


@pytest.mark.skipif(sys.platform != "linux", reason="the limits are those of Linux")
def test_the_reader_is_killed_for_computing_without_end(tmp_path: Path) -> None:
    (tmp_path / "network.pkl").write_bytes(b"\x80\x02})" + b"q\x00h\x00\x86" * 64 + b"Ns.")  # hash of a tuple of tuples
    assert reader(tmp_path / "network.pkl", tmp_path / "generator.npz", "1").returncode == -signal.SIGXCPU

"""A module's files are got whole and as asked for, or one sentence says why not."""

import gzip
import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from progan_service.sources.tfhub.download import run_watched
from progan_service.sources.tfhub.fetch import Fetched, fetch
from progan_service.sources.tfhub.limits import DEFAULT_LIMITS, HubModuleError, Limits

FILES = {
    "saved_model.pb": b"graph",
    "tfhub_module.pb": b"\x08\x03",
    "variables/variables.data-00000-of-00001": b"weights",
    "variables/variables.index": b"index",
}
SHA256 = "a44cf0be869b2a38b0d3468071eb707216566b5549e875e5f26a3cf7c167b643"
OTHER = "0" * 64
BY_HAND = "download the .tar.gz of the module in a browser and give that file"
INSTALL = "install it with the extra `hub`: pip install 'progan-service[hub]'"

Member = tuple[str, bytes, bytes | str | int | None]  # name, type, and content, target of a link or size


def file(name: str, content: bytes = b"x") -> Member:
    return name, tarfile.REGTYPE, content


def tar_of(*members: Member, headers: dict[str, str] | None = None) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT, pax_headers=headers) as archive:
        for name, kind, rest in members:
            member = tarfile.TarInfo(name)
            member.type = kind
            if isinstance(rest, str):
                member.linkname = rest
            content = rest if isinstance(rest, bytes) else b""
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


DIRECTORY: Member = ("./variables", tarfile.DIRTYPE, None)
MODULE_TAR = tar_of(DIRECTORY, *(file(f"./{name}", content) for name, content in FILES.items()))
MODULE_TAR_GZ = gzip.compress(MODULE_TAR, mtime=0)
PAGE = b"<html><body>Sign in to the network of the hotel</body></html>" * 20


@pytest.fixture
def module(tmp_path: Path) -> Path:
    """The module, unpacked."""
    return written(tmp_path / "faces", FILES)


def written(directory: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_bytes(content)
    return directory


def fetched(source: object, directory: Path, sha256: str = "", limits: Limits = DEFAULT_LIMITS) -> Fetched:
    (directory / "staging").mkdir(exist_ok=True)
    return fetch(str(source), directory / "staging", sha256=sha256, progress=lambda *_: None, limits=limits)


def refusal(source: object, directory: Path, sha256: str = "", limits: Limits = DEFAULT_LIMITS) -> str:
    with pytest.raises(HubModuleError) as error:
        fetched(source, directory, sha256, limits)
    return str(error.value)


def content(directory: Path) -> dict[str, bytes]:
    return {p.relative_to(directory).as_posix(): p.read_bytes() for p in directory.rglob("*") if p.is_file()}


# Directories and archives


def test_a_directory_is_read_in_place(module: Path, tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (module, *module.rglob("*"))}
    assert fetched(module, tmp_path) == Fetched(module, "faces", SHA256)
    assert {path: path.stat().st_mtime_ns for path in (module, *module.rglob("*"))} == before
    assert list((tmp_path / "staging").iterdir()) == []


def test_the_sha256_is_over_the_names_and_hashes_of_the_files() -> None:
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in FILES.items()}
    lines = "".join(f"{name} {hashes[name]}\n" for name in sorted(FILES))
    assert hashlib.sha256(lines.encode()).hexdigest() == SHA256


@pytest.mark.parametrize(("name", "archive"), [("faces.tar.gz", MODULE_TAR_GZ), ("faces.tar", MODULE_TAR)])
def test_an_archive_is_unpacked_beside_nothing_else(name: str, archive: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(archive)
    found = fetched(tmp_path / name, tmp_path)
    assert (found.origin, found.sha256) == (name, SHA256)
    assert content(found.directory) == FILES
    assert found.directory.parent == tmp_path / "staging"
    assert found.directory.stat().st_mode & 0o777 == 0o700


def test_an_archive_may_hold_the_module_in_a_directory(tmp_path: Path) -> None:
    archive = written(tmp_path, {"faces.tgz": tar_of(*(file(f"faces/{n}", c) for n, c in FILES.items()))}) / "faces.tgz"
    found = fetched(archive, tmp_path)
    assert (found.directory.name, found.sha256) == ("faces", SHA256)


def test_unpacking_tells_how_far_it_is(tmp_path: Path) -> None:
    archive = written(tmp_path, {"faces.tar.gz": MODULE_TAR_GZ}) / "faces.tar.gz"
    said: list[tuple[str, int, int]] = []
    fetch(str(archive), tmp_path, progress=lambda *step: said.append(step))
    assert said[-1] == ("unpacking", len(MODULE_TAR_GZ), len(MODULE_TAR_GZ))


# Pins


@pytest.mark.parametrize("pin", [SHA256, SHA256.upper(), f"sha256:{SHA256}"])
def test_content_that_was_asked_for(pin: str, module: Path, tmp_path: Path) -> None:
    assert fetched(module, tmp_path, pin).sha256 == SHA256


def test_an_archive_may_be_pinned_by_its_own_hash(tmp_path: Path) -> None:
    archive = written(tmp_path, {"faces.tar.gz": MODULE_TAR_GZ}) / "faces.tar.gz"
    assert fetched(archive, tmp_path, hashlib.sha256(MODULE_TAR_GZ).hexdigest()).sha256 == SHA256


def test_other_content_is_refused_with_both_hashes(module: Path, tmp_path: Path) -> None:
    assert refusal(module, tmp_path, OTHER) == (
        f"{module}: has the content SHA-256 {SHA256}, not {OTHER}; it is another module, or damaged"
    )


def test_a_pin_is_a_sha256(module: Path, tmp_path: Path) -> None:
    assert refusal(module, tmp_path, "b17f") == "sha256 is 'b17f': must be 64 hexadecimal digits"


# What is no module


def test_nothing_there(tmp_path: Path) -> None:
    assert refusal(tmp_path / "faces", tmp_path) == (
        f"{tmp_path}/faces: no such file or directory; give a handle (https://...), a .tar.gz or an unpacked module"
    )


def test_neither_file_nor_directory(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "faces")
    assert refusal(tmp_path / "faces", tmp_path) == (
        f"{tmp_path}/faces: is neither a file nor a directory; give a handle (https://...), a .tar.gz or an unpacked "
        "module"
    )


NO_GRAPH = "holds no saved_model.pb; it is no TF Hub module, or half of one; get it again"
HALF = "its variables/ are not all there; it is half a module; get it again"


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        ({}, NO_GRAPH),
        ({"variables/variables.index": b"index"}, NO_GRAPH),
        ({"saved_model.pb": b"graph"}, HALF),
        ({"saved_model.pb": b"graph", "variables/variables.index": b"index"}, HALF),
        (FILES | {"variables/variables.data-00000-of-00002": b"half"}, HALF),
        (FILES | {"saved_model.pb": b""}, "saved_model.pb is empty; it is half a module; get it again"),
    ],
)
def test_half_a_module_is_refused(files: dict[str, bytes], problem: str, tmp_path: Path) -> None:
    (tmp_path / "faces").mkdir()
    if "variables/variables.data-00000-of-00002" in files:
        files = {name: files[name] for name in files if not name.endswith("00001")}
    assert refusal(written(tmp_path / "faces", files), tmp_path) == f"{tmp_path}/faces: {problem}"


def test_a_link_in_a_directory_is_refused(module: Path, tmp_path: Path) -> None:
    (module / "assets").symlink_to("/etc")
    assert refusal(module, tmp_path) == (
        f"{module}: 'assets' is a link, a device or has a strange name; a module has files only"
    )


def test_a_directory_past_the_limits_is_refused(module: Path, tmp_path: Path) -> None:
    assert refusal(module, tmp_path, limits=Limits(files=4)) == (
        f"{module}: has more than 4 files and directories; a module has a handful"
    )
    assert refusal(module, tmp_path, limits=Limits(total_bytes=18)) == (
        f"{module}: takes more than 18 bytes unpacked, the most that a module may have"
    )


# Archives that are refused

OUTSIDE = "outside of the module; do not trust where it came from"
FILES_ONLY = "is a link or a device; a module has files only"
LARGE = "takes more than 100000 bytes unpacked, the most that a module may have"


@pytest.mark.parametrize(
    ("archive", "problem"),
    [
        (tar_of(file("../evil")), f"names '../evil', {OUTSIDE}"),
        (tar_of(file("variables/../../evil")), f"names 'variables/../../evil', {OUTSIDE}"),
        (tar_of(file("/tmp/evil")), f"names '/tmp/evil', {OUTSIDE}"),
        (tar_of(("link", tarfile.SYMTYPE, "/etc")), f"'link' {FILES_ONLY}"),
        (tar_of(("link", tarfile.LNKTYPE, "/etc/passwd")), f"'link' {FILES_ONLY}"),
        (tar_of(("null", tarfile.CHRTYPE, None)), f"'null' {FILES_ONLY}"),
        (gzip.compress(tar_of(file("saved_model.pb", bytes(200_000))), mtime=0), LARGE),
        (gzip.compress(tar_of(*(file(f"{n}", bytes(60_000)) for n in range(4))), mtime=0), LARGE),
        (gzip.compress(tar_of(file("saved_model.pb"), headers={"comment": "x" * 300_000}), mtime=0), LARGE),
        (gzip.compress(MODULE_TAR + bytes(300_000), mtime=0), LARGE),
        (
            tar_of(*(file(f"{n}") for n in range(11))),
            "has more than 10 files and directories; a module has a handful",
        ),
    ],
)
def test_an_archive_of_anything_but_a_module(archive: bytes, problem: str, tmp_path: Path) -> None:
    path = written(tmp_path, {"faces.tar.gz": archive}) / "faces.tar.gz"
    limits = Limits(total_bytes=100_000, files=10)
    assert refusal(path, tmp_path, limits=limits) == f"{path}: {problem}"
    assert not (tmp_path / "staging" / "evil").exists()


@pytest.mark.parametrize(
    ("archive", "reason"),
    [
        (b"", "empty file"),
        (PAGE, "invalid header"),
        (gzip.compress(PAGE, mtime=0), "invalid header"),
        (MODULE_TAR[:1026], "unexpected end of data"),  # in the middle of a file
        (MODULE_TAR[:2600], "unexpected end of data"),  # of a header
        (MODULE_TAR[:2560], "unexpected end of data"),  # after a file
        (MODULE_TAR_GZ[:-20], "Compressed file ended before the end-of-stream marker was reached"),
        (MODULE_TAR_GZ[:-8] + bytes(8), "CRC check failed 0x0 != 0x"),
        (tar_of(file("saved_model.pb"), file("saved_model.pb")), "[Errno 17] File exists"),
        (tar_of(file("variables"), file("variables/variables.index")), "[Errno 17] File exists"),
    ],
)
def test_a_damaged_archive(archive: bytes, reason: str, tmp_path: Path) -> None:
    path = written(tmp_path, {"faces.tar.gz": archive}) / "faces.tar.gz"
    told = refusal(path, tmp_path)
    assert told.startswith(f"{path}: is no .tar.gz, or breaks off or is damaged ({reason}")
    assert told.endswith("); get it again")


# Handles


@pytest.mark.parametrize(
    ("handle", "problem"),
    [
        ("gs://models/faces/1", "gs:// is not supported; give an https:// handle"),
        ("https://me:secret@example.org/faces/1", "must name a host, and neither user nor password"),
        ("https:///faces/1", "must name a host, and neither user nor password"),
        ("https://[::1/faces", "is no address (Invalid IPv6 URL); give an https:// handle"),
        (
            "http://tfhub.dev/google/progan-128/1",
            "nothing proves what plain http brings; give the https:// handle, or the content's --sha256",
        ),
        *(
            (
                f"https://www.kaggle.com/models/google/{page}",
                "names no version of a model on Kaggle; its page ends with "
                "/models/OWNER/MODEL/FRAMEWORK/VARIATION/VERSION",
            )
            for page in ("progan-128", "progan-128/tensorFlow1", "progan-128/tensorFlow1/progan-128")
        ),
    ],
)
def test_a_handle_that_is_refused(handle: str, problem: str, tmp_path: Path) -> None:
    assert refusal(handle, tmp_path) == f"{handle}: {problem}"


KAGGLE = "https://www.kaggle.com/models/google/progan-128/tensorFlow1/progan-128/1"
KAGGLE_OLD = "https://kaggle.com/models/google/progan-128/frameworks/tensorflow1/variations/progan-128/versions/1"


@pytest.mark.parametrize(
    ("source", "pin", "handle"),
    [
        ("https://tfhub.dev/google/progan-128/1", "", "https://tfhub.dev/google/progan-128/1"),
        (KAGGLE, "", KAGGLE),
        (f"{KAGGLE}?tfhub-redirect=true#files", "", KAGGLE),
        (KAGGLE_OLD, "", KAGGLE_OLD),
        ("https://example.org/faces.tar.gz?key=1", "", "https://example.org/faces.tar.gz?key=1"),
        ("http://localhost:8000/faces.tar.gz", "", "http://localhost:8000/faces.tar.gz"),
        ("http://[::1]:8000/faces.tar.gz", "", "http://[::1]:8000/faces.tar.gz"),
        ("http://example.org/faces.tar.gz", SHA256, "http://example.org/faces.tar.gz"),
    ],
)
def test_a_handle_that_only_tensorflow_hub_is_missing_for(
    source: str, pin: str, handle: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorflow_hub", None)
    problem = f"tensorflow-hub is not there, which finds handles; {INSTALL}"
    assert refusal(source, tmp_path, pin) == f"{handle}: {problem}"


# Downloads


class Pages(BaseHTTPRequestHandler):
    """A path is a status, or names one of these answers."""

    answers: ClassVar = {
        "/faces/1": MODULE_TAR_GZ,
        "/page": PAGE,
        "/nothing": b"",
        "/half": MODULE_TAR[:1026],
        "/damaged": MODULE_TAR_GZ[:60] + b"\xff" * 60,
        "/outside": tar_of(file("../evil")),
        "/link": tar_of(("link", tarfile.SYMTYPE, "/etc")),
        "/bomb": gzip.compress(tar_of(file("saved_model.pb", bytes(200_000)))),
        "/no-directories": tar_of(file("variables/variables.index")),
    }
    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        path = self.path.partition("?")[0]
        if path == "/broken":
            return
        answer = self.answers.get(path)
        if answer is None:
            self.send_error(int(path[1:]))
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """Where the pages are served."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Pages) as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("no_proxy", "*")
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_handle_is_downloaded_past_every_cache(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cached = hashlib.sha1(f"{server}/faces/1?key=1".encode()).hexdigest()
    written(tmp_path / "cache" / cached, {"saved_model.pb": b"someone else's"})
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path / "cache"))
    said: list[tuple[str, int, int]] = []
    (tmp_path / "staging").mkdir()

    found = fetch(f"{server}/faces/1?key=1", tmp_path / "staging", sha256=SHA256, progress=lambda *s: said.append(s))

    assert (found.origin, found.sha256) == (f"{server}/faces/1", SHA256)
    assert content(found.directory) == FILES
    assert tmp_path / "staging" in found.directory.parents
    assert Pages.asked == ["/faces/1?key=1&tf-hub-format=compressed"]
    assert {(stage, total) for stage, _, total in said} == {("downloading", 0)}
    assert said[-1][1] >= sum(map(len, FILES.values()))


RESOLVE = """
import json, sys
from progan_service.sources.tfhub.download import resolve
print(json.dumps({handle: resolve(handle, 100_000) for handle in sys.argv[1:]}))
"""


@pytest.fixture(scope="module")
def outcomes(server: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """What becomes of bad handles, by their paths; all in one process, as TensorFlow takes its time."""
    pages = ["/401", "/403", "/404", "/500", "/broken", *(page for page in Pages.answers if page != "/faces/1")]
    handles = [f"{server}{page}" for page in pages]
    handles += [
        "https://nowhere.invalid/faces/1",
        "http://127.0.0.1:1/faces/1",
        server.replace("http", "https") + "/page",
    ]
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", RESOLVE, *handles],
        env=os.environ | {"TFHUB_CACHE_DIR": str(tmp_path_factory.mktemp("cache"))},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    found: dict[str, dict[str, str]] = json.loads(result.stdout)
    return {handle.removeprefix(server): outcome for handle, outcome in found.items()}


NOT_FOR_PROGRAMS = f"it does not give this module to programs; {BY_HAND}"


@pytest.mark.parametrize(
    ("page", "problem"),
    [
        ("https://nowhere.invalid/faces/1", f"no such host, or no network here; check the handle, or {BY_HAND}"),
        ("http://127.0.0.1:1/faces/1", f"the server refuses the connection; try again later, or {BY_HAND}"),
        ("/401", f"the server answers 401 Unauthorized, {NOT_FOR_PROGRAMS}"),
        ("/403", f"the server answers 403 Forbidden, {NOT_FOR_PROGRAMS}"),
        ("/404", "the server answers 404 Not Found; check owner, name and version of the model"),
        ("/500", f"the server answers 500 Internal Server Error; try again later, or {BY_HAND}"),
        ("/broken", "the connection broke off (Remote end closed connection without response); try again"),
        ("/page", f"what came is no archive but a web page perhaps, of a proxy or to log in; {BY_HAND}"),
        ("/nothing", f"what came is no archive but a web page perhaps, of a proxy or to log in; {BY_HAND}"),
        ("/half", "the archive breaks off or is damaged; try again"),
        ("/damaged", "the archive breaks off or is damaged; try again"),
        ("/outside", "the archive names a file outside of the module; do not trust where it came from"),
        ("/link", "the archive holds a link or a device; a module has files only"),
        ("/bomb", "a file of it takes more than 100000 bytes unpacked, the most that a module may have"),
    ],
)
def test_a_download_that_fails_says_why(outcomes: dict[str, dict[str, str]], page: str, problem: str) -> None:
    assert outcomes[page] == {"problem": problem}


def test_a_server_without_a_certificate(server: str, outcomes: dict[str, dict[str, str]]) -> None:
    problem = outcomes[server.replace("http", "https") + "/page"]["problem"]
    assert problem.startswith("the server cannot be reached ([SSL: WRONG_VERSION_NUMBER]")


def test_any_other_failure_is_told_as_it_is(outcomes: dict[str, dict[str, str]]) -> None:
    problem = outcomes["/no-directories"]["problem"]
    assert problem.startswith("the download failed (NotFoundError: ")
    assert problem.endswith(f"No such file or directory); try again, or {BY_HAND}")


# The watch over a download

FILL = "import os, time; from pathlib import Path; cache = Path(os.environ['TFHUB_CACHE_DIR'])\n"


def filled(script: str, directory: Path, limits: Limits) -> str:
    """What Python prints that fills the directory."""
    return run_watched("faces", [sys.executable, "-c", FILL + script], directory, limits, lambda *_: None)


def test_a_download_without_end_is_ended(tmp_path: Path) -> None:
    script = "while True: (cache / 'a').open('ab').write(bytes(10_000)); time.sleep(0.01)"
    with pytest.raises(
        HubModuleError, match="^faces: takes more than 100000 bytes unpacked, the most that a module may"
    ):
        filled(script, tmp_path, Limits(total_bytes=100_000))
    assert 100_000 < (tmp_path / "a").stat().st_size < 10_000_000


def test_a_download_of_files_without_end_is_ended(tmp_path: Path) -> None:
    script = "for n in range(10**9): (cache / str(n)).mkdir(); time.sleep(0.001)"
    with pytest.raises(HubModuleError, match="^faces: has more than 10 files and directories; a module has a handful$"):
        filled(script, tmp_path, Limits(files=10))


def test_a_download_that_brings_nothing_is_ended(tmp_path: Path) -> None:
    with pytest.raises(HubModuleError, match=f"^faces: nothing came for 0.3 s; try again later, or {BY_HAND}$"):
        filled("time.sleep(3600)", tmp_path, Limits(idle_s=0.3))


def test_slow_is_not_idle(tmp_path: Path) -> None:
    script = "for n in range(8): time.sleep(0.4); (cache / str(n)).write_text('x')\nprint('done')"
    assert filled(script, tmp_path, Limits(idle_s=3.0)) == "done\n"


def test_a_download_that_dies_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    handle = "https://tfhub.dev/google/progan-128/1"
    problem = "the download ended without a word, for lack of memory perhaps; try again"
    assert refusal(handle, tmp_path) == f"{handle}: {problem}"

"""What holds the house together and no single package can say of itself."""

import ast
import re
import subprocess
import sys
from importlib import metadata
from itertools import product
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
WITHOUT_TENSORFLOW = "import sys; sys.modules['tensorflow'] = sys.modules['keras'] = None; "


def test_the_client_depends_on_neither_tensorflow_nor_the_service() -> None:
    requirements = metadata.requires("progan-client") or []
    names = {requirement.split(">")[0] for requirement in requirements if "extra ==" not in requirement}
    assert names == {
        "googleapis-common-protos",
        "grpcio",
        "grpcio-health-checking",
        "numpy",
        "pillow",
        "progan-protos",
        "protobuf",
        "shtab",
    }
    assert "tensorflow" not in (ROOT / "locks" / "client.txt").read_text()


@pytest.mark.parametrize(
    "module",
    [
        "commands.parser",
        "data.dataset",
        "data.making.build",
        "latents.walks",
        "model.config",
        "serving.batching.batcher",
        "serving.process",
        "store.store",
        "training.config",
    ],
)
def test_tensorflow_is_imported_only_where_it_is_used(module: str) -> None:
    code = f"{WITHOUT_TENSORFLOW}import progan_service.{module}"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)


def test_a_dataset_is_made_without_tensorflow(tmp_path: Path) -> None:
    command = f"['progan', 'dataset', 'demo', '{tmp_path}/faces', '--count', '4', '--resolution', '8']"
    code = f"{WITHOUT_TENSORFLOW}sys.argv = {command}; from progan_service.commands import parser; parser.main()"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)
    assert (tmp_path / "faces" / "faces-r03.tfrecords").exists()


@pytest.mark.parametrize("lock", ["client", "dev", "service-cpu", "service-gpu"])
def test_locks_hold_hashes_and_name_no_package_host(lock: str) -> None:
    text = (ROOT / "locks" / f"{lock}.txt").read_text()
    assert "--hash=sha256:" in text
    assert "://" not in text


def test_cpu_locks_have_one_tensorflow_a_machine() -> None:
    for lock in ("dev", "service-cpu"):
        lines = (ROOT / "locks" / f"{lock}.txt").read_text().splitlines()
        assert [line.split(" \\")[0] for line in lines if line.startswith("tensorflow") and "hub" not in line] == [
            "tensorflow==2.21.0 ; platform_machine != 'AMD64' and platform_machine != 'x86_64'",
            "tensorflow-cpu==2.21.0 ; platform_machine == 'AMD64' or platform_machine == 'x86_64'",
        ]


def test_the_picture_of_the_house_has_every_room() -> None:
    service = ROOT / "service" / "progan_service"
    picture = (ROOT / "docs" / "architecture.md").read_text()
    for house in (service, service / "serving"):
        rooms = {room.parent.name for room in house.glob("*/__init__.py")}
        assert {room for room in rooms if f"{room}[" not in picture and f"| `{room}/` |" not in picture} == set()


def test_the_picture_of_the_house_has_an_arrow_for_every_import() -> None:
    service = ROOT / "service" / "progan_service"
    picture = (ROOT / "docs" / "architecture.md").read_text().split("```mermaid")[1].split("```")[0]
    below: dict[str, set[str]] = {}
    for sources, targets in re.findall(r"^  (.+?)(?:\[.*?\])? --> (.+?)(?:\[.*\])?$", picture, re.MULTILINE):
        for source, target in product(sources.split(" & "), targets.split(" & ")):
            below.setdefault(source, set()).add(target)

    def reached(room: str) -> set[str]:
        return {room}.union(*(reached(lower) for lower in below.get(room, ())))

    def room_of(name: str) -> str:
        return name if (service / name / "__init__.py").exists() else "rules"

    for file in service.glob("*/**/*.py"):
        imports = [node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.ImportFrom)]
        modules = [node.module for node in imports if node.module and node.module.startswith("progan_service.")]
        room = file.relative_to(service).parts[0]
        assert {room_of(module.split(".")[1]) for module in modules} <= reached(room), file


def test_a_file_of_the_packages_is_read_in_one_go() -> None:
    files = [file for half in ("client", "service") for file in (ROOT / half).glob("progan_*/**/*.py")]
    assert [file.name for file in files if len(file.read_text().splitlines()) > 350] == []

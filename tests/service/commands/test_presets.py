"""`progan presets`: the list, and one as a file to change."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from progan_command import configured, refusal

from progan_service.data.dataset import Dataset
from progan_service.training.presets import preset_names

Progan = Callable[..., Any]  # see tests/service/conftest.py


def test_presets_lists_each_with_a_sentence(progan: Progan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    ended = progan("presets")
    assert (ended.code, ended.err) == (0, "")
    assert [line for line in ended.out.splitlines() if not line.startswith(" ")] == preset_names()
    assert (
        "cpu-small\n    Small networks for two CPU cores: recognisable 32x32 images within about twenty minutes.\n"
        in ended.out
    )
    assert max(map(len, ended.out.splitlines())) <= 100


@pytest.mark.parametrize("name", preset_names())
def test_a_printed_preset_trains_the_same_run(progan: Progan, faces: Dataset, tmp_path: Path, name: str) -> None:
    file = tmp_path / "mine.json"
    file.write_text(progan("presets", name).out)
    assert progan("presets", file).out == progan("presets", name).out
    by_name = configured(faces.directory, "--preset", name, "--resolution", 8)
    assert configured(faces.directory, "--preset", file, "--resolution", 8).to_json() == by_name.to_json()


def test_presets_names_what_is_none(progan: Progan, tmp_path: Path) -> None:
    assert progan("presets", "cpu-smal") == refusal("there is no preset 'cpu-smal': did you mean cpu-small?")
    file = tmp_path / "mine.json"
    file.write_text('{"training": {"sede": 1}}')
    assert progan("presets", file) == refusal(f"preset {file}: there is no setting training.sede: did you mean seed?")

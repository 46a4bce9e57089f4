"""`progan train` with what is the user's own."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from progan_service.data.dataset import Dataset

Progan = Callable[..., SimpleNamespace]


def test_a_function_of_the_working_directory_is_called_at_each_tick(
    progan: Progan, faces: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("my_logger.py").write_text(
        "def tick(images_shown, scalars, grid):\n"
        "    with open('log', 'a') as log:\n"
        "        print(images_shown, 'loss/D' in scalars, grid, file=log)\n"
    )
    sizes = ["--fmap-base", 16, "--fmap-max", 4, "--batch-sizes", 8, "--tick-kimg", 0.008, "--total-kimg", 0.016]
    train = ("train", "--data", faces.directory, "--run", "run", *sizes)

    refused = progan(*train, "--on-tick", "my_logger:tock")
    sentence = "progan: --on-tick is 'my_logger:tock': the module has no function 'tock'\n"
    assert (refused.code, refused.err, Path("run").exists()) == (78, sentence, False)

    assert progan(*train, "--on-tick", "my_logger:tick").code == 0
    assert Path("log").read_text() == "8 True run/grids/fakes-000000008.png\n16 True run/grids/fakes-000000016.png\n"

"""The settings of `progan train`: by option, preset or default, and in the help."""

import re
from dataclasses import asdict

import pytest
from progan_command import configured, help_of

from progan_service.commands.parser import parser
from progan_service.data.dataset import Dataset
from progan_service.model.config import NetworkConfig
from progan_service.training.config import MAY_CHANGE, DatasetConfig, SetupConfig, TrainingConfig

VALUES = {  # other than the defaults, as they are given and as they are kept
    "fmap_base": ("64", 64),
    "fmap_max": ("32", 32),
    "latent_size": ("24", 24),
    "d_pool": ("post_act", "post_act"),
    "seed": ("7", 7),
    "stable_kimg": ("1.5", 1.5),
    "fade_kimg": ("0", 0),
    "initial_resolution": ("8", 8),
    "learning_rate_fall_kimg": ("5", 5.0),
    "total_kimg": ("20", 20),
    "batch_sizes": ("8", {4: 8}),
    "learning_rates": ("4:0.002,8:1e-3", {4: 0.002, 8: 0.001}),
    "learning_rate_ramp_kimg": ("40", 40),
    "adam_beta2": ("0.9", 0.9),
    "ema_halflife_kimg": ("2.5", 2.5),
    "ema_rampup": ("0.1", 0.1),
    "gp_weight": ("1", 1),
    "gp_target": ("750", 750),
    "gp_reference": ("native", "native"),
    "drift_weight": ("0", 0),
    "mbstd_group_size": ("2", 2),
    "mirror": (None, True),
    "precision": ("bfloat16", "bfloat16"),
    "fused_kernels": ("no", False),
    "tick_kimg": ("4:2,8:0.5", {4: 2, 8: 0.5}),
    "snapshot_ticks": ("10", 10),
    "metric_images": ("64", 64),
}


def test_every_setting_that_the_dataset_leaves_open_has_an_option(faces: Dataset) -> None:
    options: list[str] = []
    for name, (given, _) in VALUES.items():
        option = name.replace("_", "-")
        options += [f"--no-{option}"] if given == "no" else [f"--{option}"] if given is None else [f"--{option}", given]
    config = configured(faces.directory, *options)
    values = asdict(config.network) | asdict(config.training)
    without_option = {"resolution", "channels", "label_size", "pixelnorm_epsilon", "first_bias"}
    assert {name: values[name] for name in values.keys() - without_option} == {
        name: kept for name, (_, kept) in VALUES.items()
    }


def test_the_help_has_every_option_with_its_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    text = " ".join(help_of("train").split())
    for name in VALUES:
        assert f" --{name.replace('_', '-')}" in text
    for default in [
        "(default: 8192)",
        "where the discriminator downscales: before or after bias and activation (default: pre_act)",
        "images per step, by resolution (default: 16)",
        "learning rates of Adam, by resolution (default: 0.001)",
        "beta2 of Adam; beta1 is 0 (default: 0.99)",
        "show each real image mirrored half of the time (default: false)",
        "scale within the convolutions: same function, less arithmetic (default: true)",
        "(default: 4:160,8:140,16:120,32:100,64:80,128:60,256:40,512:20,1024:10)",
    ]:
        assert default in text


def test_the_help_names_what_may_change_when_a_run_goes_on() -> None:
    [paragraph] = re.findall("stopping and going on:\n(.*?)\n\n", help_of("train"), flags=re.DOTALL)
    may_change = {name.removeprefix("training.") for name in MAY_CHANGE if name.startswith("training.")}
    named = set(re.findall("--([a-z-]+)", paragraph)) - {"run", "data"}
    assert named == {name.replace("_", "-") for name in may_change}


def test_the_help_fits_into_a_hundred_columns_of_any_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    assert max(map(len, help_of("train").splitlines())) <= 100
    monkeypatch.setenv("COLUMNS", "80")
    assert max(map(len, help_of("train").splitlines())) <= 80


def test_the_examples_of_the_help_are_commands() -> None:
    [examples] = re.findall("examples:\n(.*)", help_of("train"), flags=re.DOTALL)
    lines = [line.strip() for line in examples.replace("\\\n", "").splitlines()]
    found = [line.split(" > ")[0].split() for line in lines if line.startswith("progan ")]
    assert len(found) == 11
    for command in found:
        parser().parse_args(command[1:])


def test_a_setting_is_the_options_or_the_presets_or_the_default(faces: Dataset) -> None:
    small = configured(faces.directory, "--total-kimg", 50)
    assert small.network == NetworkConfig(resolution=8, fmap_base=1024, fmap_max=128)
    assert small.training == TrainingConfig(
        stable_kimg=12,
        fade_kimg=12,
        total_kimg=50,
        batch_sizes={4: 32, 16: 16},
        learning_rates={4: 0.0015},
        ema_halflife_kimg=5,
        ema_rampup=0.05,
        tick_kimg={4: 4},
    )
    papers = configured(faces.directory, "--preset", "celebahq-1024", "--resolution", 8, "--no-mirror")
    assert papers.network == NetworkConfig(resolution=8)
    assert papers.training == TrainingConfig(
        stable_kimg=800,
        fade_kimg=800,
        total_kimg=19000,
        batch_sizes={4: 16, 256: 14, 512: 6, 1024: 3},
        mbstd_group_size=16,
        mirror=False,
        snapshot_ticks=10,
    )


def test_a_table_replaces_the_whole_table_of_the_preset(faces: Dataset) -> None:
    assert configured(faces.directory, "--batch-sizes", "4:8").training.batch_sizes == {4: 8}
    assert configured(faces.directory, "--batch-sizes", "4:64,8:8").training.batch_sizes == {4: 64, 8: 8}


def test_an_option_and_a_preset_with_the_same_value_make_the_same_run(faces: Dataset) -> None:
    by_option = configured(faces.directory, "--stable-kimg", "12.0", "--learning-rates", "0.0015")
    assert by_option.to_json() == configured(faces.directory).to_json()
    assert by_option.digest == configured(faces.directory).digest


def test_a_dataset_with_labels_is_trained_with_them_on_request(faces: Dataset) -> None:
    with_labels = configured(faces.directory, "--labels")
    assert with_labels.network.label_size == 2
    assert with_labels.dataset.label_names == faces.label_names
    for without in (configured(faces.directory), configured(faces.directory, "--no-labels")):
        assert (without.network.label_size, without.dataset.label_names) == (0, ())


def test_a_run_knows_its_dataset(faces: Dataset) -> None:
    parts = {"4x4": faces.digests["4x4"], "8x8": faces.digests["8x8"]}
    assert configured(faces.directory).dataset == DatasetConfig("faces", 48, faces.digest, (), "", parts)


def test_a_run_knows_the_parts_of_its_dataset_that_it_reads(faces: Dataset) -> None:
    assert configured(faces.directory, "--labels").dataset.parts.keys() == {"4x4", "8x8", "labels"}
    assert configured(faces.directory, "--resolution", "4").dataset.parts.keys() == {"4x4"}


def test_how_a_run_is_computed_does_not_make_it_another_run(faces: Dataset) -> None:
    assert configured(faces.directory).setup == SetupConfig(str(faces.directory))
    computed = configured(faces.directory, "--auto-batch", "--dry-run", "--deterministic")
    assert computed.setup == SetupConfig(str(faces.directory), auto_batch=True, deterministic=True)
    assert computed.digest == configured(faces.directory).digest

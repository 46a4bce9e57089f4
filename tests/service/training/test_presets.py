"""The presets: their figures, and what a file of one's own must look like."""

import json
from dataclasses import asdict
from importlib import resources
from pathlib import Path

import pytest

from progan_service.checks import resolutions_up_to
from progan_service.errors import ConfigError
from progan_service.model.config import NetworkConfig
from progan_service.training import presets
from progan_service.training.config import TrainingConfig
from progan_service.training.presets import Preset, load_preset, preset_names
from progan_service.training.schedule import GrowthSchedule, of_resolution


def network(name: str) -> NetworkConfig:
    return NetworkConfig(**{"resolution": 32} | load_preset(name).network)


def steps_until(kimg: int, name: str, resolution: int) -> int:
    stages = GrowthSchedule(load_preset(name).training, resolution).stages(0, kimg * 1000)
    return round(sum(images / phase.batch_size for phase, images in stages))


# The presets of the package


def test_the_presets() -> None:
    assert preset_names() == [
        "celeba-128",
        "celebahq-1024",
        "celebahq-1024-v2-1gpu",
        "celebahq-1024-v2-2gpus",
        "celebahq-1024-v2-4gpus",
        "celebahq-1024-v2-8gpus",
        "cifar10-32",
        "cpu-64",
        "cpu-small",
        "lsun-256",
    ]


@pytest.mark.parametrize("name", preset_names())
def test_a_preset_says_what_it_is_in_a_sentence(name: str) -> None:
    about = load_preset(name).about
    assert about.endswith(".")
    assert about[:-1].count(". ") == 0


@pytest.mark.parametrize("name", preset_names())
def test_a_preset_states_only_what_differs_from_the_defaults(name: str) -> None:
    document = json.loads(resources.files(presets).joinpath(f"{name}.json").read_text())
    defaults = asdict(NetworkConfig(resolution=4)) | asdict(TrainingConfig())
    preset = load_preset(name)
    values = preset.network | asdict(preset.training)
    stated = {*document["network"], *document["training"]}
    assert stated == {setting for setting, value in values.items() if value != defaults[setting]}


@pytest.mark.parametrize(
    ("name", "resolution", "fmap_base", "fmap_max", "d_pool"),
    [
        ("celeba-128", 128, 2048, 512, "post_act"),
        ("celebahq-1024", 1024, 8192, 512, "pre_act"),
        ("celebahq-1024-v2-1gpu", 1024, 8192, 512, "pre_act"),
        ("celebahq-1024-v2-2gpus", 1024, 8192, 512, "pre_act"),
        ("celebahq-1024-v2-4gpus", 1024, 8192, 512, "pre_act"),
        ("celebahq-1024-v2-8gpus", 1024, 8192, 512, "pre_act"),
        ("cifar10-32", 32, 4096, 128, "post_act"),
        ("lsun-256", 256, 4096, 512, "post_act"),
    ],
)
def test_networks(name: str, resolution: int, fmap_base: int, fmap_max: int, d_pool: str) -> None:
    assert network(name) == NetworkConfig(resolution, fmap_base=fmap_base, fmap_max=fmap_max, d_pool=d_pool)


def test_the_small_preset_is_for_datasets_of_any_resolution() -> None:
    assert load_preset("cpu-small").network == {
        "fmap_base": 1024,
        "fmap_max": 128,
        "latent_size": 0,
        "d_pool": "pre_act",
    }


@pytest.mark.parametrize(
    ("name", "stable_kimg", "fade_kimg", "total_kimg"),
    [
        ("celeba-128", 800, 800, 10000),
        ("celebahq-1024", 800, 800, 19000),
        ("celebahq-1024-v2-1gpu", 600, 600, 12000),
        ("celebahq-1024-v2-2gpus", 600, 600, 12000),
        ("celebahq-1024-v2-4gpus", 600, 600, 12000),
        ("celebahq-1024-v2-8gpus", 600, 600, 12000),
        ("cifar10-32", 400, 400, 20000),
        ("cpu-64", 16, 16, 280),
        ("cpu-small", 12, 12, 110),
        ("lsun-256", 800, 800, 20000),
    ],
)
def test_schedules(name: str, stable_kimg: float, fade_kimg: float, total_kimg: float) -> None:
    training = load_preset(name).training
    assert (training.stable_kimg, training.fade_kimg, training.total_kimg) == (stable_kimg, fade_kimg, total_kimg)


@pytest.mark.parametrize(
    ("name", "batch_sizes"),
    [
        #                          4    8   16  32  64 128 256 512 1024
        ("celeba-128", [16, 16, 16, 16, 16, 16]),
        ("celebahq-1024", [16, 16, 16, 16, 16, 16, 14, 6, 3]),
        ("celebahq-1024-v2-1gpu", [128, 128, 128, 64, 32, 16, 8, 4, 4]),
        ("celebahq-1024-v2-2gpus", [256, 256, 128, 64, 32, 16, 8, 8, 8]),
        ("celebahq-1024-v2-4gpus", [512, 256, 128, 64, 32, 16, 16, 16, 16]),
        ("celebahq-1024-v2-8gpus", [512, 256, 128, 64, 32, 32, 32, 32, 32]),
        ("cifar10-32", [16, 16, 16, 16]),
        ("cpu-64", [32, 32, 16, 16]),
        ("cpu-small", [32, 32, 16, 16]),
        ("lsun-256", [16, 16, 16, 16, 16, 16, 16]),
    ],
)
def test_batch_sizes(name: str, batch_sizes: list[int]) -> None:
    table = load_preset(name).training.batch_sizes
    assert [of_resolution(table, r) for r in resolutions_up_to(network(name).resolution)] == batch_sizes


@pytest.mark.parametrize(
    ("name", "thousandths"),
    [
        #                          4  8 16 32 64 128 256 512 1024
        ("celeba-128", [1, 1, 1, 1, 1, 1]),
        ("celebahq-1024", [1, 1, 1, 1, 1, 1, 1, 1, 1]),
        ("celebahq-1024-v2-1gpu", [1, 1, 1, 1, 1, 1, 1, 1, 1.5]),
        ("celebahq-1024-v2-2gpus", [1, 1, 1, 1, 1, 1, 1, 1.5, 2]),
        ("celebahq-1024-v2-4gpus", [1, 1, 1, 1, 1, 1, 1.5, 2, 3]),
        ("celebahq-1024-v2-8gpus", [1, 1, 1, 1, 1, 1.5, 2, 3, 3]),
        ("cifar10-32", [1, 1, 1, 1]),
        ("cpu-small", [1.5, 1.5, 1.5, 1.5]),
        ("lsun-256", [1, 1, 1, 1, 1, 1, 1]),
    ],
)
def test_learning_rates(name: str, thousandths: list[float]) -> None:
    table = load_preset(name).training.learning_rates
    rates = [of_resolution(table, r) * 1000 for r in resolutions_up_to(network(name).resolution)]
    assert rates == pytest.approx(thousandths)


def test_faces_and_lsun_are_mirrored_cifar_and_small_runs_are_not() -> None:
    mirrored = {name for name in preset_names() if load_preset(name).training.mirror}
    assert set(preset_names()) - mirrored == {"cifar10-32", "cpu-64", "cpu-small"}
    assert "--no-mirror for all of bedroom or dog" in load_preset("lsun-256").about


def test_the_single_gpu_presets_of_the_paper_take_the_whole_batch_as_one_group() -> None:
    groups = {name: load_preset(name).training.mbstd_group_size for name in preset_names()}
    assert {name for name, size in groups.items() if size == 16} == {
        "celeba-128",
        "celebahq-1024",
        "cifar10-32",
        "lsun-256",
    }


def test_snapshots_come_every_tenth_tick_as_the_papers_did_and_every_tick_of_small_runs() -> None:
    assert {name: load_preset(name).training.snapshot_ticks for name in preset_names()} == {
        **dict.fromkeys(preset_names(), 10),
        "cpu-64": 1,
        "cpu-small": 1,
    }


def test_what_only_one_preset_has() -> None:
    assert {name: load_preset(name).training.gp_target for name in preset_names()} == {
        **dict.fromkeys(preset_names(), 1),
        "cifar10-32": 750,
    }
    assert {name: load_preset(name).training.learning_rate_ramp_kimg for name in preset_names()} == {
        **dict.fromkeys(preset_names(), 0),
        "lsun-256": 40,
    }


@pytest.mark.parametrize(("resolution", "steps"), [(128, 492_188), (256, 829_688), (1024, 1_354_688)])
def test_steps_of_twelve_million_images_with_one_gpu(resolution: int, steps: int) -> None:
    assert steps_until(12000, "celebahq-1024-v2-1gpu", resolution) == pytest.approx(steps, abs=20)


@pytest.mark.parametrize("gpus", [2, 4, 8])
def test_every_gpu_gets_whole_groups(gpus: int) -> None:
    training = load_preset(f"celebahq-1024-v2-{gpus}gpus").training
    assert [batch // gpus % training.mbstd_group_size for batch in training.batch_sizes.values()] == [0] * len(
        training.batch_sizes
    )
    assert [batch % gpus for batch in training.batch_sizes.values()] == [0] * len(training.batch_sizes)


def test_the_small_preset_reaches_32_pixels_and_stays_there_for_a_third_of_its_time() -> None:
    training = load_preset("cpu-small").training
    schedule = GrowthSchedule(training, 32)
    assert schedule.at(72_000).resolution == 32
    assert not schedule.at(72_000).fading
    assert training.total_kimg == 110


# Files


def written(tmp_path: Path, text: str) -> str:
    file = tmp_path / "mine.json"
    file.write_text(text)
    return str(file)


@pytest.mark.parametrize("name", preset_names())
def test_a_printed_preset_reads_back_as_the_same(name: str, tmp_path: Path) -> None:
    assert load_preset(written(tmp_path, load_preset(name).to_json())) == load_preset(name)


def test_a_printed_preset_holds_every_setting_but_those_of_the_dataset() -> None:
    document = json.loads(load_preset("celebahq-1024").to_json())
    assert document.keys() == {"about", "network", "training"}
    assert document["network"] == {
        "resolution": 1024,
        "fmap_base": 8192,
        "fmap_max": 512,
        "latent_size": 0,
        "d_pool": "pre_act",
    }
    assert document["training"].keys() == asdict(TrainingConfig()).keys()
    assert document["training"]["batch_sizes"] == {"4": 16, "256": 14, "512": 6, "1024": 3}


def test_what_a_file_leaves_out_has_its_default(tmp_path: Path) -> None:
    assert load_preset(written(tmp_path, "{}")) == Preset(
        "", {"fmap_base": 8192, "fmap_max": 512, "latent_size": 0, "d_pool": "pre_act"}, TrainingConfig(), named={}
    )
    text = '{"training": {"seed": 7, "batch_sizes": {"4": 32, "64": 8}}}'
    preset = load_preset(written(tmp_path, text))
    assert preset.training == TrainingConfig(seed=7, batch_sizes={4: 32, 64: 8})
    assert preset.named == {"seed": 7, "batch_sizes": {4: 32, 64: 8}}


def test_a_whole_number_is_the_same_with_a_point(tmp_path: Path) -> None:
    with_point = load_preset(written(tmp_path, '{"training": {"fade_kimg": 12.0, "tick_kimg": {"4": 4.0}}}'))
    without = load_preset(written(tmp_path, '{"training": {"fade_kimg": 12, "tick_kimg": {"4": 4}}}'))
    assert with_point.to_json() == without.to_json()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("celeba-256", "there is no preset 'celeba-256': did you mean celeba-128 or .*\\?"),
        (
            "huge",
            "there is no preset 'huge': must be one of celeba-128, celebahq-1024, celebahq-1024-v2-1gpu, "
            "celebahq-1024-v2-2gpus, celebahq-1024-v2-4gpus, celebahq-1024-v2-8gpus, cifar10-32, cpu-64, cpu-small, "
            "lsun-256, FILE.json",
        ),
        ("none.json", "none.json: cannot be read: No such file or directory"),
        ("no/such", "no/such: cannot be read: No such file or directory"),
        ("./", ".: is a directory: must be a file"),
    ],
)
def test_a_preset_that_is_not_there_is_named(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{message}$"):
        load_preset(name)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is no JSON: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"),
        ("[]", "must be an object with about, network, training"),
        ('{"dataset": {}}', "there is no part 'dataset': a preset has about, network, training"),
        ('{"about": 1}', "about is 1: must be text"),
        ('{"network": 64}', "network is 64: must be an object of settings and values"),
        ('{"network": {"channels": 1}}', "network.channels: comes from the dataset, a preset cannot set it"),
        ('{"network": {"fmap_base": 1.5}}', "network.fmap_base is 1.5: must be a whole number"),
        ('{"network": {"fmap_max": 0}}', "fmap_max is 0: must be 1 or more"),
        ('{"network": {"resolution": 48}}', "resolution is 48: must be a power of two from 4 to 1024"),
        (
            '{"network": {"resolution": 64, "fmap_base": 8}}',
            "fmap_base is 8: must be at least 32 for 64x64 images",
        ),
        (
            '{"training": {"batch_size": {"4": 8}}}',
            "there is no setting training.batch_size: did you mean batch_sizes?",
        ),
        ('{"training": {"seed": true}}', "training.seed is true: must be a whole number"),
        ('{"training": {"seed": "7"}}', 'training.seed is "7": must be a whole number'),
        ('{"training": {"mirror": 1}}', "training.mirror is 1: must be true or false"),
        ('{"training": {"gp_weight": null}}', "training.gp_weight is null: must be a number"),
        ('{"training": {"gp_weight": NaN}}', "gp_weight is nan: must be 0 or more"),
        (
            '{"training": {"batch_sizes": "16"}}',
            'training.batch_sizes is "16": must be a whole number, or one by resolution such as 4:32,16:16',
        ),
        (
            '{"training": {"batch_sizes": {"4": 1.5}}}',
            'training.batch_sizes is {"4": 1.5}: must be a whole number, or one by resolution such as 4:32,16:16',
        ),
        (
            '{"training": {"tick_kimg": {"four": 1}}}',
            'training.tick_kimg is {"four": 1}: must be a number, or one by resolution such as 4:32,16:16',
        ),
        (
            '{"training": {"precision": "fp64"}}',
            "precision is 'fp64': must be float32 or bfloat16",
        ),
        ('{"training": {"batch_sizes": {"8": 16}}}', "batch_sizes is {8: 16}: must give a value for resolution 4"),
    ],
)
def test_a_file_that_is_no_preset_is_refused(text: str, message: str, tmp_path: Path) -> None:
    file = written(tmp_path, text)
    with pytest.raises(ConfigError) as refused:
        load_preset(file)
    assert str(refused.value) == f"preset {file}: {message}"


def test_a_file_may_name_precisions_in_the_words_of_earlier_releases(tmp_path: Path) -> None:
    assert load_preset(written(tmp_path, '{"training": {"precision": "bf16"}}')).training.precision == "bfloat16"
    assert load_preset(written(tmp_path, '{"training": {"precision": "fp32"}}')).training.precision == "float32"


def test_a_file_that_is_nested_too_deeply_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is no JSON: maximum recursion depth exceeded"):
        load_preset(written(tmp_path, "[" * 100_000))


def test_a_setting_like_no_other_is_named_beside_all(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no setting network.colour: must be one of resolution, .*, d_pool$"):
        load_preset(written(tmp_path, '{"network": {"colour": "blue"}}'))


def test_a_file_of_something_else_is_no_preset(tmp_path: Path) -> None:
    file = tmp_path / "picture.json"
    file.write_bytes(b"\x89PNG\r\n\x1a\n\xff")
    with pytest.raises(ConfigError, match=f"^preset {file}: is no JSON: "):
        load_preset(str(file))

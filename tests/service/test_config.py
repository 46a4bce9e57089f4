"""Configuration refuses what cannot work, naming the field, the value and the rule."""

import hashlib
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from progan_service.checks import is_power_of_two, resolutions_up_to
from progan_service.errors import ConfigError
from progan_service.model.config import NetworkConfig, network_of
from progan_service.serving.config import BatchingConfig, ServerConfig
from progan_service.settings.field import Settings, settings_of
from progan_service.training.config import MAY_CHANGE, DatasetConfig, RunConfig, TrainingConfig

RUN = RunConfig(
    DatasetConfig("faces", 1000, "0f1e", license="CC0"),
    NetworkConfig(resolution=32, fmap_base=1024, fmap_max=128),
    TrainingConfig(batch_sizes={4: 32, 16: 16}, learning_rates={4: 0.001, 32: 0.0015}),
)


def test_powers_of_two() -> None:
    assert [n for n in range(-2, 20) if is_power_of_two(n)] == [1, 2, 4, 8, 16]


def test_resolutions_begin_at_four() -> None:
    assert resolutions_up_to(32) == [4, 8, 16, 32]
    assert resolutions_up_to(4) == [4]


def test_feature_maps_of_the_papers_networks() -> None:
    network = NetworkConfig(resolution=1024)
    features = {r: network.features(r) for r in resolutions_up_to(1024)}
    assert features == {4: 512, 8: 512, 16: 512, 32: 512, 64: 256, 128: 128, 256: 64, 512: 32, 1024: 16}
    assert network.latents == 512


def test_feature_maps_of_a_smaller_network() -> None:
    network = NetworkConfig(resolution=32, fmap_base=256, fmap_max=48)
    assert [network.features(r) for r in (4, 8, 16, 32)] == [48, 48, 32, 16]
    assert network.latents == 48


def test_latents_of_another_size_than_the_feature_maps() -> None:
    network = NetworkConfig(resolution=32, fmap_base=256, fmap_max=32, latent_size=64)
    assert [network.features(r) for r in (4, 8, 16, 32)] == [32, 32, 32, 16]
    assert network.latents == 64


@pytest.mark.parametrize(
    ("features", "latents", "found"),
    [
        ({4: 16, 8: 8}, 16, {"fmap_base": 32, "fmap_max": 16}),
        ({4: 16, 8: 9, 16: 4}, 16, {"fmap_base": 36, "fmap_max": 16}),
        ({4: 8, 8: 4}, 16, {"fmap_base": 16, "fmap_max": 16}),  # 16 at 2x2, as in the paper
        ({4: 32, 8: 32, 16: 16}, 64, {"fmap_base": 128, "fmap_max": 32, "latent_size": 64}),
        ({4: 32, 8: 32, 16: 16}, 24, {"fmap_base": 128, "fmap_max": 32, "latent_size": 24}),
    ],
)
def test_the_network_of_given_layers(features: dict[int, int], latents: int, found: dict[str, int]) -> None:
    network = network_of(max(features), features, latents, channels=1)
    assert network == NetworkConfig(max(features), channels=1, **found)
    assert network.latents == latents


def test_layers_that_no_network_has() -> None:
    with pytest.raises(ConfigError, match="^feature maps 24 at 4x4, 20 at 8x8, 16 at 16x16 follow from no fmap_base "):
        network_of(16, {4: 24, 8: 20, 16: 16}, 24)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"resolution": 2}, "resolution is 2: must be a power of two from 4 to 1024"),
        ({"resolution": 24}, "resolution is 24: must be a power of two from 4 to 1024"),
        ({"resolution": 2048}, "resolution is 2048: must be a power of two from 4 to 1024"),
        ({"resolution": 8, "channels": 2}, "channels is 2: must be 1 or 3"),
        ({"resolution": 8, "label_size": -1}, "label_size is -1: must be 0 or more"),
        ({"resolution": 8, "fmap_max": 0}, "fmap_max is 0: must be 1 or more"),
        ({"resolution": 8, "latent_size": -1}, "latent_size is -1: must be 0 to 65536"),
        ({"resolution": 8, "pixelnorm_epsilon": 0.0}, "pixelnorm_epsilon is 0.0: must be above 0, and 1 at most"),
        ({"resolution": 8, "d_pool": "max"}, "d_pool is 'max': must be pre_act or post_act"),
        ({"resolution": 64, "fmap_base": 31}, "fmap_base is 31: must be at least 32 for 64x64 images"),
    ],
)
def test_a_network_that_cannot_be_built_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{message}$"):
        NetworkConfig(**values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"seed": -1}, "seed is -1: must be 0 or more"),
        ({"seed": 2**31}, r"seed is 2147483648: must be below 2\^31"),
        ({"stable_kimg": 0}, r"stable_kimg is 0: must be 0.001 \(one image\) or more"),
        ({"total_kimg": float("inf")}, r"total_kimg is inf: must be finite"),
        ({"tick_kimg": {4: float("nan")}}, r"tick_kimg at 4 is nan: must be 0.001 \(one image\) or more"),
        ({"tick_kimg": {4: 1, 8: 0.0004}}, r"tick_kimg at 8 is 0.0004: must be 0.001 \(one image\) or more"),
        ({"tick_kimg": {8: 1}}, "tick_kimg is {8: 1}: must give a value for resolution 4"),
        ({"learning_rate_ramp_kimg": -1}, "learning_rate_ramp_kimg is -1: must be 0 or more"),
        ({"precision": "fp16"}, "precision is 'fp16': must be float32 or bfloat16"),
        ({"snapshot_ticks": -1}, "snapshot_ticks is -1: must be 0 or more"),
        ({"metric_images": 14}, "metric_images is 14: must be 0, or an even number from 16 on"),
        ({"metric_images": 17}, "metric_images is 17: must be 0, or an even number from 16 on"),
        ({"fade_kimg": -1}, "fade_kimg is -1: must be 0 or more"),
        ({"ema_halflife_kimg": 0}, "ema_halflife_kimg is 0: must be above 0"),
        ({"gp_target": 0}, "gp_target is 0: must be above 0"),
        ({"gp_weight": float("nan")}, "gp_weight is nan: must be 0 or more"),
        ({"adam_beta2": 1}, "adam_beta2 is 1: must lie between 0 and 1"),
        ({"gp_reference": "image"}, "gp_reference is 'image': must be canvas or native"),
        ({"mbstd_group_size": 0}, "mbstd_group_size is 0: must be 1 or more"),
        ({"batch_sizes": {8: 16}}, "batch_sizes is {8: 16}: must give a value for resolution 4"),
        ({"batch_sizes": {4: 16, 12: 8}}, "batch_sizes resolution is 12: must be a power of two"),
        ({"batch_sizes": {4: 0}}, "batch_sizes at 4 is 0: must be above 0"),
        (
            {"batch_sizes": {4: 6}},
            "batch_sizes at 4 is 6: must be a multiple of `mbstd_group_size` 4, or smaller than it",
        ),
        ({"learning_rates": {4: float("inf")}}, "learning_rates at 4 is inf: must be finite"),
    ],
)
def test_a_training_that_cannot_run_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{message}$"):
        TrainingConfig(**values)


def test_a_batch_smaller_than_the_stddev_group_is_one_group() -> None:
    assert TrainingConfig(batch_sizes={4: 3}, mbstd_group_size=4).batch_sizes == {4: 3}


def test_a_run_reads_back_as_it_was_written() -> None:
    assert RunConfig.from_json(RUN.to_json()) == RUN


def test_a_run_with_labels_reads_back_as_it_was_written() -> None:
    labelled = replace(RUN, dataset=replace(RUN.dataset, label_names=("round", "square")))
    read = RunConfig.from_json(labelled.to_json())
    assert read == labelled
    assert read.dataset.label_names == ("round", "square")
    assert read.digest == labelled.digest


def test_a_written_run_is_plain_json_that_a_person_can_read() -> None:
    document = json.loads(RUN.to_json())
    assert document["dataset"] == {
        "name": "faces",
        "image_count": 1000,
        "digest": "0f1e",
        "label_names": [],
        "license": "CC0",
        "parts": {},
        "label_kind": "classes",
    }
    assert document["training"]["batch_sizes"] == {"4": 32, "16": 16}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"dataset": {}, "network": {}, "training": {}}',
        json.dumps(asdict(RUN) | {"network": {"resolution": "32"}}),
        json.dumps(asdict(RUN) | {"training": {"batch_sizes": {"four": 16}}}),
        json.dumps(asdict(RUN) | {"training": {"batch_sizes": [16]}}),
        json.dumps(asdict(RUN) | {"training": {"tick_kimg": 4}}),
        json.dumps(asdict(RUN) | {"dataset": {"name": "faces", "image_count": 1000, "label_names": 2}}),
    ],
)
def test_what_is_no_run_configuration_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="^not a run configuration: "):
        RunConfig.from_json(text)


def test_a_changed_value_is_noticed() -> None:
    text = RUN.to_json().replace('"seed": ', '"seed": 1')
    with pytest.raises(ConfigError) as refused:
        RunConfig.from_json(text)
    assert str(refused.value) == (
        "not a run configuration: its content does not fit its sha256: it is damaged, or was edited; take it from a "
        "copy, or remove the line sha256 to use it as it is"
    )
    edited = "".join(line for line in text.splitlines(keepends=True) if "sha256" not in line)
    assert RunConfig.from_json(edited).training.seed == int(f"1{RUN.training.seed}")


# What makes a run another run


OTHER: dict[str, Any] = {
    "dataset.name": "fruits",
    "dataset.image_count": 1001,
    "dataset.digest": "ffff",
    "dataset.parts": {"4x4": "eeee"},
    "dataset.label_names": ("round", "square"),
    "dataset.license": "MIT",
    "dataset.label_kind": "attributes",
    "network.resolution": 64,
    "network.channels": 1,
    "network.label_size": 2,
    "network.fmap_base": 2048,
    "network.fmap_max": 64,
    "network.latent_size": 32,
    "network.d_pool": "post_act",
    "network.pixelnorm_epsilon": 1e-4,
    "network.first_bias": "pixel",
    "training.seed": 1,
    "training.initial_resolution": 8,
    "training.stable_kimg": 601,
    "training.fade_kimg": 0,
    "training.total_kimg": 99,
    "training.batch_sizes": {4: 32, 16: 8},
    "training.learning_rates": {4: 0.001, 32: 0.003},
    "training.learning_rate_ramp_kimg": 40,
    "training.learning_rate_fall_kimg": 20,
    "training.adam_beta2": 0.999,
    "training.ema_halflife_kimg": 5,
    "training.ema_rampup": 0.05,
    "training.gp_weight": 1,
    "training.gp_target": 750,
    "training.gp_reference": "native",
    "training.drift_weight": 0,
    "training.mbstd_group_size": 16,
    "training.mirror": True,
    "training.precision": "bfloat16",
    "training.fused_kernels": False,
    "training.tick_kimg": {4: 1},
    "training.snapshot_ticks": 10,
    "training.metric_images": 64,
}


def changed(name: str) -> RunConfig:
    concern, setting = name.split(".")
    return replace(RUN, **{concern: replace(getattr(RUN, concern), **{setting: OTHER[name]})})


def test_every_setting_has_a_name() -> None:
    assert RUN.settings().keys() == OTHER.keys()
    assert RUN.settings()["network.fmap_base"] == 1024
    assert RUN.settings()["training.batch_sizes"] == {4: 32, 16: 16}


@pytest.mark.parametrize("name", OTHER)
def test_a_setting_that_changes_makes_another_run_unless_it_may(name: str) -> None:
    assert (changed(name).digest == RUN.digest) == (name in MAY_CHANGE)


def test_what_may_change_when_a_run_goes_on() -> None:
    assert sorted(MAY_CHANGE) == [
        "dataset.license",
        "training.metric_images",
        "training.snapshot_ticks",
        "training.tick_kimg",
        "training.total_kimg",
    ]


def test_a_number_is_the_same_setting_however_it_is_written() -> None:
    training = replace(
        RUN.training,
        stable_kimg=600.0,
        gp_weight=10.0,
        batch_sizes={16: 16, 4: 32},
        learning_rates={32: 1.5e-3, 4: 1e-3},
    )
    assert replace(RUN, training=training) == RUN
    assert replace(RUN, training=training).digest == RUN.digest


def test_a_setting_at_its_default_leaves_the_digest_as_it_was() -> None:
    """So a setting that a later release adds does, too."""
    few = replace(RUN, training=TrainingConfig(seed=3))
    text = '{"dataset.digest": "0f1e", "dataset.image_count": 1000, "dataset.name": "faces", '
    text += '"network.fmap_base": 1024, "network.fmap_max": 128, "network.resolution": 32, "training.seed": 3}'
    assert few.digest == hashlib.sha256(text.encode()).hexdigest()


def test_the_digest_of_the_first_commits_is_recognised() -> None:
    """They had no defaults in mind, and other words for a precision."""
    half = replace(RUN, training=replace(RUN.training, precision="bfloat16"))
    assert RUN.digests == (RUN.digest, "68544ab2178161594e37080b2fb1d900adbf09b3126e213b97064adbde04aff2")
    assert half.digests == (half.digest, "ef1ad8bc70541f85364e8b4050f4179f691a967863d8bf2a91e045c9dfb9f399")


# Files of other releases


def rewritten(text: str, **parts: Any) -> str:
    """A configuration with other values in its parts and no checksum; a value that is no object replaces the part."""
    document = json.loads(text)
    del document["sha256"]
    for name, change in parts.items():
        document[name] = {**document[name], **change} if isinstance(change, dict) and name in document else change
    return json.dumps(document)


def test_a_configuration_written_by_a_newer_release_is_read_and_its_keys_are_kept() -> None:
    newer = rewritten(RUN.to_json(), training={"warmth": 3}, dataset={"mood": "calm"}, host={"name": "ada"})
    read = RunConfig.from_json(newer)
    assert replace(read, unknown={}) == RUN
    written = json.loads(read.to_json())
    assert written.pop("sha256")
    assert written == json.loads(newer)


def test_a_configuration_of_a_higher_version_is_refused_by_name() -> None:
    with pytest.raises(ConfigError) as refused:
        RunConfig.from_json(rewritten(RUN.to_json(), format_version=2))
    assert str(refused.value) == (
        "was written by a newer release (format_version 2; this release reads 1): upgrade progan-service to read it"
    )


def test_a_configuration_of_the_first_commits_is_read() -> None:
    document = json.loads(rewritten(RUN.to_json(), training={"precision": "bf16"}))
    document["dataset"]["licence"] = document["dataset"].pop("license")
    del document["format_version"]
    assert RunConfig.from_json(json.dumps(document)) == replace(
        RUN, training=replace(RUN.training, precision="bfloat16")
    )


def test_a_setting_that_is_missing_has_its_default() -> None:
    read = RunConfig.from_json(
        '{"dataset": {"name": "faces", "image_count": 9}, "network": {"resolution": 8}, "training": {}}'
    )
    assert read == RunConfig(DatasetConfig("faces", 9), NetworkConfig(8), TrainingConfig())


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"training": {"seed": "1"}}, "training.seed is '1': must be a whole number"),
        (
            {"training": {"batch_sizes": {"four": 16}}},
            "a name in training.batch_sizes is 'four': must be a whole number",
        ),
        ({"training": {"tick_kimg": {"4": "1"}}}, "training.tick_kimg.4 is '1': must be a number"),
        ({"training": {"mirror": 1}}, "training.mirror is 1: must be true or false"),
        ({"training": {"precision": ["bf16"]}}, r"training.precision is \['bf16'\]: must be text"),
        ({"dataset": {"license": 1}}, "dataset.license is 1: must be text"),
        ({"network": None}, "network is None: must be an object of names and values"),
    ],
)
def test_a_value_of_another_type_is_named(parts: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^not a run configuration: {message}$"):
        RunConfig.from_json(rewritten(RUN.to_json(), **parts))


def test_allowed_batch_sizes_are_powers_of_two_up_to_the_largest() -> None:
    assert BatchingConfig().allowed_batch_sizes == (1, 2, 4, 8, 16)
    assert BatchingConfig(max_batch_size=12).allowed_batch_sizes == (1, 2, 4, 8, 12)
    assert BatchingConfig(max_batch_size=1).allowed_batch_sizes == (1,)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"max_batch_size": 0}, "max_batch_size is 0: must be 1 or more"),
        (
            {"max_batch_size": 8, "allowed_batch_sizes": (4, 2, 8)},
            r"allowed_batch_sizes is \(4, 2, 8\): must rise and end with `max_batch_size` 8",
        ),
        (
            {"max_batch_size": 8, "allowed_batch_sizes": (1, 4)},
            r"allowed_batch_sizes is \(1, 4\): must rise and end with `max_batch_size` 8",
        ),
        ({"max_queued_rows": 15}, "max_queued_rows is 15: must be at least `max_batch_size` 16"),
    ],
)
def test_a_batching_that_cannot_work_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{message}$"):
        BatchingConfig(**values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"port": 65536}, "port is 65536: must be 0 to 65535"),
        ({"http_port": -1}, "http_port is -1: must be 0 to 65535"),
        ({"port": 9000, "http_port": 9000}, "http_port is 9000: must differ from `port`"),
        ({"max_images": 0}, "max_images is 0: must be 1 or more"),
        ({"max_request_bytes": 1000}, "max_request_bytes is 1000: must be at least 64 KiB"),
        (
            {"max_unsent_bytes": 1000},
            "max_unsent_bytes is 1000: must be at least twice `max_reply_bytes`, 134217728",
        ),
        ({"max_reply_bytes": 1000}, "max_reply_bytes is 1000: must be at least 4 MiB"),
        ({"lame_duck_s": -1}, "lame_duck_s is -1: must be 0 or more"),
        ({"drain_s": -0.5}, "drain_s is -0.5: must be 0 or more"),
        ({"lame_duck_s": float("inf")}, r"lame_duck_s is inf: must be 86400 \(a day\) or less"),
        ({"lame_duck_s": float("nan")}, "lame_duck_s is nan: must be 0 or more"),
        ({"drain_s": 1e300}, r"drain_s is 1e\+300: must be 86400 \(a day\) or less"),
        ({"poll_s": float("inf")}, r"poll_s is inf: must be 86400 \(a day\) or less"),
        ({"hang_s": float("inf")}, r"hang_s is inf: must be 86400 \(a day\) or less"),
        ({"precision": "bf16"}, "precision is 'bf16': must be float32, bfloat16 or auto"),
        ({"tls_cert": Path("tls.crt")}, "tls_cert is 'tls.crt': needs `tls_key`, too"),
        ({"tls_key": Path("tls.key")}, "tls_key is 'tls.key': needs `tls_cert`, too"),
        ({"client_ca": Path("ca.crt")}, "client_ca is 'ca.crt': needs `tls_cert`, too"),
    ],
)
def test_a_server_that_cannot_listen_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{message}$"):
        ServerConfig(Path("store"), **values)


@pytest.mark.parametrize("config", [ServerConfig, RunConfig, NetworkConfig])
def test_no_number_is_infinite(config: type[Settings]) -> None:
    for one in settings_of(config):
        for value in (float("inf"), float("-inf"), float("nan")):
            if one.hint is float:
                with pytest.raises(ConfigError, match=f"^{one.name} is {value}: must "):
                    one.check(value)


def test_both_ports_may_be_free_ones() -> None:
    assert ServerConfig(Path("store"), port=0, http_port=0).http_port == 0


def test_a_store_is_a_directory_or_behind_a_url_and_only_the_latter_is_cached() -> None:
    assert ServerConfig("gs://bucket/models", cache=Path("cache")).cache == Path("cache")
    assert ServerConfig("gs://bucket/models").cache is None
    with pytest.raises(ConfigError) as refusal:
        ServerConfig(Path("models"), cache=Path("cache"))
    assert str(refusal.value) == "cache is 'cache': must be left out: `store` 'models' is a directory and needs no copy"
    with pytest.raises(ConfigError) as refusal:
        ServerConfig("models")
    assert str(refusal.value) == "store is 'models': must be a directory, or a URL such as gs://bucket/models"

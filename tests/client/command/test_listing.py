"""Models as text, word for word."""

from dataclasses import replace

from progan_client import Model, ModelVersion
from progan_client.command.listing import WIDTH, model_lines

DIGEST = "sha256:0f46bd1a1830ff62f9f698b23b5c1603f9b3a55db0a96b7a98f337623033c709"
TRAINED = ModelVersion(
    version=2,
    state="ready",
    error="",
    digest=DIGEST,
    latent_size=128,
    resolution=64,
    channels=3,
    label_count=0,
    label_names=(),
    provenance={"source": "progan train", "images_shown": 280096},
)
FRUITS = Model("fruits", (TRAINED,), True, serving_version=2, pinned_version=None, version_labels={}, error="")


def text(model: Model) -> str:
    lines = model_lines(model)
    assert max(map(len, lines)) <= WIDTH
    return "\n" + "\n".join(lines) + "\n"


def test_one_version() -> None:
    assert (
        text(FRUITS)
        == """
fruits (default)
  VERSION  STATE  IMAGES     LATENT  DIGEST               USE
  2        ready  64x64 RGB  128     sha256:0f46bd1a1830  serving
           origin: progan train, 280096 images shown
"""
    )


def test_a_loaded_version_shows_what_it_takes_in_memory() -> None:
    loaded = replace(TRAINED, memory_bytes=42 * 2**20)
    assert model_lines(replace(FRUITS, versions=(loaded,)))[3:] == [
        "           origin: progan train, 280096 images shown",
        "           memory: 42 MiB",
    ]


def test_versions_with_every_note() -> None:
    hub = replace(
        TRAINED,
        version=4,
        resolution=128,
        latent_size=512,
        provenance={"source": "tfhub", "origin": "https://tfhub.dev/google/progan-128/1"},
    )
    damaged = replace(
        TRAINED,
        version=3,
        state="failed",
        error="/srv/store/fruits/3/variables/variables.index: differs from what was published (SHA-256 01fe6098b01a)",
    )
    torn = ModelVersion(1, "available", "progan.json: missing", "", 0, 0, 0, 0, (), {})
    labels = {"stable": 2, "canary": 4, "blue-1": 2}
    model = Model("fruits", (hub, damaged, TRAINED, torn), False, 2, 2, labels, "")
    assert (
        text(model)
        == """
fruits
  VERSION  STATE      IMAGES       LATENT  DIGEST               USE
  4        ready      128x128 RGB  512     sha256:0f46bd1a1830  canary
           origin: tfhub https://tfhub.dev/google/progan-128/1
  3        failed     64x64 RGB    128     sha256:0f46bd1a1830
           origin: progan train, 280096 images shown
           error: /srv/store/fruits/3/variables/variables.index: differs from what was published
             (SHA-256 01fe6098b01a)
  2        ready      64x64 RGB    128     sha256:0f46bd1a1830  serving, pinned, blue-1, stable
           origin: progan train, 280096 images shown
  1        available  -            -       -
           error: progan.json: missing
"""
    )


def test_labels_of_images_are_named_unless_they_are_many() -> None:
    faces = replace(TRAINED, channels=1, label_count=2, label_names=("bare", "glasses"), provenance={})
    many = replace(TRAINED, label_count=1000, label_names=tuple(map(str, range(1000))), provenance={})
    unnamed = replace(TRAINED, label_count=10, provenance={})
    assert model_lines(replace(FRUITS, versions=(faces,)))[2:] == [
        "  2        ready  64x64 grey  128     sha256:0f46bd1a1830  serving",
        "           classes: bare, glasses",
    ]
    assert model_lines(replace(FRUITS, versions=(many,)))[3:] == ["           classes: 1000"]
    assert model_lines(replace(FRUITS, versions=(unnamed,)))[3:] == ["           classes: 10"]
    attributes = replace(faces, label_kind="attributes")
    assert model_lines(replace(FRUITS, versions=(attributes,)))[3:] == ["           attributes: bare, glasses"]


def test_what_is_wrong_with_the_choice_of_versions_stands_first() -> None:
    model = replace(FRUITS, pinned_version=7, error="rollout.json: not readable as a rollout")
    assert model_lines(model)[:3] == [
        "fruits (default)",
        "           error: rollout.json: not readable as a rollout",
        "           pinned: version 7, which is not in the store",
    ]


def test_many_labels_of_a_version_go_on_below() -> None:
    model = replace(FRUITS, version_labels={"a" * 30: 2, "b" * 30: 2, "c-" * 15: 2})
    assert (
        text(model)
        == f"""
fruits (default)
  VERSION  STATE  IMAGES     LATENT  DIGEST               USE
  2        ready  64x64 RGB  128     sha256:0f46bd1a1830  serving, {"a" * 30},
                                                          {"b" * 30},
                                                          {"c-" * 15}
           origin: progan train, 280096 images shown
"""
    )


def test_terminal_control_characters_are_not_printed() -> None:
    foreign = replace(TRAINED, provenance={"source": "\x1b[31mred\r\nline", "origin": ["no", "text"]})
    assert model_lines(replace(FRUITS, versions=(foreign,)))[3:] == [r"           origin: \x1b[31mred\r\nline"]

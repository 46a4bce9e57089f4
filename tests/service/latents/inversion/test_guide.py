"""What a bank of images teaches about the latents behind images."""

import numpy as np
import pytest

from progan_service.latents.inversion.guide import Guide, change_of, guide_of

RANDOM = np.random.default_rng(0)
LATENTS = RANDOM.standard_normal((400, 4)).astype(np.float32)
VIEW = np.array([[1, 0, 0, 0, 1], [0, 0.5, 0, 0, 0], [0, 0, 0.1, 0, 0], [0, 0, 0, 0, 0]], np.float32)
SMALL = LATENTS @ VIEW  # five pixels; the fourth number of a latent is not seen


def test_what_is_seen_of_a_latent_is_found() -> None:
    guide = guide_of(SMALL, LATENTS)
    z = np.array([[1.0, -1.0, 1.0, 0.0]], np.float32)
    found = guide.encoded(z @ VIEW)
    assert found[0, :3] == pytest.approx([1.15, -1.15, 1.15], abs=0.1)  # its length is sqrt(4)
    assert found.dtype == np.float32
    assert np.linalg.norm(found) == pytest.approx(2.0)


def test_the_cosine_is_that_of_images_which_were_not_learnt() -> None:
    assert guide_of(SMALL, LATENTS).cosine == pytest.approx(0.82, abs=0.02)  # three of four numbers are seen
    noise = RANDOM.standard_normal((400, 300)).astype(np.float32)
    assert abs(guide_of(noise, LATENTS).cosine) < 0.1


def test_the_metric_tells_how_much_images_change_along_each_number() -> None:
    metric = guide_of(SMALL, LATENTS).metric
    assert np.diag(metric) == pytest.approx([3.56, 0.44, 0.02, 0.0], abs=0.15)
    assert np.trace(metric) == pytest.approx(4.0)


def test_the_metric_may_be_measured_instead() -> None:
    metric = guide_of(SMALL, LATENTS, change_of(np.diag(np.arange(4.0, dtype=np.float32)))).metric
    assert np.diag(metric) == pytest.approx([0, 4 / 14, 16 / 14, 36 / 14])


def test_an_image_of_nothing_has_some_latent() -> None:
    guide = Guide(np.zeros(5, np.float32), np.zeros((5, 4), np.float32), np.eye(4, dtype=np.float32), 0.0)
    assert np.isfinite(guide.encoded(SMALL[:1])).all()

"""The peak signal-to-noise ratio, by numbers that can be worked out by hand."""

import numpy as np

from progan_service.evaluation.psnr import psnr_db


def test_the_signal_to_noise_ratio_of_images() -> None:
    black = np.zeros((2, 4, 4, 3), np.uint8)
    one_level, one_black_one_white = black + np.uint8(1), black.copy()
    one_black_one_white[1] = 255
    assert psnr_db(black, black) == 99
    assert psnr_db(one_level, black) == psnr_db(black, one_level) == 48.13
    assert psnr_db(one_black_one_white, black) == 3.01
    assert psnr_db(black + np.uint8(255), black) == 0

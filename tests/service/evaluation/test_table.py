from progan_service.evaluation.table import table


def test_levels_come_first_and_what_a_row_lacks_is_a_dash() -> None:
    rows = [
        ("8x8", {"SWDx1e3_8": 2.0, "SWDx1e3_avg": 2.0, "MS-SSIM": 0.25}),
        ("a run of 32x32", {"SWDx1e3_32": 3.456, "SWDx1e3_16": 1234.5, "SWDx1e3_avg": 619.0, "MS-SSIM": 0.5}),
    ]
    assert table("64 images", rows).splitlines() == [
        "64 images       SWDx1e3_32  SWDx1e3_16  SWDx1e3_8  SWDx1e3_avg  MS-SSIM",
        "8x8                      -           -       2.00         2.00   0.2500",
        "a run of 32x32        3.46     1234.50          -       619.00   0.5000",
    ]

import dataclasses

import numpy as np
import pytest

from progan_service.data.making.faces import ATTRIBUTE_VALUES, FaceAttributes, draw_face

PLAIN = FaceAttributes(
    glasses=False,
    smile=False,
    skin="peach",
    hair_style="bald",
    hair_colour="brown",
    eyes="blue",
    nose="button",
    background="mint",
    shirt="navy",
)


@pytest.mark.parametrize("size", [4, 8, 32, 64, 256])
def test_a_face_is_drawn_at_any_size(size: int) -> None:
    face = draw_face(PLAIN, size)
    assert (face.mode, face.size) == ("RGB", (size, size))


def test_the_background_fills_the_corners_and_the_skin_the_forehead() -> None:
    face = draw_face(PLAIN, 64)
    assert face.getpixel((1, 1)) == (166, 224, 196)
    assert face.getpixel((34, 20)) == (246, 199, 160)


@pytest.mark.parametrize("tilt", [-7.0, 7.0])
def test_tilting_leaves_no_empty_corner(tilt: float) -> None:
    tilted = draw_face(dataclasses.replace(PLAIN, tilt_degrees=tilt), 64)
    assert tilted.getpixel((16, 63)) == (52, 72, 122)
    assert tilted.getpixel((48, 63)) == (52, 72, 122)


@pytest.mark.parametrize("attribute", sorted(ATTRIBUTE_VALUES))
def test_every_attribute_is_seen_at_32_pixels(attribute: str) -> None:
    values = (False, True) if attribute in ("glasses", "smile") else ATTRIBUTE_VALUES[attribute]
    short_haired = dataclasses.asdict(dataclasses.replace(PLAIN, hair_style="short"))
    pictures = {draw_face(FaceAttributes(**(short_haired | {attribute: value})), 32).tobytes() for value in values}
    assert len(pictures) == len(ATTRIBUTE_VALUES[attribute])


def test_skin_and_hair_have_shades_between_the_named_colours() -> None:
    assert dataclasses.replace(PLAIN, skin_shade=0.5).skin_colour == (232, 180, 136)  # half way from peach to tan
    assert dataclasses.replace(PLAIN, skin_shade=-0.5).skin_colour == (250, 212, 182)  # half way to porcelain
    assert dataclasses.replace(PLAIN, hair_shade=0.5).hair == (70, 46, 37)
    assert dataclasses.replace(PLAIN, hair_shade=-0.5).hair == (176, 156, 144)


def test_hair_hangs_down_as_far_as_it_is_long() -> None:
    ends = [dataclasses.replace(PLAIN, hair_style="bob", hair_length=length).hair_ends for length in (0.75, 1.0, 1.25)]
    assert ends == pytest.approx([0.6, 0.8, 1.0])
    short, long = (
        draw_face(dataclasses.replace(PLAIN, hair_style="bob", hair_length=length), 64) for length in (0.75, 1.25)
    )
    above_the_shoulder = (14, 51)
    assert short.getpixel(above_the_shoulder) == (166, 224, 196)  # the background
    assert long.getpixel(above_the_shoulder) != (166, 224, 196)


def test_the_lenses_are_as_dark_as_their_tint() -> None:
    eyes = [
        draw_face(dataclasses.replace(PLAIN, glasses=True, tint=tint), 64).convert("L").crop((16, 28, 48, 38))
        for tint in (0.0, 0.4, 0.8)
    ]
    clear, grey, dark = (np.asarray(eye).mean() for eye in eyes)
    assert clear > grey + 10 > dark + 20


def test_the_whole_face_smiles_by_degrees() -> None:
    faces = [PLAIN] + [dataclasses.replace(PLAIN, smile=True, smile_height=height) for height in (0.14, 0.27, 0.4)]
    assert [round(face.cheer, 3) for face in faces] == [0.08, 0.35, 0.675, 1.0]
    pictures = [np.asarray(draw_face(face, 256)).astype(int) for face in faces]
    eye, cheek, mouth = np.s_[110:160, 99], np.s_[168, 88], np.s_[165:225, 128]
    skin, inside_of_mouth = (246, 199, 160), (130, 26, 42)
    assert [int((picture[mouth] == inside_of_mouth).all(axis=1).sum()) for picture in pictures] == [0, 4, 10, 16]
    assert [int((picture[eye] != skin).any(axis=1).sum()) for picture in pictures] == [31, 27, 21, 16]
    assert [picture[cheek].tolist() for picture in pictures] == [
        [243, 167, 139],
        [242, 154, 130],
        [241, 139, 120],
        [240, 124, 111],
    ]


def test_a_closed_mouth_bends_either_way() -> None:
    def lip(curve: float, column: int) -> int:
        """Return the row of pixels in which the mouth begins in a column."""
        picture = np.asarray(draw_face(dataclasses.replace(PLAIN, mouth_curve=curve), 256)).astype(int)
        below_the_nose = slice(165, 225)
        return 165 + int(np.argmax((picture[below_the_nose, column] == (150, 52, 58)).all(axis=1)))

    middle, right = 128, 140
    assert [lip(curve, middle) - lip(curve, right) for curve in (-0.1, 0.0, 0.1)] == [-4, 0, 2]
    assert dataclasses.replace(PLAIN, mouth_curve=-0.1).cheer == -0.4


def test_the_same_attributes_give_the_same_pixels() -> None:
    face = FaceAttributes.random(np.random.default_rng(1))
    assert draw_face(face, 32).tobytes() == draw_face(face, 32).tobytes()


def test_random_faces_use_every_value() -> None:
    rng = np.random.default_rng(0)
    faces = [FaceAttributes.random(rng) for _ in range(300)]
    for attribute, values in ATTRIBUTE_VALUES.items():
        assert len({getattr(face, attribute) for face in faces}) == len(values)

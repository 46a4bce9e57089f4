"""Labels from folders: each folder of pictures is a class."""

from collections import Counter
from collections.abc import Sequence

from progan_service.data.making.labels.labels import Faults, Labels, classes_of
from progan_service.names import shown


def labels_of_folders(pictures: Sequence[str]) -> Labels:
    """Return the classes of pictures: cat for cat/1.png and cat/tabby/2.png.

    Folders around all pictures do not count: photos/cat/1.png and photos/dog/1.png are cat and dog.

    Raises:
        DatasetError: a picture lies in no folder, or all lie in one.
    """
    where, faults = "the folders", Faults("the folders")
    classes = class_folders(pictures)
    for picture, name in zip(pictures, classes, strict=True):
        if not name:
            faults.add("pictures in no folder of their own", shown(picture))
    faults.refuse()
    return classes_of(where, pictures, dict(enumerate(classes)), faults)


def class_folders(pictures: Sequence[str]) -> list[str]:
    """Return for each picture the folder that is its class; '' for a picture in none."""
    folders = [picture.split("/")[:-1] for picture in pictures]
    around = 0
    for names in zip(*folders, strict=False):
        if len(set(names)) > 1:
            break
        around += 1
    return [names[around] if len(names) > around else "" for names in folders]


def look_like_classes(pictures: Sequence[str]) -> Counter[str] | None:
    """Return how many pictures each folder has, if the folders may be classes: several of two pictures or more."""
    counts = Counter(class_folders(pictures))
    return counts if len(counts) > 1 and "" not in counts and min(counts.values()) > 1 else None

"""What labels are: classes, of which each image has exactly one, or attributes, each of which holds or does not."""

from typing import Literal

LabelKind = Literal["classes", "attributes"]

"""The manifests, folder by folder.

`make test` reads the files as they are written; `make check` asks the same of what kubectl renders from each overlay.
"""

import pytest
from manifests import RENDERED, WRITTEN, Resource, read, render


@pytest.fixture(
    params=[
        *[pytest.param((read, folder), id=f"written-{folder}") for folder in WRITTEN],
        *[pytest.param((render, folder), id=f"rendered-{folder}", marks=pytest.mark.check) for folder in RENDERED],
    ]
)
def resources(request: pytest.FixtureRequest) -> list[Resource]:
    source, folder = request.param
    found: list[Resource] = source(folder)
    return found

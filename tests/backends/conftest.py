"""What the tests of backends share: a fleet that stays."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dsgd.backends.processes import ChildPlace
from tests.backends.fleets import Kept


@pytest.fixture(scope="session")
def fleet() -> Iterator[Kept]:
    kept = Kept([ChildPlace() for _ in range(4)])
    yield kept
    kept.end()

"""Rows of a history compared, also where a value is a list."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest


def near(row: Mapping[str, Any], **tolerance: float) -> dict[str, Any]:
    """A row to compare another with, up to rounding."""
    return {name: value if isinstance(value, str) else pytest.approx(value, **tolerance) for name, value in row.items()}

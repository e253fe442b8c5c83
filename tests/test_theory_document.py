"""What docs/theory.md names as the code and the tests of an equation is there."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "theory.md").read_text(encoding="utf-8")
NAMED = re.findall(r"`((?:dsgd|topologies|tests)/[\w/]+\.py): (\w+)`", TEXT)


@cache
def defined(path: str) -> frozenset[str]:
    """The functions and classes at the top of a file."""
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef))


@pytest.mark.parametrize(("path", "name"), NAMED)
def test_what_is_named_exists(path: str, name: str) -> None:
    assert name in defined(path)


def test_every_equation_names_its_code_its_test_and_its_source() -> None:
    blocks = re.findall(r"((?:^- .*\n)+)", TEXT, re.MULTILINE)
    assert len(blocks) >= 15
    for block in blocks:
        kinds = re.findall(r"^- (Code|Tests?|Source): ", block, re.MULTILINE)
        assert [kind.removesuffix("s") for kind in kinds] == ["Code", "Test", "Source"], block
        assert re.search(r"`(?:dsgd|topologies)/", block), block
        assert re.search(r"`tests/", block), block

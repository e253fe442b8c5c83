"""docs/notebook.ipynb runs from top to bottom, and prints what it shows."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.documented import NEWCOMER

PAGE = Path(__file__).parents[1] / "docs" / "notebook.ipynb"
MOST_BYTES = 300_000


def printed(notebook: nbformat.NotebookNode) -> list[str]:
    """What the cells print, in their order."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return ["".join(one.get("text", "") for one in cell.outputs) for cell in cells]


def figures(notebook: nbformat.NotebookNode) -> int:
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return sum("image/png" in one.get("data", {}) for cell in cells for one in cell.outputs)


def test_it_is_kept_with_what_it_prints_and_is_small() -> None:
    notebook = nbformat.read(PAGE, as_version=4)
    nbformat.validate(notebook)
    assert PAGE.stat().st_size < MOST_BYTES
    assert figures(notebook) >= 3
    assert [cell.execution_count for cell in notebook.cells if cell.cell_type == "code"] == [
        *range(1, len(printed(notebook)) + 1)
    ]
    assert not any(
        "/" in "".join(one.get("traceback", "")) for cell in notebook.cells for one in cell.get("outputs", [])
    )


@pytest.mark.slow
def test_it_runs_and_prints_what_it_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    kept, again = (nbformat.read(PAGE, as_version=4) for _ in range(2))
    for cell in again.cells:
        cell.pop("outputs", None) if cell.cell_type != "code" else cell.update(outputs=[], execution_count=None)
    NotebookClient(again, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert figures(again) == figures(kept)
    for promised, found in zip(printed(kept), printed(again), strict=True):
        assert NEWCOMER.differences(promised, found) == []

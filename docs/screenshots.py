"""The pictures of docs/pictures: pages of dsgd as Chromium shows them, light, dark and on a telephone.

`make pictures` trains a few small runs and a study (two minutes on 2 cores), writes their pages and takes the
pictures. Their numbers are those of the runs; a picture is committed where a page looks otherwise.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from dsgd.cli import main
from dsgd.cli.browser import QUIET, chromium

PICTURES = Path(__file__).parent / "pictures"
RUN = (
    "task=digits",
    "topology.n=16",
    "steps=400",
    "batch_size=16",
    "measure_every=20",
    "learning_rate.lr=0.2",
    "metrics=[consensus, accuracy, {name: curvature, every: 40, examples: 200}]",
)
PHONE, DESK = 400, 1100
SCHEMES = {"light": 1, "dark": 0}  # Blink's numbers for prefers-color-scheme


@dataclass(frozen=True)
class Shot:
    """A picture of a page from `top` to `bottom`, in pixels."""

    name: str
    page: str
    scheme: str
    width: int
    bottom: int
    top: int = 0


SHOTS = (
    Shot("run", "runs/ring/report.html", "light", DESK, 1160),
    Shot("run-network", "runs/ring/report.html", "light", DESK, 2110, top=1540),
    Shot("run-dark", "runs/ring/report.html", "dark", DESK, 792),
    Shot("run-phone", "runs/ring/report.html", "dark", PHONE, 950),
    Shot("compare", "graphs.html", "light", DESK, 1250),
    Shot("study", "study/report.html", "light", DESK, 1220),
    Shot("study-phone", "study/report.html", "light", PHONE, 1255),
)


def pages() -> None:
    """Writes the pages into the working folder."""
    graphs = ("ring", "exponential", "complete")
    for graph in graphs:
        _dsgd("run", *RUN, f"topology.graph={graph}", "--out", f"runs/{graph}")
    _dsgd("report", "runs/ring")
    _dsgd("compare", *(f"runs/{graph}" for graph in graphs), "--out", "graphs.html")
    _dsgd("study", "global_merging", "--preset", "standard", "--out", "study")


def _dsgd(*words: str) -> None:
    if status := main(words):
        sys.exit(status)


def take(shot: Shot) -> None:
    """Writes the picture in at most 256 colours, which these pages have."""
    rootless = [] if os.geteuid() else ["--no-sandbox"]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "shot.png"
        seen = ("--hide-scrollbars", f"--blink-settings=preferredColorScheme={SCHEMES[shot.scheme]}")
        size = (
            f"--window-size={shot.width},{shot.bottom}",
            f"--screenshot={path}",
            f"--user-data-dir={folder}/profile",
        )
        command = [chromium(), *QUIET, *rootless, *seen, *size, Path(shot.page).resolve().as_uri()]
        subprocess.run(command, capture_output=True, timeout=180, check=True)
        whole = Image.open(path).convert("RGB").crop((0, shot.top, shot.width, shot.bottom))
        picture = whole.quantize(256, dither=Image.Dither.NONE)
        data = io.BytesIO()
        picture.save(data, "PNG", optimize=True)
    (PICTURES / f"{shot.name}.png").write_bytes(data.getvalue())


if __name__ == "__main__":
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        pages()
        for shot in SHOTS:
            take(shot)

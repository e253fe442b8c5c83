"""Pages printed by an installed Chromium, without a window."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from dsgd.config.problems import refuse

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
SECONDS = 180
QUIET = ("--headless", "--disable-gpu", "--disable-background-networking", "--no-first-run", "--disable-extensions")


def chromium() -> str:
    """The browser's path; ConfigError where there is none."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        refuse(
            "--pdf",
            f"needs Chromium, and none of {', '.join(NAMES)} is on PATH; install one, or print the page yourself",
        )
    return found


def print_pdf(page: Path, path: Path) -> None:
    """Prints a page into a PDF file, whole or not at all; ConfigError where Chromium does not."""
    from dsgd.atomic import replacing

    with tempfile.TemporaryDirectory(prefix="dsgd-") as profile:
        try:
            with replacing(path) as temporary:
                told = _printed(page, temporary.resolve(), profile)
                if not temporary.is_file():
                    refuse("--pdf", f"Chromium printed nothing ({told}); the page itself is {page}")
        except subprocess.TimeoutExpired:
            refuse("--pdf", f"Chromium did not print within {SECONDS} s; the page itself is {page}")


def _printed(page: Path, path: Path, profile: str) -> str:
    """Runs Chromium with a profile of its own; its last line."""
    rootless = [] if os.geteuid() else ["--no-sandbox"]  # which Chromium asks for as root
    options = [*QUIET, *rootless, f"--user-data-dir={profile}", "--no-pdf-header-footer", f"--print-to-pdf={path}"]
    command = [chromium(), *options, page.resolve().as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    return (done.stderr.strip().splitlines() or ["no word"])[-1]

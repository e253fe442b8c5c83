"""One study from the command line: found, its settings changed in words, conducted with its progress on stderr."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dsgd import study as studies
from dsgd.cli.printed import say
from dsgd.cli.progress import study_progress
from dsgd.config import ConfigError, backend_of, changes
from dsgd.config.checks import check_backend
from dsgd.kept_runs import default_workers

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def conducted(
    name: str,
    words: Sequence[str],
    preset: str | None,
    seed: int | None,
    out: Path | None,
    where: Sequence[str],
    workers: int,
) -> tuple[dict[str, Any], Path]:
    """The study's summary and its folder; ConfigError for what is refused before anything is trained.

    `where` are the words that say on what backend, which decide nothing of the answer.
    """
    try:
        backend = backend_of(where)
        check_backend(backend)
        study = studies.find_study(name)
        changed = changes(studies.settings_of(study, preset, seed)[1], words)
        folder = out or studies.study_folder(study, preset, seed, words)
        how: dict[str, Any] = {"backend": backend, "workers": workers or default_workers(backend)}
        with study_progress() as progress:
            how |= {"changes": changed, "words": words, "progress": progress, "tell": say}
            return studies.conduct(study, preset, seed, folder, **how), folder
    except ConfigError:
        raise
    except (ValueError, FileExistsError, FileNotFoundError) as error:
        raise ConfigError(str(error)) from error

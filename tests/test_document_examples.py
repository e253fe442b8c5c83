"""The commands and scripts in the documents run; those that do not are listed here with the reason."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest

from dsgd.cli.browser import NAMES
from dsgd.config import read
from dsgd.yaml_values import read_text
from tests.conftest import Dsgd

ROOT = Path(__file__).parents[1]
DOCUMENTS = ["README.md", "CONTRIBUTING.md", "docker/README.md", "experiments/results/README.md"]
DOCUMENTS += [str(path.relative_to(ROOT)) for path in sorted((ROOT / "docs").rglob("*.md"))]
DOCUMENTS = [document for document in DOCUMENTS if document != "docs/tutorial.md"]  # which .ci/newcomer runs, all of it

NOT_RUN = {
    r"pip |python3 -m venv|apt-get ": "installs",
    r"pip-audit |pip-licenses ": "asks for the advisories and licences of what is installed",
    r"make |pytest": "the Makefile's targets, which continuous integration runs",
    r"docker |kubectl |PRESET=|cd docker|mkdir ": "needs Docker or Kubernetes: tests/test_docker.py",
    r"export |ray |dsgd run ring\.yaml backend=ray|.*backend\.address=auto": "needs a Ray cluster: tests/backends",
    r"dsgd study (equivalence|topology_comparison|global_merging)": "takes minutes; tests/test_studies.py",
    r"dsgd resume ": "needs a run that was interrupted: tests/resume",
    r"dsgd .* --track ": "needs trackers: tests/cli/test_tracking.py",
    r"dsgd .* --plugin ": "tests/test_own_document.py",
}
ELSEWHERE = {
    r"# \w+\.py\n": "a file of docs/own.md: tests/test_own_document.py",
    r'""".*\n': "a part or a study of CONTRIBUTING.md: tests/test_documents.py",
    r"(?s).*dsgd\.trackers": "needs a tracker: tests/test_own_document.py",
}
RING = "task: digits\nsteps: 8\nbatch_size: 4\ntopology: {graph: ring, n: 4}\nsnapshot_every: 4\n"


def blocks(document: str, language: str) -> list[str]:
    text = (ROOT / document).read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def commands(document: str) -> list[str]:
    """The lines of the shell's blocks, joined where they go on, without comments."""
    whole = "\n".join(blocks(document, "sh")).replace("\\\n", " ")
    whole = re.sub(r"'[^']*'", lambda quoted: " ".join(quoted[0].split()), whole)
    lines = (re.sub(r"\s+#.*", "", line).strip() for line in whole.splitlines())
    return [line for line in lines if line]


def reason(line: str, reasons: dict[str, str]) -> str | None:
    return next((said for pattern, said in reasons.items() if re.match(pattern, line)), None)


ALL = {document: commands(document) for document in DOCUMENTS}
RUN = {
    document: [line for line in lines if not reason(line, NOT_RUN)]
    for document, lines in ALL.items()
    if any(not reason(line, NOT_RUN) for line in lines)
}
SCRIPTS = [
    (document, script)
    for document in DOCUMENTS
    for script in blocks(document, "python")
    if not reason(script, ELSEWHERE)
]


def test_every_reason_has_its_command() -> None:
    lines = [line for lines in ALL.values() for line in lines]
    scripts = [script for document in DOCUMENTS for script in blocks(document, "python")]
    unused = [one for one in NOT_RUN if not any(re.match(one, line) for line in lines)]
    unused += [one for one in ELSEWHERE if not any(re.match(one, script) for script in scripts)]
    assert unused == []


def test_what_is_run_is_dsgds() -> None:
    assert {line.split()[0] for lines in RUN.values() for line in lines} == {"dsgd"}


@pytest.fixture
def users_folder(dsgd_command: Dsgd) -> Path:
    """A folder with what the documents speak of: a configuration and finished runs."""
    Path("ring.yaml").write_text(RING)
    for graph in ("ring", "grid"):
        assert dsgd_command("run", "ring.yaml", f"topology.graph={graph}", "--out", f"runs/{graph}-3")[0] == 0
    return Path.cwd()


@pytest.mark.slow
@pytest.mark.parametrize("document", RUN)
def test_the_commands_of_a_document_run(document: str, users_folder: Path, dsgd_command: Dsgd) -> None:
    for line in RUN[document]:
        program, *words = shlex.split(line.partition(" > ")[0])
        assert program == "dsgd"
        words = [path for word in words for path in sorted(map(str, Path().glob(word))) or [word]]
        if "--pdf" in words and not any(map(shutil.which, NAMES)):
            del words[words.index("--pdf") : words.index("--pdf") + 2]
        if "--out" in words:
            shutil.rmtree(words[words.index("--out") + 1], ignore_errors=True)
        status, out, err = dsgd_command(*words)
        assert (status, bool(out)) == (0, True), f"{line}: {err}"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("document", "script"), SCRIPTS, ids=[f"{document}-{k}" for k, (document, _) in enumerate(SCRIPTS)]
)
def test_the_scripts_of_a_document_run(
    document: str, script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    exec(script, {"__name__": "script"})


@pytest.mark.parametrize("document", [document for document in DOCUMENTS if blocks(document, "yaml")])
def test_the_configurations_of_a_document_are_read(document: str) -> None:
    for block in blocks(document, "yaml"):
        read(read_text(block, document))

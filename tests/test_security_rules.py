"""What a configuration, a name and a plug-in may do: the rules by which somebody else's files are safe to open."""

from __future__ import annotations

import getpass
import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from dsgd import results
from dsgd.config import ConfigError, load, read
from dsgd.yaml_values import MAX_BYTES, MAX_DEPTH, MAX_NODES, read_file
from tests.cli.small import SMALL
from tests.conftest import Dsgd

OBJECTS = [
    "!!python/object/apply:os.mkdir [hit]",
    "!!python/name:os.mkdir",
    "{name: os.mkdir, _target_: os.mkdir, path: hit}",
    "{_target_: os.mkdir, name: mlp}",
    "{class_path: torch.nn.Linear, init_args: {in_features: 1}}",
    "torch.nn.Linear",
    "dsgd.models.mlp:Mlp",
    "__import__('os').mkdir('hit')",
    "own.Own",
    "own.py",
    "./own.py",
]
MARKING = "import pathlib; pathlib.Path('hit').mkdir()\n"


@pytest.mark.parametrize("key", ["model", "task", "metrics"])
@pytest.mark.parametrize("named", OBJECTS)
def test_rule_2_a_configuration_names_no_python_object(
    dsgd_command: Dsgd, tmp_path: Path, named: str, key: str
) -> None:
    (tmp_path / "own.py").write_text(MARKING)
    given = {"task": "digits", key: "@"}
    (tmp_path / "a.yaml").write_text("".join(f"{k}: {named if v == '@' else v}\n" for k, v in given.items()))
    assert dsgd_command("run", "a.yaml", "--dry-run")[0] == 2
    assert dsgd_command("run", *SMALL, f"{key}={named}", "--dry-run")[0] == 2
    assert not (tmp_path / "hit").exists()


@pytest.mark.parametrize("said", ["[own.py]", "[./own.py]", "[{file: own.py}]", "own.py", "[own]", "[/etc/passwd]"])
def test_rule_2_plug_ins_come_by_the_command_line_alone(
    dsgd_command: Dsgd, tmp_path: Path, own_parts: None, said: str
) -> None:
    (tmp_path / "own.py").write_text(MARKING)
    (tmp_path / "a.yaml").write_text(f"task: digits\nplugins: {said}\n")
    for words in (["a.yaml"], [*SMALL, f"plugins={said}"]):
        assert dsgd_command("run", *words, "--dry-run")[0] == 2
        assert not (tmp_path / "hit").exists()
    assert dsgd_command("run", *SMALL, "--plugin", "own.py", "--dry-run")[0] == 0
    assert (tmp_path / "hit").exists()


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


def test_rule_3_a_file_of_yaml_is_bounded_in_bytes_depth_and_values(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"

    def takes(text: str) -> bool:
        path.write_text(text)
        try:
            read_file(path)
        except ValueError:
            return False
        return True

    comment = "# " + "x" * (MAX_BYTES - 3)
    assert (MAX_BYTES, MAX_DEPTH, MAX_NODES) == (2**20, 32, 50_000)
    assert [takes(comment), takes(comment + "xx")] == [True, False]
    assert [takes(nested(MAX_DEPTH + 1)), takes(nested(MAX_DEPTH + 2))] == [True, False]
    assert [takes(f"[{'1,' * (MAX_NODES - 1)}]"), takes(f"[{'1,' * MAX_NODES}]")] == [True, False]


def test_rule_3_they_are_bounded_before_anything_is_made_of_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def never(*_: Any) -> None:
        raise AssertionError("validated")

    monkeypatch.setattr("dsgd.config.read", never)
    for text in ("# " + "x" * MAX_BYTES, nested(MAX_DEPTH + 2), f"[{'1,' * MAX_NODES}]"):
        (tmp_path / "a.yaml").write_text(text)
        with pytest.raises(ConfigError):
            load(tmp_path / "a.yaml")


NAMES = {
    True: ["a", "0", "ring-3", "a.b_c-d", "A" * 100, "a..b"],
    False: [
        *("", ".", "..", ".a", "-a", "_a", "a/b", "/a", "a\\b", "../a", "a\x00", "a b", "a\n", "é", "A" * 101, "~"),
        *("$HOME", "a;b", "<script>", "a\u2028", "a:b", "*"),
    ],
}


@pytest.mark.parametrize(("name", "allowed"), [(name, allowed) for allowed in NAMES for name in NAMES[allowed]])
def test_rule_3_a_run_s_name_is_a_folder_s_inside_runs(
    name: str, allowed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if not allowed:
        with pytest.raises(ConfigError, match="name: "):
            read({"task": "digits", "name": name})
        with pytest.raises(ValueError, match="cannot name a folder"):
            results.default_folder(name)
        return
    assert read({"task": "digits", "name": name}).name == name
    assert results.default_folder(name).resolve().parent == (tmp_path / "runs").resolve()


@pytest.mark.parametrize("file", ["...yaml", "-x.yaml", "a b;c.yaml", "é<script>.yaml", "x" * 200 + ".yaml", "..yaml"])
def test_rule_3_a_name_taken_from_a_file_s_is_allowed_too(dsgd_command: Dsgd, tmp_path: Path, file: str) -> None:
    (tmp_path / file).write_text("task: digits\nsteps: 1\n")
    status, out, _ = dsgd_command("run", f"./{file}", "--dry-run", "--json")
    assert (status, results.NAME.fullmatch(json.loads(out)["name"]) is not None) == (0, True)


@pytest.mark.parametrize("target", ["there", "gone", "link"])
def test_rule_3_a_link_is_no_folder_for_a_run(dsgd_command: Dsgd, tmp_path: Path, target: str) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(target)
    for words in ([], ["seed=0,1"]):
        status, _, err = dsgd_command("run", *SMALL, *words, "--out", "link")
        assert (status, "symbolic link" in err) == (2, True)
    assert list((tmp_path / "there").iterdir()) == []


def test_rule_3_a_link_in_the_place_of_a_run_is_not_followed(
    dsgd_command: Dsgd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "a-time").symlink_to("../there")
    monkeypatch.setattr("dsgd.cli.recording.default_folder", lambda name: Path("runs") / f"{name}-time")
    assert dsgd_command("run", *SMALL, "name=a")[0] == 2
    assert list((tmp_path / "there").iterdir()) == []


SECRET = "s3cr3t-that-nobody-may-read"


def test_rule_8_no_secret_of_the_environment_is_recorded(
    dsgd_command: Dsgd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_SECRET_ACCESS_KEY", "WANDB_API_KEY", "GITHUB_TOKEN", "HTTP_PROXY", "RAY_AUTH_TOKEN", "DSGD_KEY"):
        monkeypatch.setenv(name, f"http://me:{SECRET}@localhost")
    status, out, err = dsgd_command("run", *SMALL, "--out", "run", "--json")
    assert (status, dsgd_command("report", "run")[0]) == (0, 0)
    found = dsgd_command("doctor", "--json")[1]
    written = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert len(written) >= 6
    theirs = [SECRET, str(tmp_path), os.path.expanduser("~/"), socket.gethostname()]
    for text in theirs:
        assert [path for path, content in written.items() if text.encode() in content] == [], text
        assert text not in out + err
    assert SECRET not in found
    environment = json.loads((tmp_path / "run" / "env.json").read_text())
    assert getpass.getuser() not in environment.values()
    assert environment.keys() == {"python", "platform", "cpus", "threads", "device", "versions", "git"}

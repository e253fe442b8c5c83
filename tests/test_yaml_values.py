"""Of YAML 1.2 a small, safe part: what is written is read back, and the rest is refused in a sentence."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsgd.config import ConfigError, load_config
from dsgd.yaml_values import MAX_BYTES, MAX_DEPTH, read_text, to_text


def test_yaml_is_that_of_1_2() -> None:
    text = "a: 1e-3\nb: no\nc: on\nd: true\ne: ~\nf: 2001-01-01\ng: 1_000\nh: '1'\n<<: {x: 1}\ni: .5\nj: 0x10"
    found = read_text(text, "f.yaml")
    assert found == {
        "a": 1e-3,
        "b": "no",
        "c": "on",
        "d": True,
        "e": None,
        "f": "2001-01-01",
        "g": "1_000",
        "h": "1",
    } | {
        "<<": {"x": 1},
        "i": 0.5,
        "j": "0x10",
    }


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: 012", "^a: 012 given; write the number without leading zeros, or quote it"),
        ("a: {b: [1, .inf]}", r"^a.b\[1\]: .inf given; numbers must be finite"),
        ("a: 1e999", "^a: 1e999 given; numbers must be finite"),
        ("a: " + "9" * 5000, "^a: 9{40} given; whole numbers have at most"),
        ("a: 1\na: 2", "^a: given twice; keep one"),
        ("b: {a: 1, a: 2}", "^b.a: given twice; keep one"),
        ("a: &x [1]\nb: [*x, *x]", "^f.yaml: anchors and aliases"),
        ("a: !!python/object/apply:os.system [ls]", "^f.yaml: tags"),
        ("? [a]\n: 1", "^f.yaml: a key is a list or a mapping"),
        ("a: 1\n---\nb: 2", "^f.yaml: more than one YAML document"),
        ("a: b: c", "^f.yaml: not valid YAML .line 1, column 5"),
        ("a: \x07", "^f.yaml: not valid YAML"),
        ("\ud800", "^f.yaml: not valid YAML"),
        ("[" * (MAX_DEPTH + 2), "nested more than 32 deep"),
        ("[" * 100_000, "nested more than 32 deep"),
        ("- " * 100_000, "nested more than 32 deep"),
        ("[" + "1," * 200_000 + "]", "^f.yaml: more than 50000 values"),
    ],
    ids=lambda text: text[:20],
)
def test_hostile_yaml_is_refused_in_a_sentence(text: str, expected: str) -> None:
    with pytest.raises(ValueError, match=expected) as caught:
        read_text(text, "f.yaml")
    assert len(str(caught.value)) < 250


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**17), 10**17)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@settings(deadline=None, max_examples=40)
@given(VALUES)
def test_what_is_written_is_read_back(value: Any) -> None:
    assert read_text(to_text(value), "x") == value


@pytest.mark.parametrize("text", ["1e3", "012", "no", "null", "~", ".nan", "1_0", "+1", "<<", "1:30", "0o7", "- x", ""])
def test_strings_that_look_like_something_else_stay_strings(text: str) -> None:
    assert read_text(to_text({"run": text}), "x") == {"run": text}


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(text: str) -> None:
    with suppress(ValueError):
        value = read_text(text, "x")
        assert read_text(to_text(value), "x") == value


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "an empty file; write a mapping"),
        (b"# nothing\n", "an empty file"),
        (b"- task\n", "a list at the top level"),
        (b"digits", "'digits' at the top level"),
        (b"\xff\xfe\x00", "not UTF-8 text .byte 0."),
        (b"#" * (MAX_BYTES + 1), "more than 1048576 bytes"),
    ],
)
def test_a_file_that_is_no_configuration_is_refused(tmp_path: Path, content: bytes, expected: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=f"bad.yaml: {expected}"):
        load_config(path)


def test_a_missing_file_and_a_folder_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml: no such file"):
        load_config(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="not a file"):
        load_config(tmp_path)

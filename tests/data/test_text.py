"""Text: what the windows are, that no tested character was trained on, and that the bytes are the whole corpus's."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest

from dsgd.data import DATASETS, Text
from dsgd.data import text as texts
from dsgd.data.text import CHARACTERS, DOMAINS, HELD_OUT, SEGMENT, Tokens

SMALL = Text("names", 8, 500, 100)


def decoded(tokens: Tokens) -> str:
    return "".join(CHARACTERS[int(token)] for token in tokens)


def whole(domain: str) -> str:
    return decoded(texts._tokens(domain))


@pytest.mark.parametrize("domain", DOMAINS)
def test_windows_and_the_next_character_stand_so_in_the_text(domain: str) -> None:
    found, text = Text(domain, 30, 50, 20).load(), whole(domain)
    for split in (found.train, found.test):
        assert [str(split.x.dtype), str(split.y.dtype), *split.shape] == ["float32", "int64", 30]
        for x, y in zip(split.x, split.y, strict=True):
            assert decoded(x) + CHARACTERS[y] in text
    assert (len(found.train), len(found.test), found.classes, found.criterion) == (50, 20, 96, "cross_entropy")


def test_every_window_is_there_once_where_all_are_asked_for() -> None:
    """And none reaches into another segment or into what is held out."""
    text = whole("names")
    segments = [text[start : start + SEGMENT] for start in range(0, len(text) - SEGMENT + 1, SEGMENT)]
    cuts = {"train": (0, SEGMENT - HELD_OUT), "test": (SEGMENT - HELD_OUT, SEGMENT)}
    sizes = {name: len(segments) * (high - low - 8) for name, (low, high) in cuts.items()}
    found = Text("names", 8, sizes["train"], sizes["test"]).load()
    for name, (low, high) in cuts.items():
        expected = [s[at : at + 9] for s in segments for at in range(low, high - 8)]
        split = getattr(found, name)
        windows = np.column_stack([split.x.astype(np.uint8), split.y.astype(np.uint8)])
        assert decoded(windows.ravel()) == "".join(expected)


def test_all_is_the_domains_in_turn() -> None:
    found = Text("all", 8, 40, 10).load()
    for k, domain in enumerate(DOMAINS):
        own = Text(domain, 8, 40, 10).load()
        np.testing.assert_array_equal(found.train.x[k :: len(DOMAINS)], own.train.x)
        np.testing.assert_array_equal(found.test.y[k :: len(DOMAINS)], own.test.y)


def test_the_domains_are_what_they_say() -> None:
    assert 'The "assert" statement\n*****' in whole("prose")
    assert "LATIN SMALL LETTER A WITH GRAVE\n" in whole("names")
    assert "LATIN CAPITAL LETTER C WITH CEDILLA" in whole("tables")
    assert "class SequenceMatcher:" in whole("code")
    assert '"""' not in whole("code")
    assert "# " not in "\n".join(line for line in whole("code").splitlines() if "'" not in line)
    assert "def " not in whole("docstrings")[:2000]
    assert {"\t", "\r", "é"}.isdisjoint("".join(map(whole, DOMAINS)))


def test_the_hash_is_of_all_domains_and_the_same_for_each(monkeypatch: pytest.MonkeyPatch) -> None:
    before = Text("prose").load().sha256
    assert Text("all", 20, 30, 30).load().sha256 == SMALL.load().sha256 == before
    monkeypatch.setitem(DOMAINS, "tables", lambda: "other " * 2000)
    caches = (texts._load, texts._tokens, texts._digest)
    for cache in caches:
        cache.cache_clear()
    changed = Text("prose").load().sha256
    for cache in caches:
        cache.cache_clear()
    assert changed != before
    monkeypatch.undo()
    assert SMALL.load().sha256 == before


def test_what_a_character_outside_of_ascii_becomes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(DOMAINS, "test", lambda: "a\té\x07\n~")
    assert decoded(texts._tokens("test")) == "a ??\n~"
    texts._tokens.cache_clear()


def test_impossible_knobs_are_refused() -> None:
    with pytest.raises(
        ValueError, match="domain is poems; allowed are prose, docstrings, code, names, tables, bible, all"
    ):
        Text("poems")
    with pytest.raises(ValueError, match="context is 400; it must be 1 to 399 characters"):
        Text(context=400)
    with pytest.raises(ValueError, match="test_size is 0; it must be at least 1 window"):
        Text(test_size=0)
    with pytest.raises(ValueError, match=r"train_size is 9000000; the domain has \d+ windows, give at most as many"):
        Text(train_size=9_000_000).load()


def test_a_python_without_its_sources_is_told_of() -> None:
    with pytest.raises(FileNotFoundError, match="module sys is not installed: the task text needs a Python with the"):
        texts._source("sys")


def test_it_has_its_row() -> None:
    assert DATASETS["text"] is Text


def test_the_bible_is_text_where_it_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a program of its name that prints as many verses; one that prints fewer is another."""
    program = tmp_path / "bible"
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    for count in (texts.VERSES - 1, texts.VERSES):
        program.write_text(
            f"#!{sys.executable}\nfor k in range({count}):\n    print(f'1Ch{{k // 30}}:{{k % 30}} And so on {{k}}.')\n"
        )
        program.chmod(0o755)
        texts._tokens.cache_clear()
        if count < texts.VERSES:
            with pytest.raises(FileNotFoundError, match="install the package bible-kjv, or take another"):
                Text("bible", 8, 500, 100).load()
    text = whole("bible")
    assert text.startswith("And so on 0.\nAnd so on 1.\n")
    found = Text("bible", 8, 500, 100).load()
    assert len(found.train) == 500
    assert found.sha256 != Text("names", 8, 500, 100).load().sha256
    texts._tokens.cache_clear()


def test_what_every_python_has_is_all() -> None:
    assert "bible" not in DOMAINS
    assert len(Text("all", 8, 10, 10).load().train) == 10 * len(DOMAINS)

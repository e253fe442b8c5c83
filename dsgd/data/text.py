"""Text in five domains that come with every Python, cut into windows of characters and the one that follows each.

And in a sixth where Debian's package bible-kjv is installed. They stand in for the domains of a corpus of many
domains, some near to each other and some far.
"""

from __future__ import annotations

import ast
import hashlib
import re
import subprocess
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dsgd.data.examples import DataSet, Examples

CHARACTERS = "\n" + "".join(map(chr, range(32, 127)))  # all others become "?"
SEGMENT, HELD_OUT = 4000, 400  # characters, of which so many at the end are for tests
LAST_NAMED = 0x3400  # of the code points whose names are read: what follows are ideographs
MODULES = (
    *("configparser", "difflib", "fractions", "imaplib", "ipaddress", "mailbox", "optparse", "random"),
    *("statistics", "tarfile", "uuid"),
)
CHARSETS = ("cp437", "cp737", "cp775", "cp850", "cp852", "cp855", "cp857", "cp860", "cp861", "cp862", "cp863", "cp865")
ALL = "all"

Tokens = npt.NDArray[np.uint8]


def _prose() -> str:
    """The language's reference, as `help` shows it."""
    from pydoc_data.topics import topics

    return "\n".join(topics[name] for name in sorted(topics))


def _docstrings() -> str:
    """What the standard library's modules say of themselves."""
    nodes = (node for tree in _modules() for node in ast.walk(tree))
    found = (ast.get_docstring(node) for node in nodes if isinstance(node, _DOCUMENTED))
    return "\n\n".join(text for text in found if text)


def _code() -> str:
    """The same modules' code, without docstrings and comments."""
    return "\n\n".join(ast.unparse(_Undocumented().visit(tree)) for tree in _modules())


def _names() -> str:
    """The names of Unicode's characters."""
    return "\n".join(filter(None, (unicodedata.name(chr(point), "") for point in range(LAST_NAMED))))


def _tables() -> str:
    """The code tables of old character sets."""
    return "\n".join(_source(f"encodings.{name}") for name in CHARSETS)


def _bible() -> str:
    """The King James Bible without the verses' numbers, as Debian's program prints it."""
    try:
        asked = ["bible", "-f", "gen1:1-rev22:21"]
        verses = subprocess.run(asked, capture_output=True, check=True, text=True, timeout=60).stdout.splitlines()
    except (OSError, subprocess.SubprocessError):
        verses = []
    if len(verses) != VERSES:
        raise FileNotFoundError(
            "The domain bible is what Debian's program `bible` prints: install the package bible-kjv, or take another."
        )
    return "\n".join(re.sub(r"^\w+:\d+ ", "", verse) for verse in verses)


DOMAINS: dict[str, Callable[[], str]] = {
    "prose": _prose,
    "docstrings": _docstrings,
    "code": _code,
    "names": _names,
    "tables": _tables,
}
WHERE_INSTALLED: dict[str, Callable[[], str]] = {"bible": _bible}  # in "all" no more than in every Python
VERSES = 31_102
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True)
class Text:
    """Windows of `context` characters, as tokens, and the next one as label, of one domain or of "all" in turn.

    Domains: prose, docstrings, code, names, tables, and bible where Debian's package bible-kjv is installed. The first
    nine tenths of every 4,000 characters are to train on, the last to test on. `train_size` and `test_size` windows
    are taken of each domain, evenly over it. The texts are the installed Python's own, and change with it.
    """

    domain: str = "prose"
    context: int = 12
    train_size: int = 100_000
    test_size: int = 4_000

    def __post_init__(self) -> None:
        if self.domain not in (allowed := (*DOMAINS, *WHERE_INSTALLED, ALL)):
            raise ValueError(f"domain is {self.domain}; allowed are {', '.join(allowed)}")
        if not 1 <= self.context < HELD_OUT:
            raise ValueError(f"context is {self.context}; it must be 1 to {HELD_OUT - 1} characters")
        for name in ("train_size", "test_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1 window")

    def load(self) -> DataSet:
        """The windows, x (N, context) tokens as float32 and y (N,) tokens; half a second the first time.

        FileNotFoundError where Python comes without the sources of its library, or for the domain bible where
        that is not installed; ValueError for more than there are.
        """
        return _load(self)


@lru_cache(maxsize=16)
def _load(spec: Text) -> DataSet:
    domains = tuple(DOMAINS) if spec.domain == ALL else (spec.domain,)
    parts = [_tokens(domain)[: len(_tokens(domain)) // SEGMENT * SEGMENT].reshape(-1, SEGMENT) for domain in domains]
    train = _examples([part[:, :-HELD_OUT] for part in parts], spec.context, "train_size", spec.train_size)
    test = _examples([part[:, -HELD_OUT:] for part in parts], spec.context, "test_size", spec.test_size)
    return DataSet(train, test, len(CHARACTERS), _digest(*WHERE_INSTALLED.keys() & {spec.domain}), tokens=True)


def _examples(parts: list[Tokens], context: int, knob: str, size: int) -> Examples:
    windows = np.stack([_windows(part, context, knob, size) for part in parts], axis=1).reshape(-1, context + 1)
    return Examples(windows[:, :-1].astype(np.float32), windows[:, -1].astype(np.int64))


def _windows(segments: Tokens, context: int, knob: str, size: int) -> Tokens:
    """`size` windows of context + 1 characters, evenly over the segments; none reaches into another segment."""
    per_segment = segments.shape[1] - context
    there = len(segments) * per_segment
    if size > there:
        raise ValueError(f"{knob} is {size}; the domain has {there} windows, give at most as many")
    segment, start = np.divmod(np.linspace(0, there - 1, size).astype(np.int64), per_segment)
    windows: Tokens = segments[segment[:, None], start[:, None] + np.arange(context + 1)]
    return windows


@cache
def _tokens(domain: str) -> Tokens:
    """A domain's characters by their places in CHARACTERS."""
    text = (DOMAINS | WHERE_INSTALLED)[domain]().replace("\t", " ")
    found = np.frombuffer(text.encode("ascii", "replace"), np.uint8)
    table = np.full(256, CHARACTERS.index("?"), np.uint8)
    table[[ord(character) for character in CHARACTERS]] = np.arange(len(CHARACTERS))
    return table[found]


@cache
def _digest(*others: str) -> str:
    """Of all domains that every Python has, for a run may read more than one, and of these others."""
    return hashlib.sha256(b"\0".join(_tokens(domain).tobytes() for domain in (*DOMAINS, *others))).hexdigest()


def _modules() -> Iterator[ast.Module]:
    return (ast.parse(_source(name)) for name in MODULES)


def _source(module: str) -> str:
    spec = find_spec(module)
    path = Path(spec.origin) if spec and spec.origin else None
    if path is None or not path.is_file():
        raise FileNotFoundError(
            f"The source of Python's own module {module} is not installed: the task text needs a Python with the "
            "sources of its library, such as the system's python3 or one from python.org."
        )
    return path.read_text(encoding="utf-8")


class _Undocumented(ast.NodeTransformer):
    """Takes docstrings out."""

    def generic_visit(self, node: ast.AST) -> ast.AST:
        if isinstance(node, _DOCUMENTED) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
        return super().generic_visit(node)

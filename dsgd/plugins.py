"""A user's own Python files: run where the user names them and nowhere else, remembered by their bytes.

A configuration only says which files it was made with. The processes that train a run elsewhere are handed the bytes
themselves (`carried`), so that a cluster's nodes need not have the file, and its classes are known before they come.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.abc import ExecutionLoader
from importlib.util import decode_source, module_from_spec, spec_from_loader
from pathlib import Path
from traceback import extract_tb
from types import ModuleType
from typing import Any

from dsgd.plain_files import check_plain

ROOM = "dsgd_plugins."  # what the names of their modules begin with

MOST_BYTES = 2**24
_CARRIED: dict[str, Plugin] = {}


@dataclass(frozen=True)
class Plugin:
    """The Python file that a user named `file`, as the module `name`. Where it is unpickled it is run."""

    name: str
    file: str
    source: bytes

    @classmethod
    def read(cls, name: str, file: str | Path) -> Plugin:
        """The file as it is now; ValueError where it cannot be read."""
        try:
            check_plain(Path(file))
            if (size := Path(file).stat().st_size) > MOST_BYTES:
                raise ValueError(f"{file} has {size:,} bytes, and a Python file at most {MOST_BYTES:,}")
            return cls(name, str(file), Path(file).read_bytes())
        except FileNotFoundError:
            raise ValueError(f"{file} cannot be read (No such file or directory); give a Python file") from None
        except OSError as error:
            raise ValueError(f"{file} cannot be read ({error.strerror or error}); give a Python file") from None

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.source).hexdigest()

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str, str, bytes]]:
        return _arrived, (self.name, self.file, self.source)


def load(file: str | Path) -> ModuleType:
    """Runs a plug-in, once for what is in it: what it registers can be named in configurations.

    ValueError where it cannot be run.
    """
    path = Path(file)
    if path.suffix != ".py":
        raise ValueError(f"{file} is not a plug-in; give a Python file, whose name ends in .py")
    plugin = Plugin.read(f"{ROOM}{path.stem}", file)
    known = _CARRIED.get(plugin.name)
    if known and Path(known.file).resolve() != path.resolve():
        raise ValueError(f"{file} and {known.file} are two plug-ins of one name; give one of them another")
    return sys.modules[plugin.name] if known and known.source == plugin.source else run(plugin)


def run(plugin: Plugin, carry: bool = True) -> ModuleType:
    """The module that a file makes; ValueError where it raises an error, and the module is what it was before."""
    loader = _Loader(plugin)
    spec = spec_from_loader(plugin.name, loader)
    assert spec is not None
    room = plugin.name.rpartition(".")[0]
    sys.modules.setdefault(room, ModuleType(room))  # pickle imports it on the way to the classes inside
    before = sys.modules.get(plugin.name)
    module = sys.modules[plugin.name] = module_from_spec(spec)  # before it is run: dataclasses look themselves up
    try:
        loader.exec_module(module)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a file may raise what is no Exception, as sys.exit() does
        del sys.modules[plugin.name]
        sys.modules |= {plugin.name: before} if before else {}
        raise ValueError(f"{plugin.file} cannot be loaded: {_said(error, loader.path)}") from error
    if carry:
        _CARRIED[plugin.name] = plugin
    return module


def loaded() -> tuple[Plugin, ...]:
    """The plug-ins of this process."""
    return tuple(plugin for plugin in _CARRIED.values() if plugin.name.startswith(ROOM))


def carried() -> tuple[Plugin, ...]:
    """All files of the user's that another process must know before it is handed a run: plug-ins, a study's own."""
    return tuple(_CARRIED.values())


def recorded() -> dict[str, Any]:
    """What a resolved configuration says of the plug-ins: the files' names and hashes; nothing where there are none."""
    plugins = [{"file": plugin.file, "sha256": plugin.sha256} for plugin in loaded()]
    return {"plugins": plugins} if plugins else {}


def named() -> list[str]:
    """The words of a command line that name the plug-ins of this process."""
    return [word for plugin in loaded() for word in ("--plugin", plugin.file)]


def place_of(error: BaseException) -> str:
    """The user's own file, and the last line of it that led to an error; empty where none did."""
    own = {str(Path(plugin.file).absolute()): plugin.file for plugin in _CARRIED.values()}
    places = [(own[frame.filename], frame.lineno) for frame in extract_tb(error.__traceback__) if frame.filename in own]
    return f"{places[-1][0]}, line {places[-1][1]}" if places else ""


def _arrived(name: str, file: str, source: bytes) -> Plugin:
    plugin = Plugin(name, file, source)
    if _CARRIED.get(name) != plugin:
        run(plugin)
    return plugin


class _Loader(ExecutionLoader):
    """Runs a plug-in's bytes, those that are hashed, without looking at the file again."""

    def __init__(self, plugin: Plugin) -> None:
        self.plugin, self.path = plugin, str(Path(plugin.file).absolute())

    def get_filename(self, fullname: str) -> str:
        return self.path

    def get_source(self, fullname: str) -> str:
        return decode_source(self.plugin.source)


def _said(error: BaseException, path: str) -> str:
    """The error in a line, and the last one of the file that led to it; of its syntax errors Python says it."""
    lines = [frame.lineno for frame in extract_tb(error.__traceback__) if frame.filename == path]
    return f"{type(error).__name__}: {' '.join(str(error).split())}{f' (line {lines[-1]})' if lines else ''}"

"""Configurations by structure: made of the tables, each knob by its type, then broken in a way or two; keyed by number.

`drawn(number)` is the same on every machine and in every process, so a number is all that a failure must say.
"""

from __future__ import annotations

import json
import string
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from random import Random
from typing import Any, Literal, get_args, get_origin, get_type_hints

import hostile
import yaml

from dsgd.algorithms import ALGORITHMS
from dsgd.backends import BACKENDS
from dsgd.config import parts
from dsgd.data import PARTITIONS
from dsgd.gossip import GOSSIPS
from dsgd.gradients import GRADIENTS
from dsgd.learning_rates import LEARNING_RATES
from dsgd.losses import LOSSES
from dsgd.metrics import METRICS
from dsgd.models import MODELS
from dsgd.optimizers import OPTIMIZERS
from dsgd.pretraining import PRETRAININGS
from dsgd.run import TWINS
from dsgd.tasks import TASKS
from topologies import GRAPHS, SCHEDULES, WEIGHTS, knobs_of

SIZES = (1, 2, 3, 4, 4, 4, 5, 8, 8, 9, 12, 16)
SHARES = (0, 0.01, 0.05, 0.1, 0.1, 0.3, 0.5, 0.9, 1, 1.0, 2.0)
TABLES = (TASKS, PARTITIONS, MODELS, GRADIENTS, OPTIMIZERS, LEARNING_RATES, METRICS, GOSSIPS, LOSSES, PRETRAININGS)
WORDS = sorted({name for table in (*TABLES, TWINS, ALGORITHMS, GRAPHS, WEIGHTS, SCHEDULES, BACKENDS) for name in table})
STRINGS = (
    *("tanh", "relu", "gelu", "none", "layer", "batch", "group", "uniform", "he", "lecun", "global", "weights", "all"),
    *("previous", "random", "eigenvectors", "replicas", "prose", "sea_drift", "frozen", "usam", "same", "own", "full"),
    *("stop", "quarantine", "mix", "local", "recalibrate", "float32", "float64", "cpu", "cuda", "auto", "continue"),
)
SMALL_TASKS: tuple[Any, ...] = (
    "digits",
    {"name": "digits", "train_size": 64, "test_size": 30},
    {"name": "xor", "dimension": 6, "test_size": 50},
    {"name": "regression", "source": {"name": "digits", "train_size": 50}},
    {"name": "label_noise", "source": {"name": "digits", "train_size": 50}},
    {"name": "input_noise", "source": "digits"},
    {"name": "long_tail", "source": "digits", "largest": 40, "imbalance": 0.1},
    {"name": "held_out", "source": "digits", "size": 50},
    {"name": "emerging_classes", "source": "digits"},
    {"name": "text", "train_size": 300, "test_size": 100},
    {"name": "river", "train_size": 80, "test_size": 40},
    "no_data",
)
CHEAP = {
    "examples": 40,
    "probe_size": 40,
    "samples": 3,
    "directions": 2,
    "pairs": 64,
    "points": 3,
    "probes": 3,
    "products": 4,
}
HARMLESS = (
    "seed=3",
    "seed=0,1",
    "steps=4",
    "learning_rate.lr=0.02",
    "topology.n=4",
    "metrics=[]",
    "dtype=float64",
    "name=b",
)
FITTING: dict[str, tuple[Any, ...]] = {
    "no_data": ({"name": "quadratic", "dimension": 20},),
    "text": ({"name": "neural_lm", "embedding": 4, "width": 8}, {"name": "transformer", "width": 8}),
    "regression": ({"name": "mlp", "widths": [5]}, "linear"),
}
MODELS_OF_IMAGES: tuple[Any, ...] = (
    "linear",
    {"name": "mlp", "widths": [5]},
    {"name": "mlp", "widths": [6, 4], "norm": "batch", "activation": "relu"},
    {"name": "mlp", "widths": [6], "norm": "layer", "init": "he"},
    {"name": "two_layer", "width": 7},
    {"name": "cnn", "channels": [2, 3]},
    {"name": "cosine", "features": {"name": "mlp", "widths": [4]}},
    {"name": "sim_bn", "width": 5},
)


@dataclass(frozen=True)
class Case:
    """A file's bytes, and the words behind its name."""

    content: bytes
    words: tuple[str, ...]


def drawn(number: int) -> Case:
    """The configuration of this number: three in eight are left as the tables made them."""
    random = Random(f"dsgd {number}")
    config = Maker(random).configuration() | plugins_of(Random(f"dsgd plugins {number}"))
    for _ in range(random.choice((0, 0, 0, 1, 1, 1, 2, 3))):
        config = broken(config, random)
    words = words_from(config, random) if isinstance(config, dict) and random.random() < 0.3 else ()
    text = spelled(config, random)
    content = text.encode("utf-8", "surrogatepass")
    if random.random() < 0.12:
        content = garbled(content, random)
    return Case(content, words)


def plugins_of(random: Random) -> dict[str, Any]:
    """Once in twenty the key `plugins`: files, alone or with a hash, that nobody loaded, and what is neither."""
    if random.random() > 0.05:
        return {}
    words = ("parts.py", "a b.py", "it's.py", *hostile.PATHS, *hostile.CODE, *hostile.CHARACTERS)
    hashes = ("0" * 64, "F" * 64, "0" * 63, "g" * 64, *hostile.CHARACTERS)

    def item() -> Any:
        if random.random() < 0.1:
            return random.choice(hostile.ATOMS)
        file = random.choice(words)
        return file if random.random() < 0.5 else {"file": file, "sha256": random.choice(hashes)}

    return {"plugins": [item() for _ in range(random.choice((0, 1, 1, 2, 3)))]}


@dataclass(frozen=True)
class Maker:
    """Draws plausible configurations, of small size."""

    random: Random

    def chance(self, share: float) -> bool:
        return self.random.random() < share

    def configuration(self) -> dict[str, Any]:
        task = self.task()
        config: dict[str, Any] = {
            "task": task,
            "model": self.model(task),
            "steps": self.random.choice((1, 2, 3, 5, 20)),
        }
        config["batch_size"] = self.random.choice((1, 2, 4, 4, 4, 8, "full"))
        if _name(task) == "no_data":
            config["batch_size"] = "full"
        makers = {
            "topology": (0.9, self.topology),
            "algorithm": (0.3, lambda: self.random.choice(list(ALGORITHMS))),
            "gradient": (0.5, lambda: self.part(GRADIENTS)),
            "optimizer": (0.3, lambda: self.part(OPTIMIZERS)),
            "learning_rate": (0.35, lambda: self.part(LEARNING_RATES)),
            "gossip": (0.2, lambda: self.part(GOSSIPS)),
            "metrics": (0.3, lambda: [self.part(METRICS) for _ in range(self.random.choice((0, 1, 1, 2, 3)))]),
            "twins": (0.15, lambda: [self.part(TWINS) for _ in range(self.random.choice((0, 1, 1, 2)))]),
            "pretraining": (0.1, lambda: self.part(PRETRAININGS)),
            "loss": (0.1, lambda: self.part(LOSSES)),
            "local_steps": (0.2, lambda: self.random.choice((1, 2, 3))),
            "seed": (0.3, lambda: self.random.choice((0, 1, 17, 2**31))),
            "dtype": (0.2, lambda: self.random.choice(("float32", "float64"))),
            "not_finite": (0.1, lambda: self.random.choice(("stop", "quarantine"))),
            "starts": (0.15, lambda: self.random.choice(("same", "own"))),
            "running_statistics": (
                0.8 if "batch" in str(config["model"]) else 0.01,
                lambda: self.random.choice(("mix", "local", "recalibrate")),
            ),
            "measure_every": (0.3, lambda: self.random.choice((1, 2, 10))),
            "snapshot_every": (0.1, lambda: self.random.choice((0, 1, 3))),
            "gradient_noise": (0.1, lambda: self.random.choice((0, 0.1, 1.0))),
            "name": (0.2, lambda: self.random.choice(("a", "ring-3", "x.y_z"))),
            "checkpoint_every": (0.1, lambda: self.random.choice((0, 1, 100))),
            "on_full_disk": (0.1, lambda: self.random.choice(("continue", "stop"))),
            "backend": (0.1, lambda: self.part({name: BACKENDS[name] for name in ("local", "processes")})),
        }
        return config | {key: make() for key, (share, make) in makers.items() if self.chance(share)}

    def task(self) -> Any:
        task = self.random.choice(SMALL_TASKS) if self.chance(0.85) else self.part(TASKS)
        if self.chance(0.3):
            task = {**({"name": task} if isinstance(task, str) else task), "partition": self.part(PARTITIONS)}
        return task

    def model(self, task: Any) -> Any:
        if self.chance(0.1):
            return self.part(MODELS)
        return self.random.choice(FITTING.get(_name(task), MODELS_OF_IMAGES))

    def topology(self) -> Any:
        graph = self.random.choice(list(GRAPHS))
        if self.chance(0.1):
            return graph
        topology: dict[str, Any] = {"graph": graph, "n": self.random.choice(SIZES)}
        if self.chance(0.3) and knobs_of(graph):
            topology["graph"] = {"name": graph} | {knob: self.random.choice(SHARES) for knob in knobs_of(graph)}
        if self.chance(0.25):
            topology["weights"] = self.random.choice(list(WEIGHTS))
        if self.chance(0.3):
            topology["schedule"] = self.schedule(2)
        if self.chance(0.1):
            topology["allow_disconnected"] = self.chance(0.5)
        if self.chance(0.95) and not {"one_peer_exponential", "random_matching"}.isdisjoint(_words(topology)):
            topology = {key: topology[key] for key in ("n", "schedule")}
        return topology

    def schedule(self, depth: int) -> Any:
        name = self.random.choice(list(SCHEDULES))
        if name != "periodic":
            return name if self.chance(0.5) else {"name": name, **({"seed": 3} if "seed" in _fields(name) else {})}
        inner = self.schedule(depth - 1) if depth else "static"
        return {"name": name, "every": self.random.choice((1, 2, 3)), "inner": inner}

    def part(self, table: Mapping[str, Any], depth: int = 2) -> Any:
        """A row of the table, with the knobs it must have and a few of the others."""
        name = self.random.choice(list(table))
        hints, knobs = get_type_hints(table[name]), {}
        for knob in fields(table[name]):
            required = knob.default is MISSING and knob.default_factory is MISSING
            if knob.init and (required or self.chance(0.25)):
                knobs[knob.name] = self.value(hints[knob.name], knob.default, depth)
        if name == "pretrained":
            knobs["steps"] = self.random.choice((1, 3))
        if table is METRICS and self.chance(0.9):
            knobs |= {knob: value for knob, value in CHEAP.items() if knob in hints}
        return {"name": name, **knobs} if knobs or self.chance(0.5) else name

    def value(self, hint: Any, default: Any, depth: int) -> Any:
        """A value of the type `hint`."""
        if table := parts.TABLES.get(hint):
            return (
                self.random.choice(SMALL_TASKS)
                if table is TASKS
                else self.part(table, depth - 1)
                if depth
                else next(iter(table))
            )
        arguments = get_args(hint)
        if get_origin(hint) is tuple:
            return [self.value(arguments[0], MISSING, depth) for _ in range(self.random.choice((0, 1, 2, 2, 3)))]
        if get_origin(hint) is Literal:
            return self.random.choice(arguments)
        if arguments:
            return self.value(self.random.choice(arguments), default, depth)
        if default is not MISSING and self.chance(0.3) and isinstance(default, int | float | str):
            return default
        plain = {int: SIZES, float: SHARES, bool: (True, False), str: STRINGS, type(None): (None,)}
        return self.random.choice(plain.get(hint, ("x",)))


def _name(part: Any) -> str:
    return str(part.get("name")) if isinstance(part, dict) else str(part)


def _words(value: Any) -> set[str]:
    """All strings in it."""
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return {value} if isinstance(value, str) else {word for inner in inside for word in _words(inner)}


def _fields(schedule: str) -> tuple[str, ...]:
    return tuple(f.name for f in fields(SCHEDULES[schedule]))


def broken(config: Any, random: Random) -> Any:
    """The configuration with one place in it changed for the worse."""
    places = list(_places(config))
    path = random.choice(places)
    return _changed(config, path, random.choice(WAYS), random, places)


def _places(value: Any, above: tuple[Any, ...] = ()) -> Any:
    yield above
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in inside:
        yield from _places(inner, (*above, key))


def _changed(value: Any, path: tuple[Any, ...], way: str, random: Random, places: Any) -> Any:
    if not path:
        return _worse(value, way, random)
    key, *rest = path
    if isinstance(value, list):
        new = [_changed(v, tuple(rest), way, random, places) if i == key else v for i, v in enumerate(value)]
        return [v for i, v in enumerate(new) if not (way == "drop" and not rest and i == key)]
    if not rest and way == "drop":
        return {k: v for k, v in value.items() if k != key}
    if not rest and way == "misspell":
        return {(_misspelt(k, random) if k == key else k): v for k, v in value.items()}
    return {k: _changed(v, tuple(rest), way, random, places) if k == key else v for k, v in value.items()}


WAYS = ("atom",) * 8 + (
    "drop",
    "drop",
    "misspell",
    "misspell",
    "wrap",
    "name",
    "word",
    "swap",
    "extra",
    "extra",
    "number",
)


def _worse(value: Any, way: str, random: Random) -> Any:
    if way == "wrap":
        return [value] if random.random() < 0.5 else {"name": value}
    if way == "name":
        return {"name": random.choice(WORDS), **(value if isinstance(value, dict) else {})}
    if way == "word":
        return random.choice(WORDS)
    if way == "swap":
        return Maker(random).part(random.choice(TABLES))
    if way == "extra" and isinstance(value, dict):
        key = random.choice((*hostile.NAMES, *hostile.CODE, *hostile.CHARACTERS, "extra", "lr", "n", "name", "seed"))
        return {**value, key: random.choice(hostile.ATOMS)}
    if way == "number" and not isinstance(value, bool) and isinstance(value, int | float):
        return random.choice((*hostile.WHOLE, *hostile.REAL, -value, value * 1000, str(value), value + 0.5))
    if way == "misspell" and isinstance(value, str):
        return _misspelt(value, random)
    return random.choice(hostile.ATOMS)


def _misspelt(word: str, random: Random) -> str:
    place = random.randrange(len(word) + 1)
    return word[:place] + random.choice((*string.ascii_lowercase, "", ".", " ", "-", "Ö")) + word[place + 1 :]


def words_from(config: dict[str, Any], random: Random) -> tuple[str, ...]:
    """Overrides that say a few places of the configuration again, or something else in their stead."""
    places = [path for path in _places(config) if path and all(isinstance(key, str) for key in path)]
    words = []
    for _ in range(random.choice((1, 1, 2, 3))):
        path = random.choice(places) if places and random.random() < 0.8 else (random.choice(hostile.NAMES),)
        if random.random() < 0.4:
            words.append(random.choice(HARMLESS))
            continue
        value = random.choice((*hostile.ATOMS, *WORDS, *hostile.TEXT, "1,2", "plain,sam", "[4],[5]", "2,"))
        text = value if isinstance(value, str) else json.dumps(value)
        words.append(f"{'.'.join(path)}{'=' if random.random() < 0.95 else ''}{text}")
    return tuple(word.encode("utf-8", "replace").decode().replace("\x00", "")[:20000] for word in words)


def spelled(config: Any, random: Random) -> str:
    """The configuration as YAML, in one of several hands."""
    if random.random() < 0.3:
        return json.dumps(config, ensure_ascii=random.random() < 0.5)
    try:
        return yaml.safe_dump(
            config, sort_keys=False, allow_unicode=True, default_flow_style=random.choice((None, False))
        )
    except (yaml.YAMLError, UnicodeError, ValueError):
        return json.dumps(config)


def garbled(content: bytes, random: Random) -> bytes:
    """The file's bytes with something done to them that no editor would do."""
    place = random.randrange(len(content) + 1)
    snippet = random.choice(hostile.TEXT).encode()
    ways = (
        content[:place],
        content[:place] + bytes([random.randrange(256)]) + content[place + 1 :],
        content[:place] + snippet + content[place:],
        b"\xef\xbb\xbf" + content,
        content.decode("utf-8", "ignore").encode("utf-16"),
        content + b"\n---\n" + content,
        content + b"\n" + content,
        b"extra: " + snippet + b"\n" + content,
        b"%YAML 1.1\n---\n" + content,
        b"seed: &a [1]\nn: *a\n" + content,
        content.replace(b"  ", b"\t"),
        content.replace(b"\n", b"\r\n"),
        content.replace(b"\n", b"\r"),
        content + b"# " + b"x" * (2**20 + 1),
        content + b"\nmany: [" + b"1, " * 60_000 + b"1]\n",
        b"",
        b"\x00" * 10,
        snippet,
    )
    return random.choice(ways)

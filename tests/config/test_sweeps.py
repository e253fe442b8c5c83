"""Which overrides sweep, and over what."""

from __future__ import annotations

import re

import pytest

from dsgd.config import ConfigError
from dsgd.config.sweeps import file_name_of, label_of, read_sweep, split_values


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("8", ("8",)),
        ("8,16, 32", ("8", "16", "32")),
        ("[64, 32]", ("[64, 32]",)),
        ("[64],[64, 32]", ("[64]", "[64, 32]")),
        ("plain,{name: sam, rho: 0.1}", ("plain", "{name: sam, rho: 0.1}")),
        ("'a,b.json',ring", ("'a,b.json'", "ring")),
        ("{name: 'a],b'},c", ("{name: 'a],b'}", "c")),
        ("it's,one", ("it's", "one")),
        ("a,", ("a", "")),
        ("", ("",)),
    ],
)
def test_a_comma_outside_of_brackets_and_quotes_parts_values(text: str, values: tuple[str, ...]) -> None:
    assert split_values(text) == values


def test_every_combination_keeps_the_order_of_the_words() -> None:
    sweep = read_sweep(["gradient=sam,asam", "gradient.rho=0.1", "model.widths=[8, 4]", "seed=0,1"])
    assert [sweep.overrides(choice) for choice in sweep.choices()] == [
        [f"gradient={name}", "gradient.rho=0.1", "model.widths=[8, 4]", f"seed={seed}"]
        for name in ("sam", "asam")
        for seed in (0, 1)
    ]
    assert sweep.fixed() == ["gradient.rho=0.1", "model.widths=[8, 4]"]
    assert sweep.values({"gradient": "sam", "seed": "1"}) == {"gradient": "sam", "seed": 1}
    assert not read_sweep(["seed=1", "model.widths=[8, 4]", "no override"]).swept


def test_the_later_word_counts() -> None:
    assert not read_sweep(["seed=0,1", "seed=2"]).swept
    assert read_sweep(["seed=2", "seed=0,1"]).swept == {"seed": ("0", "1")}
    assert read_sweep(["seed=2", "seed=0,1"]).overrides({"seed": "1"}) == ["seed=1", "seed=1"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["seed=0,1,"], "seed: an empty value beside a comma"),
        (["learning_rate.lr=0.1,0.10"], r"learning_rate\.lr: 0\.1 and 0\.10 are one value given 2 times"),
        (["seed=1,0,1"], r"^seed: 1 is given 2 times; give it once$"),
        (["backend.actors=2,4"], r"backend\.actors: 2 values given; allowed is one, for it decides no result"),
        (["name=a,b"], "name: 2 values given"),
        (["seed=01,2"], "seed: 01 given; write the number without leading zeros"),
        (
            [f"seed={','.join(map(str, range(500)))}", "topology.n=4,8,16"],
            "500 of seed x 3 of topology.n are 1,500 runs; allowed are 1,000",
        ),
    ],
)
def test_a_sweep_that_makes_no_sense_is_refused(words: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        read_sweep(words)
    (problem,) = refused.value.problems
    assert re.match(message, problem), problem


def test_a_choice_is_named_by_what_differs() -> None:
    assert label_of({"topology.n": "8", "seed": "0"}) == "topology.n=8 seed=0"
    assert file_name_of({"topology.n": "8", "seed": "0"}) == "n-8_seed-0"
    assert file_name_of({"gradient.rho": "0.1", "topology.rho": "2"}) == "gradient.rho-0.1_topology.rho-2"
    hostile = file_name_of({"task": "../../{name: '\x1b', a: [1]}" + "x" * 200})
    assert re.fullmatch(r"[A-Za-z0-9._-]{1,80}", hostile)
    assert "/" not in hostile

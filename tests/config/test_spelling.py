"""A configuration is said in few words, and these say all of it."""

from __future__ import annotations

import pytest

from dsgd.config import load, read
from dsgd.config.overrides import with_overrides
from dsgd.config.spelling import words

SAID = {
    "defaults": ["task=digits"],
    "a file's name": ["name=ring-3", "task=digits"],
    "knobs": ["task=digits", "topology.graph=exponential", "topology.n=32", "learning_rate.lr=0.3", "batch_size=8"],
    "a part's name before its knobs": ["task=digits", "learning_rate=cosine", "learning_rate.lr=0.3"],
    "lists": ["task=digits", "twins=[centralized]", "metrics=[consensus, {name: curvature, every: 100}]"],
    "nested": ["task=label_noise", "task.share=0.1", "task.source=digits"],
    "a schedule": ["task=digits", "topology.n=8", "topology.schedule=one_peer_exponential"],
    "small numbers": ["task=digits", "learning_rate.lr=1e-05", "backend.device=cpu"],
}


@pytest.mark.parametrize("said", SAID.values(), ids=SAID)
def test_what_was_said_is_said_again(said: list[str]) -> None:
    found = words(load(None, said))
    assert found is not None
    assert sorted(found) == sorted(said)


def test_what_a_word_would_be_read_as_is_quoted() -> None:
    config = read({"task": {"name": "text", "domain": "prose"}, "name": "true", "dtype": "float64"})
    found = words(config)
    assert found is not None
    assert 'name="true"' in found
    assert read(with_overrides({}, found)[0]) == config

"""Drifts with exact values, and a stream that is a function of its seed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dsgd.data.drift import DRIFTS, brightness, contrast, noise, rotation
from dsgd.data.examples import Examples
from dsgd.data.stream import Session, Stream
from dsgd.randomness import generator

X = np.arange(18, dtype=np.float32).reshape(2, 1, 3, 3)
STILL = {"noise": 0.0, "contrast": 1.0, "rotation": 0.0, "brightness": 0.0}
STREAM = Stream({"brightness": 100.0, "contrast": 0.5}, base=2, shots=2, batch_size=4, examples=10, within=(0.0, 500.0))


def drawn(seed: int = 1) -> np.random.Generator:
    return generator(seed, "test")


def held_out() -> Examples:
    """Eight images of each of four classes, every one of them one of a kind."""
    x = np.arange(32 * 4, dtype=np.float32).reshape(32, 1, 2, 2)
    return Examples(x, np.arange(32) % 4)


def sessions(stream: Stream = STREAM, seed: int = 5) -> list[Session]:
    return list(stream.sessions(held_out(), seed))


def which(x: np.ndarray) -> list[int]:
    """The numbers of undrifted held-out images."""
    return [int(image.flat[0]) // 4 for image in x]


@pytest.mark.parametrize("name", DRIFTS)
def test_without_strength_nothing_drifts_and_the_images_given_are_left(name: str) -> None:
    before = X.copy()
    np.testing.assert_allclose(DRIFTS[name](X, STILL[name], drawn()), X, atol=1e-6)
    found = DRIFTS[name](X, 0.7, drawn())
    assert found.dtype == np.float32
    np.testing.assert_array_equal(X, before)


def test_contrast_is_about_each_image_s_own_mean() -> None:
    found = contrast(X, 0.5, drawn())
    np.testing.assert_allclose(found[0, 0], [[2, 2.5, 3], [3.5, 4, 4.5], [5, 5.5, 6]])
    np.testing.assert_allclose(found[1], found[0] + 9)


def test_brightness_is_added() -> None:
    np.testing.assert_array_equal(brightness(X, 3.0, drawn()), X + 3)


def test_a_right_angle_is_counterclockwise_and_between_pixels_it_is_bilinear() -> None:
    np.testing.assert_allclose(rotation(X, 90.0, drawn()), np.rot90(X, axes=(-2, -1)), atol=1e-4)
    dot = np.zeros((1, 1, 3, 3), np.float32)
    dot[0, 0, 0, 1] = 1.0
    found = rotation(dot, 45.0, drawn())[0, 0]
    side = 2**-0.5  # a pixel one step from the centre is looked up so far along both axes
    assert found[0, 1] == pytest.approx(side * (1 - side), abs=1e-6)
    assert found[0, 0] == pytest.approx(0.0, abs=1e-6)


def test_what_comes_in_is_as_dark_as_the_darkest_pixel() -> None:
    assert rotation(X + 7, 45.0, drawn())[0, 0, 0, 0] == 7.0


def test_noise_is_keyed_and_has_the_strength_given() -> None:
    x = np.zeros((100, 1, 10, 10), np.float32)
    found = noise(x, 0.2, drawn())
    np.testing.assert_array_equal(found, noise(x, 0.2, drawn()))
    assert (found != noise(x, 0.2, drawn(2))).any()
    assert found.std() == pytest.approx(0.2, rel=0.03)
    assert abs(found.mean()) < 0.006


def test_each_session_brings_a_class_and_streams_all_known_ones_in_whole_batches() -> None:
    first, second = sessions()
    assert [set(session.shots.y) for session in (first, second)] == [{2}, {3}]
    assert [[len(batch) for batch in session.batches] for session in (first, second)] == [[4, 4], [4, 4]]
    assert set(np.concatenate([batch.y for batch in first.batches])) <= {0, 1, 2}
    assert 3 in np.concatenate([batch.y for batch in sessions(replace(STREAM, examples=28))[1].batches])


def test_shots_are_as_in_training_and_streamed_in_no_session() -> None:
    shots = [number for session in sessions() for number in which(session.shots.x)]
    assert len(set(shots)) == 4
    everything = sessions(replace(STREAM, strengths={"brightness": 0.0}, examples=100, batch_size=1))
    for session in everything:
        for batch in session.batches:
            assert batch.y == [number % 4 for number in which(batch.x)]
    streamed = [number for batch in everything[1].batches for number in which(batch.x)]
    assert sorted(streamed + shots) == list(range(32))


def test_drifts_come_in_turn_and_inputs_keep_within_their_range() -> None:
    clean = sessions(replace(STREAM, strengths={"brightness": 0.0}))
    brighter, paler = sessions()
    for batch, plain in zip(brighter.batches, clean[0].batches, strict=True):
        np.testing.assert_array_equal(batch.x, plain.x + 100)
    for batch, plain in zip(paler.batches, clean[1].batches, strict=True):
        np.testing.assert_allclose(batch.x, contrast(plain.x, 0.5, drawn()))
    narrow = sessions(replace(STREAM, within=(120.0, 150.0)))[0].batches[0].x
    np.testing.assert_array_equal(narrow, np.clip(brighter.batches[0].x, 120, 150))


def test_shots_drift_with_their_session_where_asked() -> None:
    for plain, drifted in zip(sessions(), sessions(replace(STREAM, drifted_shots=True)), strict=True):
        np.testing.assert_array_equal(plain.batches[0].x, drifted.batches[0].x)
        assert (plain.shots.x != drifted.shots.x).any()
    first = sessions(replace(STREAM, drifted_shots=True))[0]
    np.testing.assert_array_equal(first.shots.x, sessions()[0].shots.x + 100)


def test_the_stream_is_a_function_of_the_seed() -> None:
    def read(seed: int) -> bytes:
        found = sessions(replace(STREAM, strengths={"noise": 1.0}), seed)
        return b"".join(part.x.tobytes() for session in found for part in (session.shots, *session.batches))

    assert read(5) == read(5) != read(6)


def test_too_few_examples_are_refused() -> None:
    with pytest.raises(ValueError, match="class 2 has 8 held-out examples; 8 shots need more"):
        sessions(replace(STREAM, shots=8))
    with pytest.raises(ValueError, match="a session has 10 examples; a batch of 64 needs more"):
        sessions(replace(STREAM, batch_size=64))

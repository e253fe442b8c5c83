"""A run over three hosts gives the local numbers, outlives a lost or cut-off host, and knows whom it connects to."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from dsgd.backends.local import LocalBackend
from dsgd.config import load
from dsgd.results import read_ensemble, read_history
from tests.driven import Driven
from tests.hosts import Cluster, Host, hosts, why_none
from tests.rows import near

pytestmark = pytest.mark.cluster

TIMEOUT, STRUCK, KEPT = 8.0, 200, 50  # seconds, the step at which a host is struck, and steps between two worlds
SMALL = ("task=digits", "task.train_size=64", "model.widths=[8]", "batch_size=4", "dtype=float64", "topology.n=6")
LONG = (*SMALL, "optimizer.momentum=0.9", "steps=900", "measure_every=300", "metrics=[consensus]")
SHORT = (*SMALL, "steps=20", "backend=ray", "backend.actors=2")


@pytest.fixture(scope="module", autouse=True)
def _needs_hosts() -> None:
    if reason := why_none():
        pytest.skip(reason)


@pytest.fixture(scope="module")
def three() -> Iterator[Cluster]:
    with hosts(3) as made:
        yield Cluster(made)


@pytest.fixture
def cluster(three: Cluster) -> Cluster:
    """With all its hosts, whatever the test before did to them."""
    three.mend()
    return three


def driven(cluster: Cluster, name: str, *words: str, on: Host | None = None) -> Driven:
    """A long run in an actor a host, started on the head or another host, its world kept every `KEPT` steps."""
    how = {"address": cluster.address, "placement": "SPREAD", "actors": 3, "timeout": TIMEOUT, "device": "cpu"}
    ray = ("backend=ray", *(f"backend.{knob}={value}" for knob, value in how.items()))
    return Driven((on or cluster.head).start, cluster.head.home / name, KEPT, *LONG, *ray, *words)


def command(host: Host, *words: str, **how: Any) -> tuple[int, str, float]:
    """`dsgd run` on a host: its status, what it said on stderr, and the seconds it took."""
    began = time.monotonic()
    dsgd = (sys.executable, "-m", "dsgd.cli", "run", *SHORT, *words)
    ran = host.run(*dsgd, "--out", host.home / f"out-{began}", **how)
    return ran.returncode, ran.stderr.strip().splitlines()[-1], time.monotonic() - began


def same(folder: Path, tolerance: float) -> None:
    """The folder holds the local backend's numbers."""
    expected = LocalBackend("cpu").train(load(None, LONG).run)
    for name, leaf in read_ensemble(folder).items():
        wanted = expected.params[name]
        torch.testing.assert_close(leaf, wanted, rtol=tolerance, atol=tolerance * float(wanted.abs().max()))
    history = read_history(folder)
    assert [row["step"] for row in history] == [row["step"] for row in expected.history]
    for row, wanted_row in zip(history, expected.history, strict=True):
        assert row == near(wanted_row, rel=100 * tolerance, abs=tolerance)


def lost(run: Driven) -> list[dict[str, Any]]:
    return [line for line in run.told if line.get("event") == "place_lost"]


def test_a_run_over_three_hosts_gives_the_local_numbers_and_listens_on_their_addresses_alone(cluster: Cluster) -> None:
    with driven(cluster, "whole") as run:
        run.until("step", 50)
        for host in cluster.hosts:
            assert len(host.processes("ray::RayRank")) == 1
            sockets = host.run("ss", "-4Hltnp").stdout + host.run("ss", "-4Htnp").stdout
            ours = [line.split() for line in sockets.splitlines() if "ray::RayRank" in line]
            assert {local.rpartition(":")[0] for _, _, _, local, *_ in ours} == {host.address}
            peers = {peer.rpartition(":")[0] for state, _, _, _, peer, *_ in ours if state == "ESTAB"}
            assert peers >= {other.address for other in cluster.hosts} - {host.address}
        assert run.ended(60)["ended"] == "ok"
    assert not lost(run)
    same(run.folder, 1e-10)


@pytest.mark.parametrize("places", [3, 2], ids=["three places on two hosts", "two places on two hosts"])
def test_when_a_host_is_lost_the_run_ends_on_what_is_left(cluster: Cluster, places: int) -> None:
    """With two of a node's two cores an actor, there is room for one a host, and the run goes on with fewer."""
    with driven(cluster, f"lost-{places}", *(["backend.cpus=2", "backend.wait=2"] if places == 2 else [])) as run:
        run.until("step", STRUCK)
        cluster.lose(cluster.workers[1])
        run.until("event", seconds=TIMEOUT)
        run.until("step", STRUCK, seconds=60)
        assert sum(len(host.processes("ray::RayRank")) for host in cluster.hosts) == places
        assert run.ended(90)["ended"] == "ok"
    (event,) = lost(run)
    assert event["step"] >= STRUCK - KEPT
    assert re.search(r"; the run goes on from step \d+$", event["sentence"])
    same(run.folder, 1e-9)
    assert '"event": "place_lost"' in (run.folder / "events.jsonl").read_text()


@pytest.mark.parametrize("watchful", [True, False], ids=["Ray sees it", "Ray takes it for alive"])
def test_a_host_cut_off_for_good_is_left_behind(watchful: bool) -> None:
    """Also where Ray would still place actors there."""
    with hosts(3) as made:
        cluster = Cluster(made, watchful=watchful)
        with driven(cluster, "cut", "backend.wait=2") as run:
            run.until("step", STRUCK)
            cluster.cut_off(cluster.workers[1])
            run.until("event", seconds=TIMEOUT + 2)
            run.until("step", STRUCK, seconds=60)
            assert run.ended(90)["ended"] == "ok"
        (event,) = lost(run)
        assert event["step"] >= STRUCK - KEPT
        same(run.folder, 1e-9)


def test_a_host_cut_off_ends_a_run_that_must_not_start_again(cluster: Cluster) -> None:
    with driven(cluster, "ended", "backend.restarts=0") as run:
        run.until("step", STRUCK)
        cluster.cut_off(cluster.workers[1])
        ended = run.ended(TIMEOUT + 15)
    assert ended["ended"] == "BackendError"
    assert re.fullmatch(r".*10\.7\.0\.3.*; more than 0 losses are not made good \(restarts\)", ended["sentence"])


def test_a_driver_cut_off_from_the_head_ends_with_a_sentence(cluster: Cluster) -> None:
    """Ray itself would wait for minutes, even to take its leave."""
    with driven(cluster, "away", on=cluster.workers[0]) as run:
        run.until("step", STRUCK)
        cluster.cut_off(cluster.workers[0])
        ended = run.ended(TIMEOUT + 15)
    assert (
        ended["sentence"] == "the head of the Ray cluster does not answer any more; once it does, dsgd resume goes on"
    )


def test_hosts_that_do_not_reach_each_other_end_the_run_with_a_sentence(cluster: Cluster) -> None:
    """All of them answer, so nobody can be left behind."""
    with driven(cluster, "parted", "backend.restarts=1") as run:
        run.until("step", STRUCK)
        cluster.part(*cluster.workers)
        ended = run.ended(2 * TIMEOUT + 45)
    assert ended["ended"] == "BackendError"
    assert ended["sentence"].endswith("; more than 1 losses are not made good (restarts)")
    assert re.search(
        r"place \d is gone, or did not answer place \d within 8 s; the run goes on", lost(run)[0]["sentence"]
    )


def test_an_open_cluster_of_a_network_is_refused_unless_that_is_accepted() -> None:
    with hosts(1) as (host,):
        address = f"backend.address={Cluster([host], locked=False).address}"
        status, said, seconds = command(host, address)
        assert (status, seconds < 15) == (1, True)
        assert "lets in anybody who reaches it" in said
        assert "--insecure-cluster" in said
        status, said, _ = command(host, address, "backend.insecure_cluster=true")
        assert status == 0, said


@pytest.mark.parametrize("token", ["", "0" * 64], ids=["no token", "a wrong token"])
def test_a_driver_without_the_token_is_told_so_at_once(cluster: Cluster, tmp_path: Path, token: str) -> None:
    env = {"HOME": str(tmp_path)} | ({"RAY_AUTH_TOKEN": token} if token else {})
    status, said, seconds = command(cluster.head, f"backend.address={cluster.address}", env=env)
    assert (status, seconds < 15) == (1, True)
    assert "token" in said


@pytest.mark.parametrize("where", ["10.7.0.77:6379", "10.7.0.2:6379"], ids=["no host", "no port"])
def test_an_address_where_nothing_answers_fails_at_once(cluster: Cluster, where: str) -> None:
    status, said, seconds = command(cluster.head, f"backend.address={where}")
    assert (status, seconds < 15) == (1, True)
    assert said == f"failed: nothing listens at address {where}; start a cluster there: ray start --head"

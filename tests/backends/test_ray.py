"""Runs and studies on a Ray cluster on this machine: the numbers of processes, whatever is lost."""

from __future__ import annotations

import itertools
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch

from dsgd import plugins
from dsgd.algorithms import ALGORITHMS
from dsgd.backends import ray_cluster
from dsgd.backends.local import LocalBackend
from dsgd.backends.ray_actors import Actors, Needs, RayBackend
from dsgd.backends.ray_cluster import keep_token_private
from dsgd.backends.ray_probe import probe
from dsgd.backends.supervision import BackendError
from dsgd.gradients import GRADIENTS
from dsgd.gradients.plain import Plain
from dsgd.gradients.weight_diversity import WeightDiversity
from dsgd.optimizers import AdamW
from dsgd.study import conduct, find_study
from tests.backends.fleets import SCHEDULES, Keeping, Kept, Make, Seen, close, combined, compared, undisturbed
from tests.backends.test_own_parts_elsewhere import STUDY
from tests.test_plugins import SIGN
from tests.test_security import listening, tree

LOOPBACK = {"0100007F", f"{0:024X}01000000", f"{0:016X}FFFF00000100007F"}  # 127.0.0.1, ::1, ::ffff:127.0.0.1


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """One Ray for all tests: eight slots on this machine, a small store, a folder and a home of its own."""
    ray = pytest.importorskip("ray")
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp") as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", folder)
        for name, value in (ray_cluster.SETTINGS | ray_cluster.ONE_NODE).items():
            patch.setenv(name, value)
        patch.setenv("PYTHONPATH", os.pathsep.join([str(Path.cwd()), os.environ.get("PYTHONPATH", "")]))
        keep_token_private(make=True)
        ray.init(
            address="local",
            num_cpus=8,
            include_dashboard=False,
            object_store_memory=10**8,
            _temp_dir=folder,
            log_to_driver=False,
        )
        yield
        ray.shutdown()


def pairwise(*factors: Iterable[Any]) -> list[tuple[Any, ...]]:
    """Few combinations in which any two values of two factors meet, by taking the one with most new pairs."""

    def pairs(combination: tuple[Any, ...]) -> set[Any]:
        return set(itertools.combinations(enumerate(combination), 2))

    every = list(itertools.product(*factors))
    chosen, missing = [], set().union(*map(pairs, every))
    while missing:
        chosen.append(max(every, key=lambda combination: len(pairs(combination) & missing)))
        missing -= pairs(chosen[-1])
    return chosen


PAIRWISE = pairwise(ALGORITHMS, SCHEDULES, GRADIENTS, (1, 2, 3, 4))


@pytest.fixture(scope="class")
def four_actors(cluster: None) -> Iterator[Kept]:
    """Actors that stay for the next run."""
    kept = Kept(Actors(Needs(cpus=0.5, gpus=0, placement="PACK", wait=30)).places(4, 4))
    yield kept
    kept.end()


@pytest.mark.cluster
class TestNumbers:
    @pytest.mark.parametrize(("algorithm", "schedule", "gradient", "count"), PAIRWISE)
    def test_in_actors_the_numbers_are_the_local_ones(
        self, four_actors: Kept, small: Make, algorithm: str, schedule: str, gradient: str, count: int
    ) -> None:
        compared(four_actors, combined(small, algorithm, schedule, gradient), count)


@pytest.mark.cluster
@pytest.mark.usefixtures("cluster")
def test_in_actors_the_bits_are_those_of_processes(small: Make) -> None:
    """With twins, which live in every place."""
    run = combined(small, "consensus", "ring", "plain", twins=(WeightDiversity(), Plain()), optimizer=AdamW())
    found, expected = RayBackend(3, cpus=0.5).train(run), undisturbed(run, 3)
    assert all(torch.equal(found.params[name], leaf) for name, leaf in expected.params.items())
    assert found.history == expected.history
    assert found.bytes_crossed == expected.bytes_crossed > 0


@pytest.mark.cluster
@pytest.mark.usefixtures("cluster")
def test_one_replica_an_actor(small: Make) -> None:
    run = small(n=4)
    found, expected = RayBackend(4, placement="SPREAD").train(run), undisturbed(run, 4)
    assert all(torch.equal(found.params[name], leaf) for name, leaf in expected.params.items())


@pytest.mark.cluster
@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize("strike", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "frozen"])
def test_a_lost_actor_is_replaced_and_the_numbers_are_the_undisturbed_ones(small: Make, strike: int) -> None:
    """And none of its processes is left over, frozen or not."""
    run, seen = small(n=4, steps=600, measure_every=100), Seen()

    def kill() -> None:
        while seen.steps[-1] < 200:
            time.sleep(0.002)
        os.kill(random.Random(1).choice(actors()), strike)

    threading.Thread(target=kill, daemon=True).start()
    found = RayBackend(2, timeout=3).train(run, (seen,), keeper=Keeping(50))
    ((event, details),) = seen.events
    assert event == "place_lost"
    assert details["step"] >= 150
    expected = undisturbed(run, 2)
    assert all(torch.equal(found.params[name], leaf) for name, leaf in expected.params.items())
    assert found.history == expected.history
    deadline = time.monotonic() + 10
    while actors() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert actors() == []


@pytest.mark.cluster
@pytest.mark.usefixtures("cluster")
def test_where_there_is_no_room_it_says_what_there_is(small: Make) -> None:
    with pytest.raises(BackendError, match=r"no room for 1 actors of 99 CPU each \(PACK\) within 1 s.* offer 8 CPU"):
        RayBackend(1, cpus=99, wait=1).train(small(n=4))


@pytest.mark.cluster
@pytest.mark.usefixtures("cluster")
def test_fewer_actors_than_asked_for_are_refused_and_as_many_as_there_is_room_for_are_counted(small: Make) -> None:
    """A scaling table made of silently fewer would be wrong."""
    run = small(n=5)
    with pytest.raises(BackendError, match="no room for 4 actors of 3 CPU each"):
        RayBackend(4, cpus=3, wait=1).train(run)
    with pytest.raises(BackendError, match=r"no room for 2 actors of 1 CPU each \(STRICT_SPREAD\)"):
        RayBackend(2, placement="STRICT_SPREAD", wait=1).train(run)
    found = RayBackend(cpus=3, wait=1).train(run)
    assert found.places == 2
    close(found, undisturbed(run, 1))


@pytest.mark.cluster
@pytest.mark.usefixtures("cluster")
def test_a_study_is_spread_over_the_cluster_and_answers_the_same(tmp_path: Path) -> None:
    """Its runs are tasks; what is finished is kept, and each says on what machine it was computed."""
    from dsgd.kept_runs import default_workers
    from dsgd.results import read_environment, read_history
    from dsgd.study import conduct

    backend = RayBackend(cpus=0.5)
    assert default_workers(backend) == 1
    spread = conduct("consensus_distance", "smoke", out=tmp_path / "ray", backend=backend)
    here = conduct("consensus_distance", "smoke", out=tmp_path / "here")
    assert spread["claims"] == here["claims"]
    assert spread["trained"] == here["trained"] > 1
    assert conduct("consensus_distance", "smoke", out=tmp_path / "ray", backend=backend)["trained"] == 0
    for folder in (tmp_path / "here" / "runs").iterdir():
        twin = tmp_path / "ray" / "runs" / folder.name
        assert read_history(twin) == read_history(folder)
        assert read_environment(twin)["threads"] == 1


@pytest.mark.cluster
@pytest.mark.usefixtures("cluster")
def test_a_task_whose_worker_is_killed_is_tried_again(small: Make) -> None:
    """And one that fails says so for itself alone."""
    from dsgd.backends.local import LocalBackend
    from dsgd.learning_rates import Constant
    from dsgd.models import Mlp

    diverging = small(n=4, model=Mlp((8,), "relu"), learning_rate=Constant(1e100))
    runs, struck = [small(n=4, steps=6000, measure_every=6000), diverging], list[int]()

    def kill() -> None:
        while not (found := workers(b"ray::_recorded")):
            time.sleep(0.01)
        struck.extend(found)
        for pid in found:
            os.kill(pid, signal.SIGKILL)

    threading.Thread(target=kill, daemon=True).start()
    outcomes = {place: recordings[0].outcome for place, recordings in RayBackend().spread([[run] for run in runs])}
    expected = LocalBackend("cpu").train(runs[0])
    assert struck
    assert all(torch.equal(outcomes[0].params[name], leaf) for name, leaf in expected.params.items())
    assert "not finite" in str(outcomes[1])


@pytest.mark.cluster
def test_a_cluster_of_its_own_is_locked_private_and_gone_afterwards(tmp_path: Path) -> None:
    """Seen from outside, while a run in another process goes on."""

    short = tempfile.mkdtemp(prefix="ray-", dir="/tmp")
    environment = os.environ | {"HOME": short, "RAY_TMPDIR": short}
    words = ["task=digits", "steps=8000", "measure_every=4000", "topology.n=4", "backend=ray", "backend.actors=2"]
    command = [sys.executable, "-m", "dsgd.cli", "run", *words, "--out", str(tmp_path / "run"), "--json"]
    running = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    port = _port_of_gcs(Path(short), running)
    assert probe("127.0.0.1", port) == "locked"
    assert [where for where in _addresses(socket.gethostname()) if probe(where, port, 1) != "nothing"] == []
    listeners = Listeners(running.pid)
    out, err = running.communicate(timeout=120)
    assert running.returncode == 0, err
    assert out.startswith("{")
    assert "bytes_crossed" in out
    token = Path(short) / ".ray" / "auth_token"
    assert token.stat().st_mode & 0o777 == 0o600
    assert token.read_text() not in out + err
    assert probe("127.0.0.1", port) == "nothing"
    if sys.platform == "linux":
        listeners.thread.join(10)
        assert listeners.seen.keys() >= {"gcs_server", "raylet", "ray::RayRank"}
        assert {where for addresses in listeners.seen.values() for where in addresses} <= LOOPBACK, listeners.seen
        assert listeners.told == {"RAY_USAGE_STATS_ENABLED=0"}


@pytest.mark.cluster
def test_sigterm_ends_a_run_on_ray_as_any_other(tmp_path: Path) -> None:
    """Ray has a handler of its own, which would abort the process."""
    short, folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp"), tmp_path / "run"
    environment = os.environ | {"HOME": short, "RAY_TMPDIR": short}
    words = ["task=digits", "steps=100000", "measure_every=10", "topology.n=4", "backend=ray", "backend.actors=2"]
    command = [sys.executable, "-m", "dsgd.cli", "run", *words, "--out", str(folder)]
    running = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline and running.poll() is None:
        if (folder / "metrics.jsonl").is_file() and len((folder / "metrics.jsonl").read_text().splitlines()) > 3:
            break
        time.sleep(0.1)
    running.terminate()
    _, err = running.communicate(timeout=60)
    assert running.returncode == 143, err
    assert f"to go on: dsgd resume {folder}" in err
    assert list((folder / "checkpoints").iterdir())


class Listeners:
    """Looks, until a process is gone, on what addresses it and all that it started listen, by the name of each program.

    `told` is what Ray's own programs were told of reporting on their use.
    """

    def __init__(self, pid: int) -> None:
        self.seen: dict[str, set[str]] = {}
        self.told: set[str] = set()
        self.thread = threading.Thread(target=self._watch, args=(pid,), daemon=True)
        self.thread.start()

    def _watch(self, pid: int) -> None:
        while _goes_on(pid):
            for each in tree(pid):
                self._look(each)
            time.sleep(0.05)

    def _look(self, pid: int) -> None:
        with suppress(OSError):
            program = Path(Path(f"/proc/{pid}/cmdline").read_text().partition("\0")[0]).name.partition(".")[0]
            if addresses := listening(pid):
                self.seen.setdefault(program, set()).update(addresses)
            if program in ("gcs_server", "raylet"):
                settings = Path(f"/proc/{pid}/environ").read_text().split("\0")
                self.told |= {found for found in settings if found.startswith("RAY_USAGE_STATS_ENABLED")} or {"nothing"}


def _goes_on(pid: int) -> bool:
    with suppress(OSError):
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    return False


def actors() -> list[int]:
    """The processes of our actors on this machine."""
    return workers(b"ray::RayRank")


def workers(name: bytes) -> list[int]:
    found = []
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdigit() and name in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
        except OSError:
            continue
    return found


def _port_of_gcs(folder: Path, running: Any) -> int:
    """As Ray writes it down in its folder."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and running.poll() is None:
        for file in folder.rglob("gcs_server_port*"):
            if text := file.read_text().strip():
                return int(text)
        for file in folder.rglob("ray_current_cluster"):
            return int(file.read_text().rpartition(":")[2])
        time.sleep(0.1)
    raise AssertionError(f"no cluster came up: {running.communicate()}")


def _addresses(name: str) -> list[str]:
    """This machine's addresses but the loopback."""
    found = {str(one[4][0]) for one in socket.getaddrinfo(name, None)}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        try:
            asking.connect(("192.0.2.1", 9))
            found.add(asking.getsockname()[0])
        except OSError:
            pass
    return [address for address in found if not address.startswith("127.") and address != "::1"]


@pytest.mark.cluster
@pytest.mark.usefixtures("cluster", "own_parts")
def test_actors_and_tasks_know_the_users_own_files(small: Make, tmp_path: Path) -> None:
    (tmp_path / "sign.py").write_text(SIGN)
    (tmp_path / "study.py").write_text(STUDY)
    run = small(gradient=plugins.load(tmp_path / "sign.py").Sign())
    close(RayBackend(actors=2, device="cpu").train(run), LocalBackend("cpu").train(run))
    summary = conduct(find_study(str(tmp_path / "study.py")), out=tmp_path / "out", backend=RayBackend(device="cpu"))
    assert (summary["runs"], summary["trained"]) == (2, 2)

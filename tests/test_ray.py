"""The Ray backend on this machine: the numbers of processes, its locks, and what it says when there is no cluster."""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch

from dsgd.algorithms import ALGORITHMS
from dsgd.backends import ray_cluster
from dsgd.backends.ray_actors import Actors, Needs, RayBackend
from dsgd.backends.ray_cluster import MODE, TOKEN, TOKEN_PATH, check_lock, keep_token_private
from dsgd.backends.ray_probe import probe
from dsgd.backends.supervision import BackendError
from dsgd.gradients import GRADIENTS
from dsgd.gradients.plain import Plain
from dsgd.gradients.weight_diversity import WeightDiversity
from dsgd.optimizers import AdamW
from dsgd.run import Run
from tests.test_backends import SCHEDULES, Keeping, Kept, Seen, close, combined, compared, undisturbed
from tests.test_security import listening, tree
from topologies import Static, Topology

Make = Callable[..., Run]
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
        while not (found := workers(b"ray::recorded")):
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
    words = ["task=digits", "steps=2000", "measure_every=1000", "topology.n=4", "backend=ray", "backend.actors=2"]
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
        while (found := tree(pid)) and Path(f"/proc/{pid}/fd").exists():
            for each in found:
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


def test_ray_is_told_to_report_to_nobody(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray")
    monkeypatch.delenv("RAY_USAGE_STATS_ENABLED", raising=False)
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    monkeypatch.setattr(ray_cluster, "check_head", lambda: None)
    for address in ("local", "auto", "10.1.2.3:6379"):
        with ray_cluster.connected(address, insecure=False, cpus=1):
            assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
    assert "RAY_USAGE_STATS_ENABLED" not in os.environ


@pytest.mark.parametrize("accepted", [True, False])
def test_an_open_cluster_is_accepted_on_the_command_line(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], accepted: bool
) -> None:
    """The flag reaches the backend, and the backend's connection."""
    from dsgd import cli
    from dsgd.backends import ray_actors

    def refused(address: str, insecure: bool, cpus: float) -> Any:
        raise BackendError(f"{address} insecure={insecure}")

    monkeypatch.setattr(ray_actors, "connected", refused)
    words = ["run", "task=digits", "steps=1", "backend=ray", "backend.address=10.1.2.3:6379"]
    words += ["--insecure-cluster"] * accepted
    assert cli.main([*words, "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["backend"]["insecure_cluster"] is accepted
    assert cli.main([*words, "--out", str(home / "run")]) == 1
    assert f"10.1.2.3:6379 insecure={accepted}" in capsys.readouterr().err


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


class Server:
    """Listens on the loopback and answers each connection by what `reply` makes of its first bytes."""

    def __init__(self, reply: Callable[[bytes], bytes]) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.reply = reply
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            with connection:
                connection.sendall(self.reply(connection.recv(4096)))


def trailers(status: str) -> bytes:
    """An answer of gRPC with that status, as HTTP/2 frames."""
    return ended(b"\x00\x0bgrpc-status" + bytes([len(status)]) + status.encode())


def ended(payload: bytes) -> bytes:
    """An answer of HTTP/2 that ends with these trailers."""
    return (
        bytes(3)
        + b"\x04\x00"
        + bytes(4)
        + len(payload).to_bytes(3, "big")
        + b"\x01\x05"
        + bytes([0, 0, 0, 1])
        + payload
    )


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        (lambda asked: b"HTTP/1.1 400 Bad Request\r\n\r\n", "no ray"),
        (lambda asked: b"", "no ray"),
        (lambda asked: trailers("0"), "open"),
        (lambda asked: trailers("16"), "locked"),
        (lambda asked: trailers("12"), "no ray"),
        (lambda asked: ended(b"\x00\x0bgrpc-status"), "no ray"),
        (lambda asked: ended(b"\x00\x0bgrpc-status\x02"), "no ray"),
        (lambda asked: ended(b""), "no ray"),
    ],
    ids=["http", "silence", "open", "locked", "other grpc", "no status", "cut status", "no trailers"],
)
def test_a_probe_tells_what_listens(reply: Callable[[bytes], bytes], answer: str) -> None:
    assert probe("127.0.0.1", Server(reply).port, 2) == answer


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home without a token."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in (TOKEN, TOKEN_PATH, MODE):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def test_nothing_at_the_address_is_said_at_once(home: Path, small: Make) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    began = time.monotonic()
    with pytest.raises(BackendError, match=rf"nothing listens at address 127.0.0.1:{port}; start a cluster there"):
        RayBackend(2, address=f"127.0.0.1:{port}").train(small(n=4))
    assert time.monotonic() - began < 15


NO_ADDRESSES = ["nonsense", "host:", "ray://127.0.0.1:6379", "http://localhost:8265", "localhost:99999", "a b:1", ":1"]


@pytest.mark.parametrize("address", NO_ADDRESSES)
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match=f"address is {address}; allowed are local, auto, or host:port"):
        RayBackend(2, address=address)


def test_what_is_no_cluster_is_refused(home: Path) -> None:
    server = Server(lambda asked: b"HTTP/1.1 400 Bad Request\r\n\r\n")
    with pytest.raises(BackendError, match="is no Ray cluster"):
        check_lock(f"127.0.0.1:{server.port}", insecure=False)


def test_a_locked_cluster_wants_a_token(home: Path) -> None:
    server = Server(lambda asked: trailers("16"))
    with pytest.raises(BackendError, match=r"wants a token; copy ~/.ray/auth_token from its head"):
        check_lock(f"127.0.0.1:{server.port}", insecure=False)
    keep_token_private(make=True)
    check_lock(f"127.0.0.1:{server.port}", insecure=False)


def test_an_open_cluster_is_taken_on_the_loopback_and_elsewhere_only_if_that_is_accepted(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_cluster, "probe", lambda host, port: "open")
    check_lock("127.0.0.1:6379", insecure=False)
    check_lock("10.1.2.3:6379", insecure=True)
    with pytest.raises(BackendError, match=r"lets in anybody who reaches it.*--insecure-cluster"):
        check_lock("10.1.2.3:6379", insecure=False)


def test_a_token_is_made_for_the_user_alone_and_one_that_others_can_read_is_closed(home: Path) -> None:
    token = home / ".ray" / "auth_token"
    keep_token_private(make=True)
    made = token.read_text()
    assert len(made) == 64
    assert token.stat().st_mode & 0o777 == 0o600
    token.chmod(0o644)
    keep_token_private(make=True)
    assert token.read_text() == made
    assert token.stat().st_mode & 0o777 == 0o600


def test_no_token_is_made_for_a_cluster_elsewhere(home: Path) -> None:
    keep_token_private()
    assert not (home / ".ray").exists()


@pytest.mark.parametrize("wrong", [{"cpus": 0.0}, {"gpus": -0.5}, {"wait": -1.0}])
def test_less_than_nothing_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"it must be (at least|above) 0"):
        RayBackend(**wrong)  # type: ignore[arg-type]


def test_the_environment_is_left_as_it_was(home: Path, small: Make) -> None:
    before = dict(os.environ)
    with pytest.raises(BackendError):
        RayBackend(2, address="127.0.0.1:1").train(small(n=4))
    assert dict(os.environ) == before


def test_stationary_graph_is_shared_out_by_few_edges() -> None:
    """What an actor is sent follows from the blocks, which follow the graph."""
    from topologies import blocks, crossings

    ring = Static(Topology("ring", 12))
    assert crossings(ring, blocks(ring, 3)) == 6

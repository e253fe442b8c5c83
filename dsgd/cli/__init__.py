"""The command line: every command reads its arguments, asks the package, and prints what it answered.

Exit status: 0 done (whatever a study's verdicts), 1 a run failed, 2 bad usage, 130 interrupted, 143 terminated.
"""

import os
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from dsgd import __version__
from dsgd.cli import completing, printed
from dsgd.cli.own_parts import load_plugins, warn_of_changes
from dsgd.cli.signals import INTERRUPTED, TERMINATED, status_of, terminable
from dsgd.memory import ran_out
from dsgd.plugins import place_of
from dsgd.typography import cut, one_line

app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)
topology_app = typer.Typer(rich_markup_mode=None, help="Graphs and their mixing matrices.")
app.add_typer(topology_app, name="topology")

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else.")]
Out = Annotated[Path | None, typer.Option("--out", metavar="DIR", help="A new or empty folder, or a sweep's to go on.")]
Insecure = Annotated[
    bool, typer.Option("--insecure-cluster", help="Accept a Ray cluster elsewhere that lets in anybody.")
]
BACKEND = re.compile(r"backend[.=]")
Device = Annotated[str | None, typer.Option("--device", metavar="auto|cpu|cuda", help="Where to compute.")]

Plugin = Annotated[
    list[Path] | None,
    typer.Option(
        "--plugin", metavar="FILE.py", callback=load_plugins, help="A file of your own parts; see dsgd.register."
    ),
]

Track = Annotated[
    list[str] | None, typer.Option("--track", metavar="NAME", help="Tell tensorboard, wandb or mlflow too.")
]


def _folder(metavar: str, says: str) -> Any:
    """An argument that is a folder which dsgd wrote."""
    return typer.Argument(metavar=metavar, help=says, autocompletion=completing.folders)


@app.callback(invoke_without_command=True)
def dsgd(
    context: typer.Context, version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False
) -> None:
    """Decentralized SGD on simulated networks, and what it has to do with sharpness-aware minimization."""
    if version:
        print(f"dsgd {__version__}")
    elif context.invoked_subcommand is None:
        print(context.get_help())


@app.command()
def run(
    arguments: Annotated[
        list[str],
        typer.Argument(
            metavar="[CONFIG] [a.b=c]...", help="A YAML file, and overrides.", autocompletion=completing.configurations
        ),
    ],
    out: Out = None,
    device: Device = None,
    insecure_cluster: Insecure = False,
    plugin: Plugin = None,
    track: Track = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the resolved configuration and what it costs, train nothing.")
    ] = False,
    workers: Annotated[
        int, typer.Option(min=0, help="Processes that train a sweep's runs; 0: one a core, or one a GPU.")
    ] = 0,
    as_json: Json = False,
) -> None:
    """Train one run into a folder, or a sweep of them.

    With a file, dsgd run ring.yaml learning_rate.lr=0.3, or without, dsgd run task=digits steps=100. Several values
    make a sweep: dsgd run ring.yaml topology.n=8,16 seed=0,1,2 trains every combination, and tells means over seeds.
    """
    from dsgd.cli import dry_runs, sweeping
    from dsgd.cli.training import train
    from dsgd.config import load

    path, overrides = _config_and_overrides(arguments)
    words = [*overrides, *_where(device, insecure_cluster)]
    asked = sweeping.Asked(sweeping.read_sweep(words), path, out, workers)
    if asked.sweep.swept and track:
        raise typer.BadParameter("a tracker follows one run, and this is a sweep; leave it out", param_hint="--track")
    if asked.sweep.swept:
        (dry_runs.show_sweep if dry_run else sweeping.conduct)(asked, as_json)
        return
    config = load(path, words)
    if path:
        warn_of_changes(path)
    if dry_run:
        dry_runs.show_run(config, as_json)
    else:
        train(config, out, as_json, track or ())


@app.command()
def resume(
    run_dir: Annotated[Path, _folder("RUN_DIR", "The folder of a run that was interrupted.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[backend.x=y]...", help="Where to compute, how to keep it.")
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Fail where the newest checkpoint is damaged.")] = False,
    other_version: Annotated[
        bool, typer.Option("--other-version", help="Go on though dsgd's sources, a plug-in or torch are others now.")
    ] = False,
    plugin: Plugin = None,
    track: Track = None,
    as_json: Json = False,
) -> None:
    """Continue an interrupted run.

    From its newest complete checkpoint, to the same numbers as if it had run through.
    """
    from dsgd.cli.training import go_on

    go_on(run_dir, overrides or [], strict, other_version, as_json, track or ())


@app.command()
def study(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="A name of `dsgd studies`, or a .py file.", autocompletion=completing.studies
        ),
    ],
    words: Annotated[
        list[str] | None, typer.Argument(metavar="[setting=value]...", help="Changes to the preset's settings.")
    ] = None,
    preset: Annotated[str | None, typer.Option(help="How much to compute.")] = None,
    seed: Annotated[int | None, typer.Option(help="The first seed.")] = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder; finished runs in it are reused.")] = None,
    device: Device = None,
    insecure_cluster: Insecure = False,
    workers: Annotated[int, typer.Option(min=0, help="Processes that train runs; 0: one a core, or one a GPU.")] = 0,
    plugin: Plugin = None,
    as_json: Json = False,
) -> None:
    """Answer a study's question.

    Runs what is missing, judges the claims, writes a report.
    """
    from dsgd.cli.conducting import conducted
    from dsgd.cli.machine import warn_of_torch

    warn_of_torch()
    try:
        with terminable():
            where = [word for word in words or [] if BACKEND.match(word)]
            changes = [word for word in words or [] if word not in where]
            where += _where(device, insecure_cluster)
            summary, folder = conducted(name, changes, preset, seed, out, where, workers)
    except KeyboardInterrupt as error:
        printed.say("interrupted; the same command continues with the runs that are missing")
        raise typer.Exit(status_of(error)) from None
    printed.show(summary, printed.of_study(summary, folder), as_json)


@app.command()
def studies(as_json: Json = False) -> None:
    """List the studies, their presets and what these cost."""
    from dsgd.study import list_studies, study_costs

    costs = study_costs()
    found = {name: {"question": question, "takes": costs[name]} for name, question in list_studies().items()}
    printed.show(found, printed.of_studies(found), as_json)


@app.command()
def runs(
    folder: Annotated[Path, _folder("[DIR]", "Where to look, also a sweep's or a study's.")] = Path("runs"),
    as_json: Json = False,
) -> None:
    """List runs, sweeps and studies with how they stand.

    The latest last; those inside a sweep or a study where its folder is named.
    """
    from dsgd.cli.shown_folders import list_runs

    list_runs(folder, as_json)


@app.command()
def show(
    folder: Annotated[Path, _folder("FOLDER", "Of a run, a sweep or a study.")],
    as_json: Json = False,
) -> None:
    """Show what a run, a sweep or a study found, and how to go on."""
    from dsgd.cli.shown_folders import show_folder

    show_folder(folder, as_json)


@app.command()
def probe(
    run_dir: Annotated[Path, _folder("RUN_DIR", "The folder of a finished run.")],
    probe_size: Annotated[int, typer.Option(help="Training examples in the loss.")] = 512,
    step: Annotated[int | None, typer.Option(help="A recorded snapshot instead of the end.")] = None,
    plugin: Plugin = None,
    as_json: Json = False,
) -> None:
    """Compare D-SGD with average-direction SAM.

    Measured in float64 on the ensemble that a run left in its folder.
    """
    from dsgd.cli.probing import probe_folder

    found = probe_folder(run_dir, probe_size, step)
    brief = {name: value for name, value in found.items() if name not in ("scales", "curves")}
    printed.show(found, printed.pairs(brief), as_json)


@app.command()
def landscape(
    run_dir: Annotated[Path, _folder("RUN_DIR", "The folder of a finished run.")],
    out: Annotated[Path, typer.Option("--out", metavar="FILE.svg", help="Where to draw it.")],
    kind: Annotated[
        str,
        typer.Option(
            metavar="KIND", help="A name of `dsgd list landscapes`.", autocompletion=completing.names_of("landscapes")
        ),
    ] = "random",
    step: Annotated[int | None, typer.Option(help="A recorded snapshot instead of the end.")] = None,
    plugin: Plugin = None,
    reach: Annotated[
        float | None, typer.Option(help="How far to look; by default as far as the kind suggests.")
    ] = None,
    points: Annotated[int, typer.Option(help="Along each direction.")] = 31,
    examples: Annotated[int, typer.Option(help="Training examples in the loss.")] = 1000,
    as_json: Json = False,
) -> None:
    """Draw the loss around the mean model.

    In a plane of two directions, from the ensemble that a run left in its folder.
    """
    from dsgd.cli.landscapes import draw_landscape, landscape_metric

    found = draw_landscape(run_dir, landscape_metric(kind, points, reach, examples), step, out)
    brief = {name: value for name, value in found.items() if not isinstance(value, list)}
    printed.show(found, printed.pairs(brief), as_json)


@topology_app.command("show")
def topology_show(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="A name of `dsgd list graphs`, or a graph file.",
            autocompletion=completing.names_of("graphs"),
        ),
    ],
    n: Annotated[int | None, typer.Option("-n", metavar="N", help="Number of nodes.")] = None,
    weights: Annotated[str, typer.Option(metavar="RULE", help="A name of `dsgd list weights`, or a file.")] = "auto",
    knobs: Annotated[list[str] | None, typer.Option("-p", metavar="KEY=VALUE", help="A knob of the graph.")] = None,
    seed: Annotated[int, typer.Option(help="Of a random graph.")] = 0,
    allow_disconnected: Annotated[bool, typer.Option("--allow-disconnected", help="Take such a graph too.")] = False,
    plot: Annotated[Path | None, typer.Option(metavar="FILE.svg", help="Draw the graph into a file.")] = None,
    plugin: Plugin = None,
    as_json: Json = False,
) -> None:
    """Show what is known of a graph.

    Its mixing matrix, spectral gap, mixing time, effective neighbours and stationary consensus distance.
    """
    from dsgd.cli.topology_facts import draw, facts, named_topology

    shown = named_topology(name, n, weights, knobs or [], seed, allow_disconnected)
    found = facts(shown)
    if plot is not None:
        draw(shown, plot)
    printed.show(found, printed.pairs(found), as_json)


@app.command("list")
def list_table(
    table: Annotated[
        str | None,
        typer.Argument(
            metavar="[TABLE]", help="graphs, models, ...; without one, all are named.", autocompletion=completing.tables
        ),
    ] = None,
    plugin: Plugin = None,
    as_json: Json = False,
) -> None:
    """List what a configuration can name."""
    from dsgd.cli.catalogue import TABLES, entries
    from dsgd.config import ConfigError
    from dsgd.config.problems import choice

    if table is None:
        names = {name: list(rows) for name, rows in TABLES.items()}
        printed.show(names, printed.pairs(names), as_json)
    else:
        elsewhere = {"runs": "dsgd runs lists the runs of a folder", "studies": "dsgd studies lists the studies"}
        if table in elsewhere:
            raise ConfigError(f"TABLE: {table} are not what a configuration names; {elsewhere[table]}")
        found = entries(choice(TABLES, table, "TABLE"))
        printed.show([asdict(entry) for entry in found], printed.of_table(found), as_json)


@app.command()
def bench(
    full: Annotated[bool, typer.Option("--full", help="All workloads instead of the main ones.")] = False,
    compare: Annotated[bool, typer.Option("--compare", help="Beside other simulators that are installed.")] = False,
    device: Annotated[str, typer.Option("--device", metavar="cpu|cuda", help="Where to compute.")] = "cpu",
    seconds: Annotated[float, typer.Option(help="How long each workload is timed.")] = 10.0,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Write speed.json, .md and .svg there.")] = None,
    as_json: Json = False,
) -> None:
    """Time a step beside what others do.

    The same workload in turns: ours, loops over modules, one centralised step, and the floor under them; on one thread
    and on two.
    """
    from dsgd.cli.benching import benchmarked

    found, table = benchmarked(full=full, compare=compare, device=device, seconds=seconds, out=out)
    printed.show(found, table.rstrip(), as_json)


@app.command()
def doctor(as_json: Json = False) -> None:
    """Say what this machine offers."""
    from dsgd.cli.machine import checkup

    found = checkup()
    printed.show(found, printed.pairs(found), as_json)


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="The folder of a run, or of a study.")],
    out: Annotated[Path | None, typer.Option(metavar="FILE.html", help="The page; by default in the folder.")] = None,
    csv: Annotated[Path | None, typer.Option(metavar="DIR", help="Also each table as a CSV file in there.")] = None,
    svg: Annotated[Path | None, typer.Option(metavar="DIR", help="Also each figure as an SVG file in there.")] = None,
    pdf: Annotated[Path | None, typer.Option(metavar="FILE.pdf", help="Also print the page, by Chromium.")] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Write it again and again while the run goes on.")] = False,
    plugin: Plugin = None,
    as_json: Json = False,
) -> None:
    """Write a page about a run.

    Headline numbers, curves, the network, the configuration: one file that needs no other. Of a study says where its
    page is.
    """
    from dsgd.cli.reporting import Outputs, reported

    written = reported(folder, Outputs(out, csv, svg, pdf), watch)
    printed.show(written, printed.pairs(written), as_json)


@app.command()
def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN_DIR RUN_DIR ...", help="Folders of runs, or of a sweep.")],
    out: Annotated[Path | None, typer.Option(metavar="FILE.html", help="A page with curves overlaid.")] = None,
    csv: Annotated[Path | None, typer.Option(metavar="DIR", help="Each table as a CSV file in there.")] = None,
    svg: Annotated[Path | None, typer.Option(metavar="DIR", help="Each figure as an SVG file in there.")] = None,
    as_json: Json = False,
) -> None:
    """Say what differs between runs.

    In their configurations and in what they measured last; with --out as a page, their curves overlaid: of three seeds
    or more the mean and its 95 % interval.
    """
    from dsgd.cli.comparing import compared

    found, table = compared(runs, out, csv, svg)
    printed.show(found, table, as_json)


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status of a command; whatever went wrong is said in a line each on stderr, never as a traceback."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that spin while they wait stall a shared machine
    try:
        status = app(args=arguments, prog_name="dsgd", standalone_mode=False)
        return status if isinstance(status, int) else 0
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (Exception, KeyboardInterrupt, SystemExit) as error:
        if isinstance(error, SystemExit) and not place_of(error):
            raise  # completion for a shell ends so; a user's own part must not
        if os.environ.get("DSGD_DEBUG") and isinstance(error, Exception):
            raise
        status, lines = _told(error)
        printed.say(*lines)
        return status


def script() -> None:
    """The command `dsgd`: ends the process with the status of `main`.

    At once where a signal ended it: Python would end by the signal itself if it came through a library's exec().
    """
    status = main()
    if status in (INTERRUPTED, TERMINATED):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


def _told(error: BaseException) -> tuple[int, Sequence[str]]:
    """The exit status for an error, and how it is said."""
    if isinstance(error, KeyboardInterrupt | typer.Abort):
        return INTERRUPTED, ["interrupted"]
    if problems := getattr(error, "problems", None):
        return 2, problems
    # typer carries its own copy of click or not, by its version: its usage errors are known by their shape.
    if hasattr(error, "format_message"):
        return 2, [f"dsgd: {error.format_message()} (see dsgd --help)"]
    said = cut(one_line(" ".join(str(error).split()))) or "no message"
    if ran_out(error):
        return 1, [f"failed: likely out of memory ({said}); take a smaller topology.n, model or batch_size"]
    if isinstance(error, FloatingPointError) or type(error).__name__ in ("StudyError", "BackendError", "NotKept"):
        return 1, [f"failed: {said}"]
    where = f"{place}; " if (place := place_of(error)) else ""
    return 1, [f"{type(error).__name__}: {said} ({where}DSGD_DEBUG=1 shows the traceback)"]


def _where(device: str | None, insecure_cluster: bool) -> list[str]:
    """The options that say where to compute, as overrides."""
    chosen = {f"backend.device={device}": device, "backend.insecure_cluster=true": insecure_cluster}
    return [override for override, given in chosen.items() if given]


def _config_and_overrides(arguments: Sequence[str]) -> tuple[Path | None, Sequence[str]]:
    """The file that comes first, unless the first argument is an override."""
    first, *rest = arguments
    return (None, arguments) if re.match(r"[\w.]+=", first) else (Path(first), rest)

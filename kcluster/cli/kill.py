"""`kcluster kill-broker`: kill, and tell what follows; again and again, under a checked load."""

from __future__ import annotations

import contextlib
import random
import signal
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kcluster.cli import output
from kcluster.cli.brokers import Coordinator, Ids, Timeout, named
from kcluster.cli.options import (
    DEFAULT_CLUSTER,
    ClusterName,
    Format,
    OutputFormat,
    Quiet,
    broker_ids,
    milliseconds,
    partition_meant,
)
from kcluster.client.control import EXIT_TIMED_OUT, BusClient, ControlClient
from kcluster.client.find import connect
from kcluster.errors import UsageError
from kcluster.model import COORDINATOR

if TYPE_CHECKING:
    from kcluster.chaos.kills import KillPlan
    from kcluster.chaos.load import Load
    from kcluster.chaos.report import Report
    from kcluster.client.timeline import Step, Timeline

app = typer.Typer()

SIGNALS = ("KILL", "TERM", "INT")
WAITS = ("none", "detected", "elected", "recovered")

RESTART_MS = 1_000
"""With --wait recovered, when nothing else is said."""

LOADED_S = 10.0
"""How long the first acknowledgement of a load may take."""

EXIT_VIOLATED = 11
EXIT_INTERRUPTED = 130


@app.command(name="kill-broker")
def kill_broker(
    ids: Ids = None,
    cluster: ClusterName = DEFAULT_CLUSTER,
    random_one: Annotated[bool, typer.Option("--random", help="Any that runs.")] = False,
    leader_of: Annotated[
        str | None, typer.Option(metavar="TOPIC-PARTITION", help="Whoever leads it.")
    ] = None,
    coordinator: Coordinator = False,
    signal_name: Annotated[
        str, typer.Option("--signal", metavar="KILL|TERM|INT", help="TERM and INT end cleanly.")
    ] = "KILL",
    restart_after: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Start it again, so long after its death; 1s with --wait recovered.",
        ),
    ] = None,
    wait: Annotated[
        str,
        typer.Option(
            metavar="none|detected|elected|recovered",
            help="Follow it so far, and tell when each step came.",
        ),
    ] = "none",
    timeout: Timeout = "30s",
    times: Annotated[int, typer.Option(min=1, metavar="N", help="How many kills.")] = 1,
    interval: Annotated[
        str, typer.Option(metavar="TIME", help="From one kill to the next, at least.")
    ] = "5s",
    check: Annotated[
        bool, typer.Option("--check", help="Under a load on topic load that says what was lost.")
    ] = False,
    seed: Annotated[
        int | None, typer.Option(metavar="SEED", help="For --random: the same choices again.")
    ] = None,
    output_format: OutputFormat = Format.TABLE,
    quiet: Quiet = False,
) -> int:
    """Kill brokers, or the coordinator. They stay dead until they are started.

    Ends with 124 when what --wait names does not come in time, with 11 when --check finds that
    something acknowledged is missing.

    kcluster kill-broker --leader-of orders-0 --wait recovered

    kcluster kill-broker --random --times 10 --wait recovered --check"""
    from kcluster.chaos.kills import KillPlan

    if quiet or output_format is Format.JSON:
        output.be_quiet()
    number = signal_name.upper().removeprefix("SIG")
    if number not in SIGNALS:
        raise UsageError(f"--signal {signal_name}: unknown", "it is KILL, TERM or INT",
                         "kcluster kill-broker --signal TERM", 2)  # fmt: skip
    if wait not in WAITS:
        raise UsageError(f"--wait {wait}: unknown", f"it is {', '.join(WAITS)}",
                         "kcluster kill-broker --wait elected", 2)  # fmt: skip
    restart_after_ms = RESTART_MS if wait == "recovered" else None
    plan = KillPlan(
        signal.Signals[f"SIG{number}"],
        restart_after_ms if restart_after is None else milliseconds(restart_after),
        wait,
        milliseconds(timeout),
        times,
        milliseconds(interval),
    )
    fixed = broker_ids(ids) + ([COORDINATOR] if coordinator else [])
    if not fixed and not random_one and leader_of is None:
        raise UsageError(
            "kill-broker: which broker?", "no id was given", "kcluster kill-broker 2", 2
        )
    if random_one and seed is None:
        seed = random.randrange(1 << 32)
    chance = random.Random(seed)

    with connect(cluster) as control, connect(cluster) as follower, BusClient() as servers:

        def choose() -> list[int]:
            chosen = list(fixed)
            if random_one:
                chosen.append(_random_one(control, cluster, chance))
            if leader_of is not None:
                chosen.append(_leader_of(control, servers, leader_of))
            return list(dict.fromkeys(chosen))

        story = _Story(plan, number, seed if random_one else None, output_format, check=check)
        return story.run(cluster, control, follower, servers, choose)


class _Story:
    """What is done and told, from the first kill to the report."""

    def __init__(
        self,
        plan: KillPlan,
        signal_name: str,
        seed: int | None,
        output_format: Format,
        *,
        check: bool,
    ) -> None:
        self._plan = plan
        self._signal = signal_name
        self._seed = seed
        self._is_json = output_format is Format.JSON
        self._checks = check
        self._is_long = check or plan.times > 1
        """A line for each kill, and a summary; otherwise the timeline of the one."""
        self._kills: list[Timeline] = []
        self._is_interrupted = False

    def run(
        self,
        cluster: str,
        control: ControlClient,
        follower: ControlClient,
        servers: BusClient,
        choose: Callable[[], list[int]],
    ) -> int:
        from kcluster.chaos import kills
        from kcluster.client.failover import Failover

        if self._is_long and self._seed is not None:
            output.note(f"--seed {self._seed} makes the same choices again")
        problem: UsageError | None = None
        report = None
        with _until_interrupted(self._is_long or self._plan.until != "none") as is_over:
            failover = Failover(control, follower, servers, is_over)
            load = _begin_load(cluster, failover, is_over) if self._checks else None
            try:
                for timeline in kills.run(self._plan, failover, choose, is_over):
                    self._kills.append(timeline)
                    if self._is_long:
                        self._tell(timeline)
            except UsageError as refused:
                problem = refused
            self._is_interrupted = is_over()
            if load is not None:
                report = _end_load(load)
        if self._kills or report is not None:
            self._print(report)
        if report is not None and report.exit_code == EXIT_VIOLATED:
            return EXIT_VIOLATED
        if problem is not None:
            raise problem
        if self._is_interrupted or not self._kills:
            return EXIT_INTERRUPTED
        last = self._kills[-1]
        if not kills.is_finished(last, self._plan.until):
            raise UsageError(
                f"not {self._plan.until} after {output.duration(self._plan.timeout_ms)}",
                f"it got as far as {last.reached()}",
                f"kcluster status -c {cluster}",
                EXIT_TIMED_OUT,
            )
        return report.exit_code if report is not None else 0

    def _tell(self, timeline: Timeline) -> None:
        line = _line(len(self._kills), self._plan, timeline)
        output.data(line) if not self._is_json else output.note(line)

    def _print(self, report: Report | None) -> None:
        from kcluster.chaos.kills import spreads

        if self._is_json:
            output.json(self._as_json(report))
            return
        if not self._is_long:
            for timeline in self._kills:
                for step in timeline.steps():
                    output.data(line_of(step))
            return
        seed = "" if self._seed is None else f", --seed {self._seed}"
        of = f" of {self._plan.times}" if len(self._kills) < self._plan.times else ""
        output.data(f"{len(self._kills)}{of} kills{seed}")
        for name, spread in spreads(self._kills).items():
            output.data(
                f"  {name.replace('_', ' '):<12}"
                f" p50 {spread.p50_ms:>8,.1f} ms   worst {spread.worst_ms:>8,.1f} ms"
            )
        if report is not None:
            from kcluster.cli.load import print_report

            print_report(report)

    def _as_json(self, report: Report | None) -> dict[str, Any]:
        from kcluster.chaos.kills import STEPS, moment_ms, spreads

        made: dict[str, Any] = {"schema": 1, "signal": self._signal, "seed": self._seed}
        if not self._is_long:
            [timeline] = self._kills
            return {**made, "reached": timeline.stage, "timeline": timeline.steps()}
        return {
            **made,
            "kills": [
                {
                    "ids": list(timeline.victims),
                    **{f"{step}_ms": moment_ms(timeline, step) for step in STEPS},
                    "timeline": timeline.steps(),
                }
                for timeline in self._kills
            ],
            "summary": spreads(self._kills),
            "is_interrupted": self._is_interrupted,
            "check": report,
        }


@contextlib.contextmanager
def _until_interrupted(has_story: bool) -> Iterator[Callable[[], bool]]:
    """Whether Ctrl-C was pressed: what was seen until then is told first, if there is any."""
    if not has_story:
        yield lambda: False
        return
    from kcluster.cli.load import interrupts

    with interrupts() as interrupted:
        yield interrupted.is_set


def _begin_load(cluster: str, failover: Any, is_over: Callable[[], bool]) -> Load:
    from kcluster.chaos.load import Load, LoadPlan
    from kcluster.chaos.reach import Reach

    load = Load(LoadPlan(duration_s=None), Reach(cluster, None))
    load.prepare()
    load.start()
    deadline = time.monotonic() + LOADED_S
    while not load.tick().acknowledged and time.monotonic() < deadline and not is_over():
        failover.idle(time.monotonic() + 0.02)
    return load


def _end_load(load: Load) -> Report:
    load.stop()
    output.note("no more is sent; waiting for answers and for full ISRs")
    load.finish()
    output.note("reading every replica")
    return load.judge()


# --- words ----------------------------------------------------------------------------------


def _line(number: int, plan: KillPlan, timeline: Timeline) -> str:
    from kcluster.chaos.kills import STEPS, is_finished, moment_ms

    width = len(str(plan.times))
    parts = [f"kill {number:>{width}} of {plan.times}  {named(list(timeline.victims))}"]
    for step in STEPS:
        ms = moment_ms(timeline, step)
        if ms is not None:
            parts.append(f"{step.replace('_', ' ')} {ms:,.1f} ms")
    if not is_finished(timeline, plan.until):
        parts.append(f"as far as {timeline.reached()}")
    return "  ".join(parts)


def line_of(step: Step) -> str:
    late = "   (not told: found so when looking)" if step.is_late else ""
    return f"{step.ms:>9,.1f} ms  {named([step.id]):<16} {_words(step)}{late}"


def _words(step: Step) -> str:
    count = _partitions(step.partitions)
    after = ""
    if step.first_ms is not None and step.first_ms != step.ms:
        after = f", the first after {step.first_ms:,.1f} ms, the last {step.partition}"
    match step.event:
        case "detected":
            return "detected: fenced"
        case "elected" if not step.partitions:
            return "elected: it led nothing"
        case "elected":
            return f"elected: leaders for the {count} that it led{after}"
        case "first_write":
            return f"first write after the election: {step.partition}"
        case "registered":
            return "registered again"
        case "in_sync":
            return f"back in the ISR of {count}{after}"
    return step.event


def _partitions(count: int | None) -> str:
    return "one partition" if count == 1 else f"{count} partitions"


# --- whom -----------------------------------------------------------------------------------


def _random_one(control: ControlClient, cluster: str, chance: random.Random) -> int:
    running = [
        info.state.id
        for info in control.describe().processes
        if info.state.id > 0 and info.state.state in ("running", "paused")
    ]
    if not running:
        raise UsageError(
            f"no broker of cluster {cluster} is running", "", "kcluster start-broker --all"
        )
    return chance.choice(sorted(running))


def _leader_of(control: ControlClient, servers: BusClient, text: str) -> int:
    """UsageError (exit 4) when there is no such partition."""
    from kcluster.client.snapshot import read_image
    from kcluster.core.metadata.image import leader_of

    tp = partition_meant(text, "kcluster kill-broker --leader-of orders-0")
    states = control.states()
    image = read_image(servers, states)
    if image is None:
        raise UsageError("nobody could say who leads what",
                         "neither the coordinator nor a broker answers",
                         "kcluster status", 10)  # fmt: skip
    if image.partition(tp) is None:
        raise UsageError(
            f"there is no partition {tp}",
            f"topics: {', '.join(sorted(image.topics)) or 'none'}",
            "kcluster topic ls",
            4,
        )
    leader = leader_of(image, tp)
    if leader <= 0:
        raise UsageError(f"{tp} has no leader", "none of its replicas that may lead runs",
                         "kcluster status", 10)  # fmt: skip
    return leader

"""Golden stories: a few commands, and below each one line for every state change it caused.

    brokers 3                             set <knob> <value>            start [<id>]
    create <topic> <partitions> <replicas> [on 1,2,3] [<config>=<value> ...]
    delete <topic>                        reassign <tp> <id>,<id>,..|cancel
    produce <tp> <value> ... [acks=all|1|0] [plain]      waits for the outcomes
    send <tp> <value> ... [acks=..] [plain]              does not; `await` does
    fetch <tp> [from=<offset>] [max=<bytes>]             what a consumer gets in 1 s
    metadata <tp> at <id>                                the leader that this broker tells at once
    read <tp> at <id> [epoch=<n>] [from=<offset>]        one Fetch, by who knows that leader epoch
    ends <tp> at <id> epoch <n>                          where that leader epoch ends
    freeze                                               as `down` does first
    kill <id>  pause <id>  resume <id>  power <id>  stop <id>  wait-for <id>
    cut <a> -> <b>  isolate <id>  heal                   drop <Message> <a> -> <b>  undrop
    fail <id> <tp> EIO|ENOSPC [after <bytes>]            the next append to that log
    run <n>ms
    until <claim>   expect <claim>        leader|isr|epoch|elr|replicas <tp> = ..
                                          end|hw <tp> on <id> = ..
    state <tp>                            the replicas, as they are
    join, sync, beat, leave, commit, offset                 see `group_story`

A script is a text file; what is indented by four spaces is output, everything else is the
story. Running it gives the text again with the output as it is now: a test compares the two,
and a person reads the difference. Times are not shown, so that only what happens counts; the
network is calm and alike for every message.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

from kcluster.check.history import History
from kcluster.core.metadata.topic_names import INTERNAL_TOPICS
from kcluster.core.traces import GroupsLoaded
from kcluster.errors import ErrorCode
from kcluster.model import COORDINATOR, TopicPartition
from kcluster.sim.admin import create_topic, delete_topic, reassign
from kcluster.sim.clients import Call, Life, Producer, SimClient, metadata_request
from kcluster.sim.cluster import Make, NotReached, SimCluster
from kcluster.sim.consumer import Consumer
from kcluster.sim.group_story import GroupStory, named
from kcluster.sim.network import Loss, Weather
from kcluster.sim.process import Process
from kcluster.sim.watch import Watch, batches_of, replica_seen
from kcluster.wire import bus
from kcluster.wire.messages import fetch as f
from kcluster.wire.messages import offset_for_leader_epoch as fe
from kcluster.wire.records import batches, read_records

INDENT = "    "
BOUND_MS = 30_000
"""For everything that is waited for."""


class ScriptError(AssertionError):
    def __init__(self, line: str, problem: str) -> None:
        super().__init__(f"{line!r}: {problem}")


def partition_of(text: str) -> TopicPartition:
    topic, _, index = text.rpartition("-")
    return TopicPartition(topic, int(index))


class Script:
    """One run of one story."""

    def __init__(self, make_broker: Make, make_controller: Make) -> None:
        self.make_broker = make_broker
        self.make_controller = make_controller
        self.brokers = 3
        self.settings: dict[str, str] = {}
        self.out: list[str] = []
        self.history = History()
        self._cluster: SimCluster | None = None
        self._client: SimClient | None = None
        self._sending: list[tuple[SimClient, int]] = []
        self._names = 0
        self._groups = GroupStory(self._named_client, self.tell, self._finish)

    @property
    def cluster(self) -> SimCluster:
        assert self._cluster is not None, "the story has no start yet"
        return self._cluster

    def run(self, text: str) -> str:
        """The story with the output that it has now. Raises what a failed claim or a broken
        invariant raises."""
        for line in text.splitlines():
            if line.startswith(INDENT):
                continue
            self.out.append(line)
            words = line.split("#")[0].split()
            if words:
                try:
                    self._command(line, words)
                except NotReached as error:
                    raise ScriptError(line, f"{error}\n" + "\n".join(self.out[-40:])) from error
        return "\n".join(self.out) + "\n"

    def tell(self, line: str) -> None:
        self.out.append(INDENT + line)

    def _command(self, line: str, words: list[str]) -> None:
        name = "do_" + words[0].replace("-", "_")
        command = getattr(self, name, None) or getattr(self._groups, name, None)
        if command is None:
            raise ScriptError(line, "no such command")
        command(words[1:])

    # --- the cluster ----------------------------------------------------------------------

    def do_brokers(self, words: list[str]) -> None:
        self.brokers = int(words[0])

    def do_set(self, words: list[str]) -> None:
        self.settings[words[0]] = words[1]

    def do_start(self, words: list[str]) -> None:
        if words:
            self.cluster.start(_id(words[0]))
            return
        self._cluster = SimCluster(
            "script",
            make_broker=self.make_broker,
            make_controller=self.make_controller,
            brokers=self.brokers,
            settings=self.settings,
        )
        self._cluster.network.weather = Weather(delay_us=(200, 200))
        self._cluster.ended_hooks.append(self._ended)
        self._watch = Watch(self._cluster)
        self._client = self._new_client()
        self._cluster.start_all()
        cluster = self._cluster
        cluster.run_until(
            lambda: all((p.id, p.incarnation) in cluster.ready for p in cluster.alive()),
            BOUND_MS,
            "everybody ready",
        )
        # How a cluster comes up is the same in every story, and told in none.
        cluster.listeners.append(self._traced)

    def _new_client(self) -> SimClient:
        self._names += 1
        return self._named_client(f"client-{self._names}")

    def _named_client(self, name: str) -> SimClient:
        client = SimClient(self.cluster, name, self.history)
        self._watch.client(client)
        return client

    def _traced(self, process: Process, trace: Any) -> None:
        if getattr(trace, "topic", None) in INTERNAL_TOPICS or isinstance(trace, GroupsLoaded):
            # A dozen partitions that do what every other partition does.
            return
        self.tell(f"{_name(process.id)}: {named(trace_line(trace))}")

    def _ended(self, process: Process, reason: str) -> None:
        self.tell(f"{_name(process.id)}: ended, {reason}")

    def do_kill(self, words: list[str]) -> None:
        self.cluster.kill(_id(words[0]))

    def do_pause(self, words: list[str]) -> None:
        self.cluster.pause(_id(words[0]))

    def do_resume(self, words: list[str]) -> None:
        self.cluster.resume(_id(words[0]))

    def do_power(self, words: list[str]) -> None:
        self.cluster.lose_power(_id(words[0]))

    def do_stop(self, words: list[str]) -> None:
        self.cluster.stop(_id(words[0]))

    def do_wait_for(self, words: list[str]) -> None:
        process = self.cluster.processes[_id(words[0])]
        self.cluster.run_until(
            lambda: (process.id, process.incarnation) in self.cluster.ready, BOUND_MS, words[0]
        )

    def do_cut(self, words: list[str]) -> None:
        self.cluster.cut(_id(words[0]), _id(words[2]))

    def do_isolate(self, words: list[str]) -> None:
        self.cluster.isolate(_id(words[0]))

    def do_heal(self, words: list[str]) -> None:
        self.cluster.network.cuts.clear()

    def do_drop(self, words: list[str]) -> None:
        assert hasattr(bus, words[0]), f"no message {words[0]}"
        self.cluster.network.losses.append(Loss((words[0],), _id(words[1]), _id(words[3])))

    def do_undrop(self, words: list[str]) -> None:
        self.cluster.network.losses.clear()

    def do_fail(self, words: list[str]) -> None:
        disk = self.cluster.processes[_id(words[0])].disk
        tp = partition_of(words[1])
        segments = [name for name in disk.list(str(tp)) if name.endswith(".log")]
        path = f"{tp}/{segments[-1]}" if segments else f"{tp}/{0:020}.log"
        room = int(words[4]) if len(words) > 4 else 0
        disk.short_next[path] = room, getattr(errno, words[2])

    def do_run(self, words: list[str]) -> None:
        self.cluster.run(int(words[0].removesuffix("ms")))

    # --- clients --------------------------------------------------------------------------

    def _finish(self, client: SimClient, what: str) -> None:
        self.cluster.run_until(lambda: client.running == 0, BOUND_MS, what)

    def do_create(self, words: list[str]) -> None:
        configs = dict(word.split("=", 1) for word in words if "=" in word)
        plain = [word for word in words if "=" not in word]
        assignments = None
        if "on" in plain:
            brokers = [int(id) for id in plain[plain.index("on") + 1].split(",")]
            assignments = [brokers] * int(plain[1])
        client = self._new_client()
        client.live(
            create_topic(
                client,
                plain[0],
                int(plain[1]),
                int(plain[2]),
                configs=configs,
                assignments=assignments,
            )
        )
        self._finish(client, "the topic is created")

    def do_delete(self, words: list[str]) -> None:
        client = self._new_client()
        client.live(delete_topic(client, words[0]))
        self._finish(client, "the topic is deleted")

    def do_reassign(self, words: list[str]) -> None:
        replicas = None if words[1] == "cancel" else [int(id) for id in words[1].split(",")]
        client = self._new_client()

        def life() -> Life:
            error = None
            while error is None:  # the broker that was asked is dead
                error = yield from reassign(client, partition_of(words[0]), replicas)
            if error != ErrorCode.NONE:
                self.tell(error.name)

        client.live(life())
        self._finish(client, "the reassignment is answered")

    def _send(self, words: list[str]) -> tuple[SimClient, int]:
        options = dict(word.split("=", 1) for word in words[1:] if "=" in word)
        acks = {"all": -1, "1": 1, "0": 0}[options.get("acks", "all")]
        values = [word.encode() for word in words[1:] if "=" not in word and word != "plain"]
        client = self._new_client()
        before = len(self.history.sends)
        producer = Producer(
            client,
            partition_of(words[0]),
            acks=acks,
            is_idempotent="plain" not in words and acks == -1,
            in_flight=1,
            records_max=1,
            pause_ms=(0, 0),
            values=values,
        )
        client.live(producer.life())
        return client, before

    def do_produce(self, words: list[str]) -> None:
        self._sending.append(self._send(words))
        self.do_await([])

    def do_send(self, words: list[str]) -> None:
        self._sending.append(self._send(words))

    def do_await(self, words: list[str]) -> None:
        for client, before in self._sending:
            self._finish(client, "all sends have an outcome")
            for sent in self.history.sends[before:]:
                if sent.producer == client.name:
                    where = f" at {sent.offset}" if sent.offset >= 0 else ""
                    error = f" ({sent.error})" if sent.error else ""
                    self.tell(f"{sent.value.decode()}: {sent.outcome}{where}{error}")
            for surprise in client.surprises:
                self.tell(f"SURPRISE {surprise}")
        self._sending.clear()

    def do_fetch(self, words: list[str]) -> None:
        client = self._new_client()
        options = dict(word.split("=", 1) for word in words[1:])
        consumer = Consumer(
            client,
            partition_of(words[0]),
            position=int(options.get("from", "0")),
            max_bytes=int(options.get("max", "1048576")),
        )
        client.live(consumer.life())
        self.cluster.run(1000)
        client.is_stopped = True
        got = [record for poll in self.history.polls for record in poll.records
               if poll.consumer == client.name]  # fmt: skip
        self.tell(" ".join(f"{offset}:{value.decode()}" for offset, value in got) or "nothing")

    def do_read(self, words: list[str]) -> None:
        client = self._new_client()
        options = dict(word.split("=", 1) for word in words[3:])
        tp = partition_of(words[0])

        def life() -> Life:
            while tp.topic not in client.topic_ids:
                yield from client.refresh(tp.topic)
            partition = f.FetchPartition(
                partition=tp.partition,
                current_leader_epoch=int(options.get("epoch", "-1")),
                fetch_offset=int(options.get("from", "0")),
                partition_max_bytes=1 << 20,
            )
            topic = f.FetchTopic(topic_id=client.topic_ids[tp.topic], partitions=[partition])
            request = f.FetchRequest(max_wait_ms=0, min_bytes=1, max_bytes=1 << 20, topics=[topic])
            response = yield Call(int(words[2]), request, 17)
            self.tell(_fetched(response) if response is not None else "no answer")

        client.live(life())
        self._finish(client, "the fetch is answered")

    def do_ends(self, words: list[str]) -> None:
        client = self._new_client()
        tp = partition_of(words[0])
        wanted = fe.OffsetForLeaderPartition(partition=tp.partition, leader_epoch=int(words[4]))
        topic = fe.OffsetForLeaderTopic(topic=tp.topic, partitions=[wanted])

        def life() -> Life:
            request = fe.OffsetForLeaderEpochRequest(topics=[topic])
            response = yield Call(int(words[2]), request, 4)
            told = response.topics[0].partitions[0]
            name = ErrorCode(told.error_code).name
            is_told = told.error_code == ErrorCode.NONE
            self.tell(f"epoch {told.leader_epoch} ends at {told.end_offset}" if is_told else name)

        client.live(life())
        self._finish(client, "the end of the epoch is told")

    def do_metadata(self, words: list[str]) -> None:
        client = self._new_client()
        tp = partition_of(words[0])
        told: list[str] = []

        def life() -> Life:
            asked_ms = self.cluster.now_ms
            response = yield Call(int(words[2]), metadata_request(tp.topic), 12)
            waited = "at once" if self.cluster.now_ms - asked_ms <= 5 else "held a while"
            partitions = response.topics[0].partitions if response is not None else []
            leaders = [p.leader_id for p in partitions if p.partition_index == tp.partition]
            told.append(f"{waited}: leader {leaders[0] if leaders else 'unknown'}")

        client.live(life())
        self._finish(client, "metadata is told")
        self.tell(told[0])

    def do_freeze(self, words: list[str]) -> None:
        self.cluster.freeze()

    # --- claims ---------------------------------------------------------------------------

    def do_until(self, words: list[str]) -> None:
        claim = self._claim(words)
        self.cluster.run_until(lambda: claim() == words[-1], BOUND_MS, " ".join(words), every_ms=1)

    def do_expect(self, words: list[str]) -> None:
        found = self._claim(words)()
        if found != words[-1]:
            story = "\n".join(self.out[-40:])
            raise ScriptError(" ".join(words), f"it is {found}\n{story}")

    def _claim(self, words: list[str]) -> Callable[[], str]:
        what, tp = words[0], partition_of(words[1])

        def state() -> str:
            core: Any = self.cluster.processes[COORDINATOR].core
            found = core.image.partition(tp) if core is not None else None
            if found is None:
                return "unknown"
            value = {
                "leader": found.leader,
                "epoch": found.leader_epoch,
                "isr": ",".join(map(str, sorted(found.isr))),
                "elr": ",".join(map(str, sorted(found.elr))),
                "replicas": ",".join(map(str, found.replicas)),
            }[what]
            return str(value) or "none"

        def replica() -> str:
            core: Any = self.cluster.processes[int(words[3])].core
            found = core.replicas.get(tp) if core is not None else None
            if found is None:
                return "unknown"
            log = found.log
            return str(log.log_end_offset if what == "end" else log.high_watermark)

        return replica if what in ("end", "hw") else state

    def do_state(self, words: list[str]) -> None:
        tp = partition_of(words[0])
        for id in self.cluster.broker_ids:
            process = self.cluster.processes[id]
            core: Any = process.core
            replica = core.replicas.get(tp) if core is not None else None
            if replica is None:
                continue
            seen = replica_seen(process, tp, replica)
            if seen is None:
                self.tell(f"{_name(id)}: offline")
                continue
            role = f"leader, isr {sorted(seen.isr)}" if seen.is_leader else "follower"
            epochs = [
                f"{batch.base_offset}@{batch.leader_epoch}"
                for batch in batches_of(replica.log, seen.log_start_offset, seen.log_end_offset)
            ]
            self.tell(
                f"{_name(id)}: epoch {seen.leader_epoch} {role}, hw {seen.high_watermark}, "
                f"log {' '.join(epochs) or 'empty'}"
            )


def _fetched(response: Any) -> str:
    """Records, or the error and whom it names as leader (KIP-951)."""
    told = response.responses[0].partitions[0]
    if told.error_code == ErrorCode.NONE:
        data = memoryview(bytes(told.records or b""))
        got = [r for at, header in batches(data) for r in read_records(data[at : at + header.size])]
        return " ".join(f"{r.offset}:{bytes(r.value or b'').decode()}" for r in got) or "nothing"
    error = ErrorCode(told.error_code).name
    leader = told.current_leader
    if leader is None or leader.leader_id < 0:
        return error
    where = {node.node_id: f"{node.host}:{node.port}" for node in response.node_endpoints}
    place = f"broker {leader.leader_id} leads in epoch {leader.leader_epoch}"
    return f"{error}: {place}, at {where.get(leader.leader_id)}"


def trace_line(trace: Any) -> str:
    """`BecameLeader orders-0 leader_epoch=1 log_end_offset=5`."""
    fields = {name: getattr(trace, name) for name in trace.__struct_fields__}
    topic = fields.pop("topic", None)
    partition = fields.pop("partition", None)
    words = [type(trace).__name__]
    if topic is not None:
        words.append(f"{topic}-{partition}" if partition is not None else topic)
    words += [f"{name}={value}" for name, value in fields.items()]
    return " ".join(words)


def _name(id: int) -> str:
    return "coordinator" if id == COORDINATOR else f"broker {id}"


def _id(word: str) -> int:
    return COORDINATOR if word == "coordinator" else int(word)

"""The partitions on this broker's disk, and what becomes of their directories.

    <topic>-<partition>                     a replica, with its topic's id in partition.metadata
    <topic>-<partition>.<hex>-delete        its topic was deleted, or it has moved: on its way out
    <topic>-<partition>.<hex>-stray         metadata does not know it: set aside, never deleted

A log that is found damaged keeps its sound part, is repaired from its leader, and until the
controller knows of it carries a mark (see `core/log/damage.py`).

A directory only ever becomes `-delete` by a record that this broker replayed: TopicDeleted, or a
PartitionChanged that leaves it out. What is merely missing from a whole image is set aside
(invariant 17): damaged or lost metadata must not cost data (KAFKA-10533). But where the image has
the partition, elsewhere, in a leader epoch above all that this log has seen, it is newer than the
log, and the replica has moved while this broker was away (KIP-455).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import count
from random import Random
from typing import Final

from kcluster.config import LogConfig
from kcluster.core import traces
from kcluster.core.broker.checkpoints import Checkpoints
from kcluster.core.log import damage
from kcluster.core.log.partition_log import PartitionLog, Restart
from kcluster.core.log.partition_metadata import FILE_NAME, format_metadata, parse_metadata
from kcluster.core.metadata.image import ClusterImage
from kcluster.core.metadata.records import PartitionChanged
from kcluster.core.replication.replica import Replica
from kcluster.core.turn import Delete, Files, Rename, Replace, Turn
from kcluster.errors import CorruptLogError
from kcluster.model import TopicPartition
from kcluster.wire.bus import LogEnd
from kcluster.wire.telling import ReplicaState

_DIRECTORY: Final = re.compile(r"(?P<topic>.+)-(?P<partition>\d+)")
_METADATA_LOG: Final = "__cluster_metadata"
_NAME_BYTES: Final = 255
"""Longest name that common file systems take."""

NOTICES: Final = 1000
"""Kept of one start; the log file has them all."""


class Replicas:
    """By topic and partition, and by directory."""

    def __init__(
        self,
        me: int,
        files: Files,
        random: Random,
        config_of: Callable[[str], LogConfig],
        checkpoints: Checkpoints,
    ) -> None:
        self._me = me
        self._files = files
        self._random = random
        self._config_of = config_of
        self._checkpoints = checkpoints
        self.by_partition: dict[TopicPartition, Replica] = {}
        self._by_directory: dict[str, Replica] = {}
        self.damaged: set[TopicPartition] = set()
        """Logs of this start that lack what they had promised (invariant 11)."""
        self.notices: list[str] = []
        """What was found broken since the start, and what became of it."""
        self._sync_tokens = count(1)
        """Of all logs: a deleted one's sync ends when a namesake has the same path."""
        self._moved: set[str] = set()
        """Directories renamed away in this turn: on disk they still have their old content."""

    def __iter__(self) -> Iterator[Replica]:
        return iter(self.by_partition.values())

    def of_path(self, path: str) -> Replica | None:
        """Whose file or directory it is."""
        return self._by_directory.get(path.split("/", 1)[0])

    # --- start ----------------------------------------------------------------------------

    def recover(self, turn: Turn, restart: Restart) -> None:
        """Open every log on disk, so that registration can tell where each ends."""
        for problem in self._checkpoints.problems:
            self.note(turn, problem)
        for name in self._files.list(""):
            if name.endswith("-delete"):
                turn.disk.append(Delete(name))
                continue
            match = _DIRECTORY.fullmatch(name)
            if match is None or name.endswith("-stray") or match["topic"] == _METADATA_LOG:
                continue
            tp = TopicPartition(match["topic"], int(match["partition"]))
            topic_id = self._read_topic_id(name)
            if topic_id is None:
                self._set_aside(turn, name, "its topic id cannot be read")
                continue
            self._recover_one(turn, restart, name, tp, topic_id)

    def _recover_one(
        self, turn: Turn, restart: Restart, directory: str, tp: TopicPartition, topic_id: bytes
    ) -> None:
        log = self._log(tp, directory)
        offline = ""
        cause = damage.cause_of(self._files, directory)
        if cause is None:
            try:
                self._checkpoints.restore(turn, log, restart)
            except CorruptLogError as error:
                cause = str(error)
                damage.mark(turn, directory, cause)
        if cause is not None:
            # Found before it is served or replicated, and repaired from a peer: the sound part
            # is kept, and this replica is trusted no more than one that lost power (C3).
            self.note(turn, f"{tp} is damaged and keeps its sound part only: {cause}")
            self.damaged.add(tp)
            log = self._log(tp, directory)
            try:
                self._checkpoints.restore(turn, log, restart, repair=True)
            except CorruptLogError as worse:
                offline = f"recovery failed: {worse}"
                turn.trace(traces.LogOffline(tp.topic, tp.partition, offline))
        for repair in log.repairs:
            self.note(turn, repair)
        replica = Replica(tp, topic_id, log)
        replica.offline = offline
        self._add(replica, directory)

    def note(self, turn: Turn, text: str) -> None:
        """Say it in the log, and to whoever asks for the status."""
        turn.trace(traces.Warned(text))
        if len(self.notices) < NOTICES:
            self.notices.append(text)

    def mend_indexes(self, turn: Turn) -> None:
        """Put right on disk the indexes that were found to contradict their logs."""
        for replica in self:
            stale = [segment for segment in replica.log.chain if segment.is_index_stale]
            for segment in stale:
                self.note(turn, f"{segment.index_path} was made anew: it contradicts the log")
            if stale:
                replica.log.checkpoint(turn)

    def damage_is_known(self, turn: Turn) -> None:
        """The controller trusts the damaged logs no more: their marks may go."""
        for tp in self.damaged:
            replica = self.by_partition.get(tp)
            if replica is not None and not replica.offline:
                damage.unmark(turn, replica.log.directory)
        self.damaged.clear()

    def _log(self, tp: TopicPartition, directory: str) -> PartitionLog:
        return PartitionLog(
            tp,
            directory,
            self._files,
            self._config_of(tp.topic),
            lower_recovery_point=self._checkpoints.lower_recovery_point,
            note_log_start=self._checkpoints.note_log_start,
            sync_tokens=self._sync_tokens,
        )

    def _read_topic_id(self, directory: str) -> bytes | None:
        try:
            return parse_metadata(self._files.read(f"{directory}/{FILE_NAME}", 0, 4096))
        except CorruptLogError:
            return None

    def log_ends(self) -> list[LogEnd]:
        """Of every log that can be trusted, for `Register`."""
        return [
            LogEnd(
                replica.topic_id,
                replica.tp.partition,
                replica.log.last_epoch,
                replica.log.log_end_offset,
                replica.tp in self.damaged,
                replica.tp.topic,
            )
            for replica in self
            if not replica.offline
        ]

    def set_aside_strays(self, turn: Turn, image: ClusterImage) -> list[Replica]:
        """Put away what a whole image does not place here, and delete what it proves to have moved;
        those that were here."""
        strays = []
        for replica in list(self):
            topic = image.topic_by_id(replica.topic_id)
            state = topic.partitions.get(replica.tp.partition) if topic is not None else None
            is_namesake = topic is not None and topic.name == replica.tp.topic
            if state is None or not is_namesake or self._me not in state.replicas:
                strays.append(replica)
                if state is not None and is_namesake and _is_older(replica, state):
                    turn.trace(traces.ReplicaMovedAway(*replica.tp, replica.log.log_end_offset))
                    self.delete(turn, replica)
                    continue
                self._remove(replica)
                self._set_aside(turn, replica.log.directory, "metadata does not place it here")
        return strays

    def _set_aside(self, turn: Turn, directory: str, cause: str) -> None:
        self._move(turn, directory, "stray")
        self.note(turn, f"{directory} is set aside as stray: {cause}")

    # --- coming and going -----------------------------------------------------------------

    def can_create(self, turn: Turn, tp: TopicPartition) -> bool:
        """False while a directory of the same name is being moved away in this turn. One that
        metadata knows nothing of is: a new topic must not begin with old records."""
        directory = str(tp)
        if directory not in self._moved and self._files.list(directory):
            self._set_aside(turn, directory, "it stands where a new replica belongs")
        return directory not in self._moved

    def create(self, turn: Turn, tp: TopicPartition, topic_id: bytes) -> Replica:
        """A new, empty replica. `can_create` has been asked."""
        directory = str(tp)
        log = self._log(tp, directory)
        self._checkpoints.forget(turn, tp)
        replica = Replica(tp, topic_id, log)
        log.open(turn, Restart.CLEAN)
        turn.disk.append(
            Replace(f"{directory}/{FILE_NAME}", format_metadata(topic_id), durable=True)
        )
        self._add(replica, directory)
        return replica

    def delete(self, turn: Turn, replica: Replica) -> None:
        """It is not to be here: the name is free at once, the bytes go in the same turn."""
        self._remove(replica)
        moved = self._move(turn, replica.log.directory, "delete")
        turn.disk.append(Delete(moved))

    def settled(self) -> None:
        """The disk has carried out all that was asked for."""
        self._moved.clear()
        self._checkpoints.settled()

    def _add(self, replica: Replica, directory: str) -> None:
        self.by_partition[replica.tp] = replica
        self._by_directory[directory] = replica

    def _remove(self, replica: Replica) -> None:
        del self.by_partition[replica.tp]
        del self._by_directory[replica.log.directory]

    def _move(self, turn: Turn, directory: str, suffix: str) -> str:
        ending = f".{self._random.getrandbits(128):032x}-{suffix}"
        target = directory[: _NAME_BYTES - len(ending)] + ending
        turn.disk.append(Rename(directory, target))
        self._moved.add(directory)
        return target

    # --- status ---------------------------------------------------------------------------

    def describe(self, replica: Replica) -> ReplicaState:
        log = replica.log
        role = "offline" if replica.offline else "leader" if replica.leader else "follower"
        state = replica.state
        return ReplicaState(
            replica.tp.topic,
            replica.tp.partition,
            role,
            replica.leader_epoch,
            log.log_start_offset,
            log.log_end_offset,
            log.high_watermark,
            log.size_bytes,
            list(log.segments()),
            is_in_sync=replica.is_in_sync and not replica.offline,
            problem=replica.offline if replica.offline or state is not None else "unassigned",
        )


def _is_older(replica: Replica, state: PartitionChanged) -> bool:
    """Whether the replica has seen nothing of the leader epoch that metadata has, or nothing."""
    log = replica.log
    return 0 <= log.epochs.latest < state.leader_epoch or not log.size_bytes

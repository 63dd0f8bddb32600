"""Many trials at once, each worker a process: a simulation that hangs or takes its process along
is the failure of its own seed, and of no other.

    with Workers(jobs=2, limit_s=300) as workers:
        for trial, outcome in workers.run(trials): ...      # as they end

A worker that is at a trial for longer than `limit_s` (of the wall clock) is asked where it is,
then killed; one that ends is told with what it left on standard error. Another takes its place.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import IO, Self

import msgspec

from kcluster.errors import KclusterError
from kcluster.sim.trial import DIED, HUNG, MESSAGE_MAX, Failure, Outcome, Trial
from kcluster.sim.worker import READY

SELF_LIMIT = 2
"""A worker is ended after so many times the limit of CPU time, if nobody else ends it."""
START_S = 120.0
LAST_WORDS_S = 2.0
READ_BYTES = 1 << 16


class WorkerFailed(KclusterError):
    """A worker did not start: no trial is to blame."""


class Workers:
    def __init__(self, jobs: int, limit_s: float, *, command: Sequence[str] = ()) -> None:
        """`command`: starts a worker, if not the usual one."""
        self.jobs = jobs
        self.limit_s = limit_s
        self._command = command or (
            sys.executable, "-m", "kcluster.sim.worker", str(SELF_LIMIT * limit_s),
        )  # fmt: skip
        self._workers: list[_Worker] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.kill()
        self._workers.clear()

    def run(self, trials: Iterable[Trial]) -> Iterator[tuple[Trial, Outcome]]:
        """Each trial with its outcome, in the order in which they end; `jobs` at a time. One run
        at a time: what is left of one that was not finished is killed."""
        self._workers = [worker for worker in self._workers if not worker.drop_if_busy()]
        waiting = iter(trials)
        with selectors.DefaultSelector() as selector:
            for worker in self._workers:
                selector.register(worker.fd, selectors.EVENT_READ, worker)
                worker.next(waiting)
            while True:
                busy = [worker for worker in self._workers if worker.trial is not None]
                if len(busy) < self.jobs and (trial := next(waiting, None)) is not None:
                    worker = _Worker(self._command, trial)
                    self._workers.append(worker)
                    selector.register(worker.fd, selectors.EVENT_READ, worker)
                    continue
                if not busy:
                    return
                until_s = min(worker.since_s + self._limit_s(worker) for worker in busy)
                for key, _ in selector.select(max(0.0, until_s - time.monotonic())):
                    worker = key.data
                    trial, outcome = worker.trial, worker.read()
                    if worker.is_over:
                        selector.unregister(worker.fd)
                        self._workers.remove(worker)
                        outcome = worker.last_words()
                    elif outcome is not None:
                        worker.next(waiting)
                    if trial is not None and outcome is not None:
                        yield trial, outcome
                for worker in busy:
                    if worker.trial is None or worker not in self._workers:
                        continue
                    if time.monotonic() - worker.since_s >= self._limit_s(worker):
                        selector.unregister(worker.fd)
                        self._workers.remove(worker)
                        yield worker.trial, worker.interrupted(self.limit_s)

    def _limit_s(self, worker: _Worker) -> float:
        return self.limit_s if worker.is_ready else START_S


class _Worker:
    """One process; at most one trial at a time."""

    def __init__(self, command: Sequence[str], trial: Trial) -> None:
        self.trial: Trial | None = trial
        """What it is at, or will be when it is ready."""
        self.is_ready = False
        self.is_over = False
        self.since_s = time.monotonic()
        """Start of the process, or of its trial."""
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        # A session of its own: Ctrl-C reaches who started it, who ends it.
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors,
            start_new_session=True, bufsize=0,
        )  # fmt: skip
        assert self._process.stdout is not None
        self.fd = self._process.stdout.fileno()
        self._read = bytearray()

    def next(self, waiting: Iterator[Trial]) -> None:
        self.trial = next(waiting, None)
        if self.trial is not None:
            self._send(self.trial)

    def _send(self, trial: Trial) -> None:
        self.since_s = time.monotonic()
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # its end is read where its answers are
            self._process.stdin.write(msgspec.json.encode(trial) + b"\n")

    def read(self) -> Outcome | None:
        """What has come: the outcome of its trial when that is whole."""
        data = os.read(self.fd, READ_BYTES)
        self.is_over = not data
        self._read += data
        if not self._read.endswith(b"\n"):
            return None
        line = bytes(self._read)
        self._read.clear()
        if not self.is_ready:
            if line != READY:
                raise WorkerFailed(f"a worker said {line[:200]!r} where it says that it is ready")
            self.is_ready = True
            if self.trial is not None:
                self._send(self.trial)
            return None
        return msgspec.json.decode(line, type=Outcome)

    def last_words(self) -> Outcome | None:
        """It has ended by itself; None when it had nothing to do."""
        trial = self.trial
        code = self._process.wait()
        how = f"died of {signal.Signals(-code).name}" if code < 0 else f"exited with {code}"
        said = self._said()
        self.kill()
        if not self.is_ready:
            raise WorkerFailed(f"a worker {how} at its start\n{said}".rstrip())
        if trial is None:
            return None
        return Outcome(trial.seed, failure=Failure([DIED], f"its worker {how}\n{said}".rstrip()))

    def interrupted(self, limit_s: float) -> Outcome:
        """It takes too long."""
        assert self.trial is not None
        if not self.is_ready:
            self.kill()
            raise WorkerFailed(f"a worker did not start within {START_S:.0f} s")
        with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
            self._process.send_signal(signal.SIGUSR1)
            self._process.wait(LAST_WORDS_S)
        said = self._said()
        self.kill()
        message = f"not done within {limit_s:g} s of the wall clock; it was at\n{said}".rstrip()
        return Outcome(self.trial.seed, failure=Failure([HUNG], message))

    def drop_if_busy(self) -> bool:
        if self.trial is None:
            return False
        self.kill()
        return True

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        for pipe in (self._process.stdin, self._process.stdout, self._errors):
            with contextlib.suppress(OSError):
                pipe.close()

    def _said(self) -> str:
        self._errors.seek(max(0, self._errors.seek(0, os.SEEK_END) - MESSAGE_MAX))
        return self._errors.read().decode("utf-8", "replace").strip()

"""`chaos`: many random scenarios over several processes, counted; what breaks is shrunk and written down."""

from __future__ import annotations

import argparse
import gc
import json
import multiprocessing
import resource
import signal
import sys
import traceback
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any, Final, NamedTuple

from vmha.clock import SystemClock
from vmha.errors import FieldViolation, InvalidField, VmhaError
from vmha.sim import chaos, explain, mutants, recovery, scenario, shrink
from vmha.sim.runner import Outcome, run

RUN_LIMIT_S: Final = 180
"""Seconds of processor that one run may take before it counts as broken; the wall clock of a halted campaign says nothing."""
SIMULATOR: Final = "simulator"
"""The `invariant` of a run that did not end as a run should."""


class WorkerLost(VmhaError):
    """A process of a campaign was killed, for want of memory or by hand."""


class Work(NamedTuple):
    """A run to make."""

    seed: int
    number: int
    mutant: str
    heal: bool

    def scenario(self) -> dict[str, Any]:
        """As a file would have it."""
        raw = chaos.generate(self.seed, self.number)
        return recovery.healed(raw) if self.heal else raw


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one run showed.

    Attributes:
        broken: The names of the invariants that broke, in order of time; SIMULATOR when the run itself failed.
        story: What broke, for people.
    """

    number: int
    broken: tuple[str, ...] = ()
    story: str = ""
    counts: Mapping[str, int] = field(default_factory=dict)
    virtual_s: float = 0.0


def main(chosen: argparse.Namespace) -> int:
    """Runs a campaign as the command line asks; how many runs broke something.

    Raises:
        InvalidField: An argument is wrong.
    """
    for name, least in (("runs", 1), ("jobs", 1), ("seed", 0), ("first", 0)):
        if getattr(chosen, name) < least:
            raise InvalidField([FieldViolation(f"--{name}", f"must be at least {least}")])
    mutants.composition(chosen.mutant)
    clock = SystemClock()
    began = clock.now()
    tally = Tally()
    numbers = range(chosen.first, chosen.first + chosen.runs)
    for finding in findings(chosen.seed, numbers, chosen.jobs, chosen.mutant, heal=chosen.heal):
        tally.add(finding)
        if finding.broken:
            _tell(f"run {finding.number} breaks {', '.join(dict.fromkeys(finding.broken))}\n{finding.story}")
            _write(chosen, finding)
            if not chosen.keep_going:
                break
        if (finding.number - chosen.first + 1) % 100 == 0:
            _tell(f"{tally.runs} runs, {tally.broken} broken, {clock.now() - began:.0f} s")
    _tell(tally.text(chosen.seed, clock.now() - began))
    return tally.broken


def findings(seed: int, numbers: Sequence[int], jobs: int, mutant: str = "", *, heal: bool = False) -> Iterator[Finding]:
    """What the runs of a campaign show, in the order of their numbers.

    Args:
        heal: Each ends with everything mended, and time to recover.

    Raises:
        WorkerLost: A process of the campaign was killed.
    """
    work = [Work(seed, number, mutant, heal) for number in numbers]
    yield from map(_one, work) if jobs == 1 else _spread(work, jobs)


def _spread(work: Sequence[Work], jobs: int) -> Iterator[Finding]:
    # Neither multiprocessing.Pool, which waits for ever for the run of a process that the kernel has killed, nor
    # ProcessPoolExecutor, whose end is undefined when one dies while it starts the next (CPython before 3.12).
    spawn = multiprocessing.get_context("spawn")
    todo = iter(work)
    done: dict[int, Finding] = {}
    processes: list[SpawnProcess] = []
    busy: list[Connection] = []
    try:
        for _ in range(min(jobs, len(work))):
            ours, theirs = spawn.Pipe()
            processes.append(spawn.Process(target=_serve, args=(theirs,), daemon=True))
            processes[-1].start()
            theirs.close()  # so that ours ends with the process
            busy.append(ours)
            ours.send(next(todo))
        for each in work:
            while each.number not in done:
                _collect(busy, todo, done)
            yield done.pop(each.number)
    except (EOFError, ConnectionError):
        raise WorkerLost("INTERNAL_ERROR", "a process of the campaign was killed; what it had begun is not told") from None
    finally:
        for process in processes:
            process.terminate()
            process.join()


def _collect(busy: list[Connection], todo: Iterator[Work], done: dict[int, Finding]) -> None:
    for pipe in wait(busy):
        assert isinstance(pipe, Connection)
        finding: Finding = pipe.recv()
        done[finding.number] = finding
        further = next(todo, None)
        if further is None:
            busy.remove(pipe)
        else:
            pipe.send(further)


def _serve(pipe: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its processes
    gc.freeze()
    gc.set_threshold(100_000, 20, 20)  # a run makes little garbage that is cyclic
    with suppress(EOFError):  # there is no more
        while True:
            pipe.send(_one(pipe.recv()))


def _one(work: Work) -> Finding:
    return attempt(work.scenario(), work.number, work.mutant)


def attempt(raw: Mapping[str, Any], number: int = 0, mutant: str = "") -> Finding:
    """Runs a scenario and says what broke; a run that fails is a finding, too."""
    try:
        with _limit(RUN_LIMIT_S):
            outcome = run(scenario.parse(raw), mutants.composition(mutant))
    except (Exception, _TooLong):
        return Finding(number=number, broken=(SIMULATOR,), story=traceback.format_exc())
    return Finding(
        number=number,
        broken=tuple(violation.invariant for violation in outcome.violations),
        story=_story(outcome),
        counts=outcome.counts,
        virtual_s=outcome.truth.scenario.until,
    )


def _story(outcome: Outcome) -> str:
    shown = [f"  {v.t:.3f} s {v.invariant}: {v.message}" for v in outcome.violations[:10]]
    return "\n".join(shown)


class _TooLong(KeyboardInterrupt):
    """A run took longer than it may; of this kind because a task would keep any other for itself."""


@contextmanager
def _limit(seconds: int) -> Iterator[None]:
    def end(*_: object) -> None:
        raise _TooLong(f"the run took more than {seconds} s of processor")

    before = signal.signal(signal.SIGPROF, end)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def _write(chosen: argparse.Namespace, finding: Finding) -> None:
    """Writes the scenario, shrunk unless told otherwise, and the account of its run."""
    raw = Work(chosen.seed, finding.number, chosen.mutant, chosen.heal).scenario()
    first = finding.broken[0]

    def breaks(candidate: Mapping[str, Any]) -> bool:
        try:
            scenario.parse(candidate)
        except InvalidField:
            return False
        return first in attempt(candidate, mutant=chosen.mutant).broken

    if not chosen.no_shrink:
        raw = shrink.shrink(raw, breaks)
    label = f"-{chosen.mutant}" if chosen.mutant else ""
    folder: Path = chosen.out / f"{chosen.seed}-{finding.number}{label}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "scenario.json").write_text(json.dumps(raw, indent=1) + "\n", encoding="utf-8")
    (folder / "broken.txt").write_text(_account(raw, chosen.mutant) or finding.story, encoding="utf-8")
    _tell(f"written: {folder}/scenario.json ({len(raw['timeline'])} acts, {len(raw['hosts'])} hosts)")


def _account(raw: Mapping[str, Any], mutant: str) -> str:
    try:
        return explain.account(run(scenario.parse(raw), mutants.composition(mutant)), full=True)
    except Exception:
        return traceback.format_exc()


@dataclass(slots=True)
class Tally:
    """What a campaign has shown so far."""

    runs: int = 0
    broken: int = 0
    violations: int = 0
    virtual_s: float = 0.0
    counts: Counter[str] = field(default_factory=Counter)
    by_invariant: Counter[str] = field(default_factory=Counter)

    def add(self, finding: Finding) -> None:
        """Counts a run."""
        self.runs += 1
        self.broken += bool(finding.broken)
        self.violations += len(finding.broken)
        self.virtual_s += finding.virtual_s
        self.counts.update(finding.counts)
        self.by_invariant.update(set(finding.broken))

    def text(self, seed: int, wall_s: float) -> str:
        """The figures, one in a line."""
        own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu_s = own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime
        rows = {
            "seed": seed,
            "runs": self.runs,
            **self.counts,
            "virtual hours": f"{self.virtual_s / 3600:.1f}",
            "violations": self.violations,
            **{f"  runs that break {name}": count for name, count in sorted(self.by_invariant.items())},
            "wall s": f"{wall_s:.1f}",
            "CPU s": f"{cpu_s:.1f}",
            "runs/s": f"{self.runs / max(wall_s, 1e-9):.2f}",
        }
        return "\n".join(f"{name.replace('_', ' '):<32} {value}" for name, value in rows.items())


def _tell(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()

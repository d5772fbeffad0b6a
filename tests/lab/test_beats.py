"""Beats: what proves that a guest ran once. And what a machine that cannot run a lab is told. No lab is needed here."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lab import BeatError, Beats, LabError, system
from lab.beats import check, parse
from lab.guests import BOOT_SECTOR
from lab.system import wait_for

GOOD = b"BOOT 00000001 00000000 \r\nHB 00000001 00000001 \r\nHB 00000001 00000002 \r\n"
TOP = Path(__file__).resolve().parents[2]


def boot(gen: int, last: int) -> bytes:
    return b"BOOT %08X %08X \r\n" % (gen, last)


def beat(gen: int, number: int) -> bytes:
    return b"HB %08X %08X \r\n" % (gen, number)


def test_needs_no_root_good_logs_pass() -> None:
    """A restart elsewhere, a torn last line, and a beat that was stored but no longer said, are all in order."""
    check("g", parse(GOOD + boot(2, 2) + beat(2, 1)))
    check("g", parse(GOOD + b"HB 0000" + boot(2, 3) + beat(2, 1)))
    check("g", parse(GOOD + boot(3, 0) + beat(3, 1)))


@pytest.mark.parametrize(
    ("tail", "text"),
    [
        (beat(1, 2), "beat went backwards"),
        (beat(1, 1), "beat went backwards"),
        (boot(2, 2) + beat(2, 1) + beat(1, 3), "older generation spoke again"),
        (boot(1, 0), "generation booted twice"),
        (boot(2, 2) + boot(2, 2), "generation booted twice"),
        (beat(2, 1), "without having booted"),
        (boot(2, 1), "disk lost a write"),
    ],
)
def test_needs_no_root_two_writers_are_found(tail: bytes, text: str) -> None:
    """Each way in which two copies of a guest show up raises, with guest and records."""
    with pytest.raises(BeatError, match=rf"guest g: .*{text}.*then"):
        check("g", parse(GOOD + tail))


def test_needs_no_root_beats_have_the_time_they_were_said(tmp_path: Path) -> None:
    """The watcher sees a line within milliseconds, whole lines only; before and after are by generation."""
    beats = Beats(tmp_path)
    beats.start()
    try:
        log = tmp_path / "g.log"
        log.write_bytes(GOOD)
        wait_for(lambda: len(beats.of("g")) == 2, 2, "both beats are seen")
        cut_at = time.monotonic()
        with log.open("ab") as stream:
            stream.write(beat(1, 3) + b"BOOT 000000")
            stream.flush()
            wait_for(lambda: len(beats.of("g")) == 3, 2, "the late beat is seen")
            assert beats.after("g", cut_at) is None
            with pytest.raises(LabError, match=r"no beat of a new boot within 0\.01 s: g"):
                beats.wait_after(["g"], cut_at, 0.01)
            stream.write(b"02 00000003 \r\n" + beat(2, 1))
            said_at = time.monotonic()
        found = beats.wait_after(["g"], cut_at, 2)["g"]
    finally:
        beats.stop()

    before = beats.before("g", cut_at)
    assert before is not None
    assert (before.gen, before.beat, found.gen, found.beat) == (1, 2, 2, 1)
    assert abs(found.at - said_at) < 0.1
    beats.check()


def test_needs_no_root_a_disk_that_is_made_anew_begins_with_a_boot(tmp_path: Path) -> None:
    """What the old run still says after the instant of the loss is the old run's; generations begin again with the next boot."""
    beats = Beats(tmp_path)
    beats.start()
    try:
        log = tmp_path / "g.log"
        log.write_bytes(GOOD)
        wait_for(lambda: len(beats.of("g")) == 2, 2, "both beats are seen")
        beats.made_anew("g", time.monotonic())
        with log.open("ab") as stream:
            stream.write(beat(1, 3))
            stream.flush()
            wait_for(lambda: len(beats.of("g")) == 3, 2, "the late beat is seen")
            stream.write(GOOD)
        wait_for(lambda: len(beats.of("g")) == 5, 2, "the new run is seen")
        beats.check()
        with log.open("ab") as stream:
            stream.write(beat(1, 4) + beat(1, 3))
        wait_for(lambda: len(beats.of("g")) == 7, 2, "both are seen side by side")
        with pytest.raises(BeatError):
            beats.check()
    finally:
        beats.stop()


def test_needs_no_root_the_boot_sector_is_its_source(tmp_path: Path) -> None:
    """The committed boot sector is what nasm makes of its source."""
    if shutil.which("nasm") is None:
        pytest.skip("no nasm: apt-get install nasm")
    built = tmp_path / "hb.bin"
    subprocess.run(["nasm", "-f", "bin", str(BOOT_SECTOR.with_suffix(".asm")), "-o", str(built)], check=True, timeout=10)

    assert built.read_bytes() == BOOT_SECTOR.read_bytes()
    assert len(built.read_bytes()) == 512


def test_without_root_there_is_one_clear_error() -> None:
    """As an ordinary user the command line says in one line that it needs root, and exits 1."""
    if os.geteuid() != 0:
        pytest.skip("needs root to become somebody else")
    code = "import os, sys; from lab.__main__ import main; os.setuid(65534); sys.argv = ['lab', 'up']; sys.exit(main())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=TOP, timeout=20, check=False)

    assert done.returncode == 1
    assert done.stderr == "lab: the lab makes network namespaces and needs root; this is uid 65534\n"


def test_a_missing_program_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is missing is named together with the apt package that brings it."""
    monkeypatch.setitem(system.PACKAGES, "no-such-program", "no-such-package")

    assert system.missing_for_a_lab() == "missing no-such-program: apt-get install no-such-package"

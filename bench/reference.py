"""The reference's figures: power cut to first beat elsewhere with 59/127/150 s timers, several cuts, each in a lab of its own.

    python -m bench.reference [--cuts 10] [--at-once 5]

Labs run side by side: a cluster with these timers waits nearly all of the time. The learning time of the manager, which matters
only after its start, is shortened; everything else is the standard profile.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from lab import Lab
from lab.stack import Stack, running

VICTIM = "host1"
GUESTS = {"vm1": VICTIM, "vm2": "host2"}
LEARNING_S = 5.0
LONGEST_S = 300.0
EARLIEST_S, LATEST_S = 150.0, 190.0
"""Between the cooldown alone and what detection, proof and start may add to it."""
STAGGER_S = 8.0


def main() -> int:
    """Print each cut's seconds; returns 0 where all lie within the bounds."""
    parser = argparse.ArgumentParser(prog="python -m bench.reference")
    parser.add_argument("--cuts", type=int, default=10)
    parser.add_argument("--at-once", type=int, default=5, help="labs side by side (default %(default)s)")
    arguments = parser.parse_args()
    seconds = measure(arguments.cuts, arguments.at_once)
    print("cut -> first beat, s: " + " ".join(f"{s:.1f}" for s in seconds))
    print(f"min {min(seconds):.1f}, median {statistics.median(seconds):.1f}, max {max(seconds):.1f}")
    return 0 if all(EARLIEST_S <= s <= LATEST_S for s in seconds) else 1


def measure(cuts: int, at_once: int) -> list[float]:
    """Seconds from the power cut to the first beat elsewhere, for each cut."""
    with ThreadPoolExecutor(max_workers=at_once) as pool:
        return list(pool.map(_one_cut, (number % at_once for number in range(cuts))))


def _one_cut(place: int) -> float:
    # Side by side, but not all at the same point.
    time.sleep(STAGGER_S * place)
    with Lab() as lab, running(Stack(lab=lab, profile="standard", timers={"learning_s": LEARNING_S})) as stack:
        stack.create_guests(GUESTS)
        stack.wait_settled(len(GUESTS))
        cut = time.monotonic()
        lab.host(VICTIM).kill()
        beat = lab.beats.wait_after(["vm1"], cut, LONGEST_S)["vm1"]
        stack.wait_state(VICTIM, "EVACUATED", 30)
        lab.beats.check()
    return beat.at - cut


if __name__ == "__main__":
    sys.exit(main())

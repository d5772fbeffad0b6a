"""Prints each mutant of the models with its shortest run to two copies."""

from __future__ import annotations

import sys
from itertools import groupby

from tests.model.table import traces

for rule, what, trace in traces():
    sys.stdout.write(f"{rule}: {what}\n")
    for step, repeated in groupby(trace):
        times = len(list(repeated))
        sys.stdout.write(f"    {step}{f' (x {times})' if times > 1 else ''}\n")
    sys.stdout.write("    -> two copies\n\n")

"""What an operator types; a client of the contract with no way in of its own."""

from __future__ import annotations

import os
import sys

from vmha.rpc.options import EXPERIMENTS

# grpc reads it once, when it is imported: before any command is.
if sys.argv[1:2] == ["manager"]:
    os.environ.setdefault(*EXPERIMENTS)

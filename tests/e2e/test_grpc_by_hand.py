"""docs/grpc.md, example by example, with `buf curl` against a running lab."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from lab.files import CLUSTER
from tests.e2e.cluster import Cluster

pytestmark = [pytest.mark.lab, pytest.mark.timeout(180)]
MakeCluster = Callable[..., Cluster]
DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "grpc.md"
BLOCK = re.compile(r"^```console ?(\S*)\n(.*?)^```", re.M | re.S)


@dataclass(frozen=True)
class Example:
    """One example of the document and what it says of itself."""

    mark: str
    command: str

    @property
    def rpc(self) -> str:
        """The last part of its URL."""
        return self.command.strip().rsplit("/", 1)[-1]


def examples() -> list[Example]:
    return [Example(mark, command) for mark, command in BLOCK.findall(DOCUMENT.read_text())]


def run(cluster: Cluster, example: Example, **variables: str) -> subprocess.CompletedProcess[str]:
    tools = str(Path(sys.executable).parent)
    environment = {
        **os.environ,
        "PATH": f"{tools}:{os.environ['PATH']}",
        "MANAGER": cluster.stack.manager_target,
        "EVAC": cluster.stack.evac_target,
        "CLUSTER": CLUSTER,
        **variables,
    }
    return subprocess.run(
        ["bash", "-c", example.command], env=environment, capture_output=True, text=True, timeout=60, check=False
    )


def details(stderr: str) -> str:
    """The ErrorInfo of an error as buf prints it: serialised, in base64."""
    answer = json.loads(stderr)
    padded = (detail["value"] + "=" * (-len(detail["value"]) % 4) for detail in answer["details"])
    return " ".join(base64.b64decode(value).decode(errors="replace") for value in padded)


EXPECTED = {
    "ListHosts": '"hostId": "host3"',
    "ExplainHost": '"summary"',
    "ExplainHostLoss": '"vmCount"',
    "ExplainVmPlacement": '"reason": "FAILED_HOST"',
    "CheckCluster": '"managerVersion"',
    "CheckFence": '"power": "FENCE_POWER_ON"',
    "GetPeers": '"probeTarget"',
    "WatchEvents": '"hostStateChange"',
    "Check": "SERVING",
    "Evacuate": '"vmName": "vm1"',
    "GetEvacuation": "VM_OUTCOME_MOVED",
}


def test_every_documented_example_answers_what_the_document_says(make_cluster: MakeCluster) -> None:
    """Each example of docs/grpc.md runs as it stands: reads, watch, plan, refusals, and joining a running evacuation."""
    cluster = make_cluster()
    assert len(examples()) >= 10
    for example in (e for e in examples() if e.mark != "after=power-cut"):
        done = run(cluster, example, VM=cluster.stack.vms()["vm1"].vm_id)
        if example.mark.startswith("refused="):
            assert done.returncode != 0, example.command
            assert example.mark.removeprefix("refused=") in details(done.stderr), done.stderr
        elif example.rpc.startswith("$MANAGER"):
            assert "vmha.v1.ManagerService" in done.stdout, done.stderr
        else:
            assert EXPECTED[example.rpc] in done.stdout, (example.command, done.stdout, done.stderr)

    cut = cluster.kill("host1")
    cluster.stack.wait(lambda: bool(cluster.stack.host("host1").incident_id), 20, "host1 has an incident")
    host = cluster.stack.host("host1")
    for example in (e for e in examples() if e.mark == "after=power-cut"):
        done = run(cluster, example, INCIDENT=host.incident_id, EPOCH=str(host.fence_epoch))
        assert done.returncode == 0, done.stderr
        assert EXPECTED[example.rpc] in done.stdout
    cluster.wait_beats_after(["vm1", "vm2"], cut)

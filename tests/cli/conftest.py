"""The real command line, as a process, against a management plane in memory."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cli.plane import Plane, serve


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str


class Vmha:
    """Runs `vmha`."""

    def __init__(self, plane: Plane, target: str, directory: Path) -> None:
        self.plane = plane
        self.target = target
        self.directory = directory
        self.more: dict[str, str] = {}

    def environment(self, **more: str) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("VMHA_")}
        return {**kept, "VMHA_MANAGER": self.target, "VMHA_EVAC": self.target, **self.more, **more}

    async def start(self, *arguments: str, **environment: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "vmha.cli.main", *arguments,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            env=self.environment(**environment),
        )  # fmt: skip

    async def __call__(self, *arguments: str, **environment: str) -> Done:
        process = await self.start(*arguments, **environment)
        out, err = await asyncio.wait_for(process.communicate(), 40)
        done = Done(process.returncode or 0, out.decode(), err.decode())
        assert "Traceback" not in done.out + done.err
        return done

    def file(self, text: str) -> str:
        path = self.directory / "cluster.yaml"
        path.write_text(text)
        return str(path)


@pytest.fixture
async def vmha(tmp_path: Path) -> AsyncIterator[Vmha]:
    plane = Plane()
    server = serve(plane)
    port = await server.start()
    yield Vmha(plane, f"127.0.0.1:{port}", tmp_path)
    await server.stop(0)

"""Randomness from a seed: in the simulator nothing may come from the operating system."""

from __future__ import annotations

import base64
import os
import random
import secrets
import uuid
from collections.abc import Callable
from typing import Any, Final

_DEFAULT_BYTES: Final = 32


class Entropy:
    """Replaces the process's sources of randomness between `take_over` and `give_back`. One at a time."""

    _active: Entropy | None = None

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._dice = random.Random(f"{seed} secrets")
        self._saved: list[tuple[Any, str, Any]] = []
        self._state: object = None

    def dice(self, purpose: str) -> random.Random:
        """A source of its own, so that one part's draws don't shift another's."""
        return random.Random(f"{self._seed} {purpose}")

    def take_over(self) -> None:
        """From now on everybody draws from the seed.

        Raises:
            RuntimeError: Another one has taken over: two simulations at once would not be repeatable.
        """
        if Entropy._active is not None:
            raise RuntimeError("a simulation runs already in this process; close its World first")
        Entropy._active = self
        self._state = random.getstate()
        random.seed(f"{self._seed} module")
        for module, name, value in (
            (os, "urandom", self._bytes),
            (secrets, "token_bytes", self._token_bytes),
            (secrets, "token_hex", lambda count=None: self._token_bytes(count).hex()),
            (secrets, "token_urlsafe", self._urlsafe),
            (uuid, "uuid4", lambda: uuid.UUID(bytes=self._bytes(16), version=4)),
        ):
            self._replace(module, name, value)

    def give_back(self) -> None:
        """The real sources again; twice is once."""
        if Entropy._active is not self:
            return
        for module, name, value in reversed(self._saved):
            setattr(module, name, value)
        self._saved.clear()
        random.setstate(self._state)  # type: ignore[arg-type]  # getstate's own
        Entropy._active = None

    def _replace(self, module: Any, name: str, value: Callable[..., Any]) -> None:
        self._saved.append((module, name, getattr(module, name)))
        setattr(module, name, value)

    def _bytes(self, count: int) -> bytes:
        return self._dice.randbytes(count)

    def _token_bytes(self, count: int | None = None) -> bytes:
        return self._dice.randbytes(_DEFAULT_BYTES if count is None else count)

    def _urlsafe(self, count: int | None = None) -> str:
        return base64.urlsafe_b64encode(self._token_bytes(count)).rstrip(b"=").decode()

"""One connection to libvirt, closed by a thread and only when nobody uses it.

Closing asks the daemon and so can block as long as any call; on the event loop's thread it would stop heartbeats. And a
connection that is closed while a call hangs on it is freed under that call.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, TypeVar

import libvirt

T = TypeVar("T")
KEEPALIVE: Final = (5, 3)
"""Seconds between two keepalives, and how many may stay unanswered."""


class Connection:
    """Blocking; made and used on worker threads. Only `drop` and `is_alive` are for the event loop's."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle
        self._lock = threading.Lock()
        self._users = 0
        self._dropped = False

    @classmethod
    def open(cls, uri: str, changed: Callable[..., None], closed: Callable[[], None]) -> Connection:
        """Open, with lifecycle events to `changed` and its end to `closed`; both are called on libvirt's own thread.

        A device that is plugged in is told to `changed` as an event of no kind: memory may have come with it.

        Raises:
            libvirtError: There is no libvirt, or it refused.
        """
        handle = libvirt.open(uri)
        # The test driver in this process has no wire that could go dead.
        if handle.getType() != "TEST" or "+" in uri.partition(":")[0]:
            handle.setKeepAlive(*KEEPALIVE)
            handle.registerCloseCallback(lambda *_: closed(), None)
        handle.domainEventRegisterAny(None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, changed, None)
        added = libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_ADDED
        handle.domainEventRegisterAny(
            None, added, lambda link, domain, _alias, opaque: changed(link, domain, -1, 0, opaque), None
        )
        return cls(handle)

    def use(self, question: Callable[[Any], T]) -> T:
        """Ask something of the libvirt handle.

        Raises:
            libvirtError: Also when the connection was dropped meanwhile: no act begins on it then.
        """
        with self._lock:
            if self._dropped:
                raise libvirt.libvirtError("the connection was given up")
            self._users += 1
        try:
            return question(self._handle)
        finally:
            with self._lock:
                self._users -= 1
                last = self._dropped and not self._users
            if last:
                self._close()

    def is_alive(self) -> bool:
        """Whether the wire is there, as far as libvirt knows; asks nobody."""
        with self._lock:
            return not self._dropped and bool(self._handle.isAlive())

    def drop(self) -> None:
        """Use it no more; it is closed when the last call on it has returned."""
        with self._lock:
            first, self._dropped = not self._dropped, True
            idle = first and not self._users
        if idle:
            threading.Thread(target=self._close, name="libvirt-close", daemon=True).start()

    def _close(self) -> None:
        # Callbacks hold the connection: without this it would never be closed.
        for callback in list(getattr(self._handle, "domainEventCallbackID", ())):
            with suppress(libvirt.libvirtError):
                self._handle.domainEventDeregisterAny(callback)
        with suppress(libvirt.libvirtError):
            self._handle.unregisterCloseCallback()
        with suppress(libvirt.libvirtError):
            self._handle.close()

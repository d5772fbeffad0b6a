"""libvirt's event loop: one for a process, on a thread of its own, for keepalive and lifecycle events."""

from __future__ import annotations

import threading
from functools import cache

import libvirt


@cache
def start_libvirt_events() -> None:
    """Gives libvirt its event loop and keeps it from printing errors. Once for a process, before the first open."""
    libvirt.registerErrorHandler(lambda _context, _error: None, None)
    libvirt.virEventRegisterDefaultImpl()
    threading.Thread(target=_run, name="libvirt-events", daemon=True).start()


def _run() -> None:
    pause = threading.Event()
    while True:
        try:
            libvirt.virEventRunDefaultImpl()
        except libvirt.libvirtError:
            # One round that fails must not end keepalive and events for good; nor may it spin.
            pause.wait(0.1)

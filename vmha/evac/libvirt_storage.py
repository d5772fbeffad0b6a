"""Making a VM's disk anew from an image, with libvirt's storage driver on the target. Blocking; runs on the adapter's threads."""

from __future__ import annotations

import contextlib
import hashlib
import posixpath
from collections.abc import Iterator
from typing import Any, Final
from xml.sax.saxutils import escape

import libvirt
from defusedxml.ElementTree import fromstring

from vmha.evac.hypervisor import Refused

ENDINGS: Final = ("", ".qcow2", ".raw", ".img")
"""Of an image's file, in the order in which they are looked for."""


def copy_image(connection: Any, path: str, disk_format: str, image_path: str) -> None:
    """Replaces the file at `path` by a copy of the image, in the disk's own format; libvirt converts where they differ.

    Raises:
        Refused: There is no such image.
        libvirt.libvirtError: libvirt could not do it.
    """
    directory, name = posixpath.split(path)
    library, image_name = posixpath.split(image_path)
    with contextlib.ExitStack() as stack:
        images = stack.enter_context(_pool(connection, library))
        image = _image(images, image_name)
        if image is None:
            raise Refused(f"there is no image {image_name} in {library}")
        # The directory is made where it is not there: this host may never have had a disk of its own.
        build = libvirt.VIR_STORAGE_POOL_CREATE_WITH_BUILD
        pool = images if directory == library else stack.enter_context(_pool(connection, directory, build))
        with contextlib.suppress(libvirt.libvirtError):  # nothing is there, or the next call says what is wrong
            pool.storageVolLookupByName(name).delete()
        pool.createXMLFrom(
            f"<volume><name>{escape(name)}</name><capacity>{image.info()[1]}</capacity>"
            f"<target><format type='{escape(disk_format)}'/></target></volume>",
            image,
            0,
        )


def _image(pool: Any, name: str) -> Any | None:
    for ending in ENDINGS:
        with contextlib.suppress(libvirt.libvirtError):
            return pool.storageVolLookupByName(name + ending)
    return None


@contextlib.contextmanager
def _pool(connection: Any, directory: str, build: int = 0) -> Iterator[Any]:
    """The active pool that shows a directory, as it is now; where the host has none, one of ours for the time being."""
    active = connection.listAllStoragePools(libvirt.VIR_CONNECT_LIST_STORAGE_POOLS_ACTIVE)
    known = next((pool for pool in active if _directory(pool) == directory), None)
    name = "vmha-" + hashlib.sha1(directory.encode(), usedforsecurity=False).hexdigest()[:16]
    xml = f"<pool type='dir'><name>{name}</name><target><path>{escape(directory)}</path></target></pool>"
    pool = known or connection.storagePoolCreateXML(xml, build)
    try:
        pool.refresh(0)
        yield pool
    finally:
        if known is None:
            with contextlib.suppress(libvirt.libvirtError):
                pool.destroy()  # libvirt forgets it; its files stay


def _directory(pool: Any) -> str:
    return (fromstring(pool.XMLDesc(0)).findtext("target/path") or "").rstrip("/")

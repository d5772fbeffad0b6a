"""Real libvirt/QEMU hosts on one Linux box: namespaces, two network planes, a fence device, guests that beat. See docs/lab.md."""

from lab.beats import Beat, BeatError, Beats
from lab.bmc import Fence
from lab.host import BOOT_ID_FILE, Host
from lab.lab import Lab
from lab.planes import PLANES, Plane
from lab.system import LabError, missing_for_a_lab

__all__ = [
    "BOOT_ID_FILE",
    "PLANES",
    "Beat",
    "BeatError",
    "Beats",
    "Fence",
    "Host",
    "Lab",
    "LabError",
    "Plane",
    "missing_for_a_lab",
]

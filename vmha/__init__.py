"""vmha keeps virtual machines of libvirt/KVM hosts alive when their host dies, and never runs one twice."""

__version__ = "0.1.0"

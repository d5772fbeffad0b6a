"""The service on every hypervisor: probes peers, reports, keeps the inventory of its VMs, admits starts."""

"""The service that proves a host's death, places its VMs and starts them, one journaled step at a time."""

"""The service that finds clusters, takes reports, confirms a host's death and orders its evacuation."""

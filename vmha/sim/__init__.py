"""The simulator: the real services in one process, on virtual time, over doubles of everything outside them."""

"""Generated from proto/vmha/v1 by `make proto`; never edited."""

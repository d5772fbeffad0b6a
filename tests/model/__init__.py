"""Exhaustive models of the safety protocol, and the mutants of its rules."""

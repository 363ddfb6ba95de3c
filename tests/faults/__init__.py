"""Proof under faults: what breaks on purpose, what must hold all the same, and who checks it."""

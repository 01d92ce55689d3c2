"""Leaves that know no science: files, locks, checkpoints, the machine."""

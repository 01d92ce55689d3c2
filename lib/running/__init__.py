"""Trains what is planned: here, in processes, on a cluster; verifies, merges, measures speed."""

"""Pictures of results, by name."""

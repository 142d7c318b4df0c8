"""Questions to a run and their answers; only recall and rollback change it, by an event."""

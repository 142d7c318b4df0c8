"""Questions to a run: what made a generation, how two differ, and any other by SQL."""

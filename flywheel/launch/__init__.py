"""From a configuration to a run: opened, gone on with, forked, or done again to compare."""

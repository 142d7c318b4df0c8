"""From overrides to a checked configuration, and from that to live objects."""

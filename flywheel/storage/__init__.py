"""What is on disk: ledger, state, artifacts, the rules of what may be written, recalled and pruned."""

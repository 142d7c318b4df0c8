"""The command line: overrides run the loop, a word is a subcommand."""

"""The command line: one file per noun; data on stdout by `output`, all else on stderr."""

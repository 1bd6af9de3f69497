"""The command line ``robustfront``: arguments in, text and exit codes out. ``main`` has the commands."""

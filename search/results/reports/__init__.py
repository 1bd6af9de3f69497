"""The pictures of a run, one report per file: its ``draw`` takes a ``writing.RunData`` and gives ``Drawn``."""

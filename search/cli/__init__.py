"""The command line ``robustfront``: arguments in, text and exit codes out.

``main`` has the commands, ``cluster`` those of ``robustfront cluster``; ``doctor`` and ``status`` do the work of the
commands of their names. ``run`` runs one command in this process.
"""

from search.cli.main import run

__all__ = ["run"]

"""``python -m search`` is ``robustfront``: how a cluster's node starts a driver from the source that was sent to it."""

from search.cli.main import main

if __name__ == "__main__":
    main()

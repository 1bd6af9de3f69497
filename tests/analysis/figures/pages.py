"""Reading what was drawn."""

from __future__ import annotations

import re
from pathlib import Path

TITLE = "quickstart: LeNet-5 on mnist5k, L2 radius 1.5"


def check(paths: list[Path]) -> str:
    """Checks that every file is whole; returns the page's own words, without plotly's script."""
    words = ""
    for path in paths:
        content = path.read_bytes()
        if path.suffix == ".png":
            assert content.startswith(b"\x89PNG")
            assert content.rstrip().endswith(b"IEND\xaeB`\x82")
        else:
            page = content.decode()
            assert len(re.findall(r"plotly\.js v\d", page)) == 1, "the script is there once"
            assert not re.search(r"<script[^>]*\ssrc=", page), "nothing is loaded from elsewhere"
            words += page[page.rindex('class="plotly-graph-div"') :]
    return words

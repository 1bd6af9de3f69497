"""A trial whose worker kills the driver as soon as it has written a checkpoint."""

from __future__ import annotations

from typing import Any

from search.worker.trial import SettingTrial


class ChaosTrial(SettingTrial):
    """The sweep's own trial, with the kill added."""

    def _step(self) -> dict[str, Any]:
        result = super()._step()
        if "epoch" in result:
            from tests.chaos.driver import die

            die("checkpoint written")
        return result

"""The cards of the report, one per file: a ``TITLE``, and ``card``, which takes a ``ReportData`` and gives a ``Card``.

A card that does not apply to the run gives None.
"""

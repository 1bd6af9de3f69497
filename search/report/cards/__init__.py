"""The cards of the report, one per module: a ``TITLE``, and a function ``card`` from ``ReportData`` to ``Card``.

It returns None if the card does not apply to the run.
"""

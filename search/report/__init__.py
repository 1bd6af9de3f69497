"""The report of a run: one HTML page of cards that says what to use, why, and how certain that is.

Each card is a module of `search.report.cards` with a ``TITLE`` and a function ``card``; `search.report.page` has their
order.
"""

"""The report of a run: one HTML page of cards. It says which setting to use, why, and how certain the answer is.

Each card is a module of `search.report.cards` with a ``TITLE`` and a function ``card``. `search.report.page` sets the
order.
"""

"""Pictures of a run, each a PNG and an offline HTML page, and the page of an audit.

What the functions that draw have in common: ``frame`` is a table made by ``frames.to_frame``; ``objectives`` gives the
direction of each objective; ``domains`` are the searched parameters, which name a setting; ``folder`` is where the
files go; ``title`` says what was measured (configuration, data set, attack, radius). The files are returned.

Importing a module of this package imports pandas, but neither matplotlib nor plotly.
"""

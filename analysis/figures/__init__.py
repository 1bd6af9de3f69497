"""Pictures of a run, each a PNG and an offline HTML page, and the page of an audit.

Importing a module of this package imports pandas, but neither matplotlib nor plotly.
"""

"""The one error that people are meant to read."""


class CompareError(Exception):
    """Says the thing, the place and the way out; printed without a traceback."""

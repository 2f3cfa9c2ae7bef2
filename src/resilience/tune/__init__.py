"""``resilience tune FILE``: a timeout from recorded latencies.

Reads a record, replays it through the estimator that runs in production and through fixed timeouts, and says which
settings would have kept the share of good calls cut off below what is accepted, in words, as JSON, as a page with
pictures. The command knows the library; the library does not know the command.
"""

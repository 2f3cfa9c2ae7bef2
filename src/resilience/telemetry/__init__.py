"""See what policies do: metrics, traces, logs, a live page. Imported only by those who want to look.

The numbers are the policies' own, read when somebody asks (`resilience.telemetry.table` names them all); what happens
is told to listeners (`resilience.listen`). Looking costs a call that goes well nothing.
"""

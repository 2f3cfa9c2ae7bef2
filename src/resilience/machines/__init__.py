"""Pure state machines: given the time, they return decisions.

Nothing in this package sleeps, reads a clock, draws a random number, takes a lock, logs or does I/O, so production,
tests and simulation run the same code. Points in time are integer nanoseconds of any monotonic clock.
"""

"""The demo: a real AWS emulator behind a proxy that misbehaves, called bare and under policies.

`.loopback` and `.proxy` (the unreliable dependency) need only the standard library and
know nothing of policies; `.emulator` runs moto; `.clients` and `.load` make the
calls; `.measure` and `.report` do the arithmetic and the printing; `.run` is the
command.
"""

from __future__ import annotations

"""How hypothesis runs here: how busy a machine is decides no test, and chance none of a machine that checks changes."""

from __future__ import annotations

import os

# Threads of torch that wait for each other sleep, as in worker processes: cores are shared with those.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from hypothesis import HealthCheck, settings

settings.register_profile(
    "rvbuild", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize="CI" in os.environ
)
settings.load_profile("rvbuild")

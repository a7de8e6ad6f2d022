"""How hypothesis runs here: how busy a machine is decides no test."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile("rvbuild", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("rvbuild")

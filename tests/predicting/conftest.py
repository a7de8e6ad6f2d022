from __future__ import annotations

from tests.stages.conftest import made_bundle, one_thread, packed

__all__ = ["made_bundle", "one_thread", "packed"]

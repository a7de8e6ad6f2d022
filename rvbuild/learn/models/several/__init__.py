"""Several networks in one."""

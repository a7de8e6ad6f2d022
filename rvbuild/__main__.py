"""`python -m rvbuild` is the command `rvbuild`."""

from rvbuild.cli import main

if __name__ == "__main__":
    raise SystemExit(main())

"""`python -m rvbuild` is the command `rvbuild`.

Python puts the current directory first on the path then: it is taken off before anything else is imported.
"""

from rvbuild.process.safe_path import protect

protect()

from rvbuild.cli import main  # noqa: E402

if __name__ == "__main__":
    raise SystemExit(main())

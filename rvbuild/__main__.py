"""Run `rvbuild` by `python -m rvbuild`.

Python then puts the current directory first on the module path; it is removed before anything else is imported.
"""

from rvbuild.process.safe_path import protect

protect()

from rvbuild.cli import main  # noqa: E402

if __name__ == "__main__":
    raise SystemExit(main())

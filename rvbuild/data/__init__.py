"""The imagery that the example projects use: fetched once, checked by digest, annotated by plain functions.

`python -m rvbuild.data fetch` is the command; nothing else in the package imports this one.
"""

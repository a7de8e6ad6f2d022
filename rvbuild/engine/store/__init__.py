"""Data on disk: contents by digest, records, digests of files, and locks."""

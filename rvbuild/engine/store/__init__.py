"""What is kept on disk: contents by digest, records, digests of files, and locks."""

"""Images: files, mosaics, stacks and transforms, read window by window."""

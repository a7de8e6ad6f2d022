"""Labels of scenes, read window by window, from any kind of source."""

"""Labels of scenes, read window by window, whatever they are made from."""

"""The stage of suggestions: windows to label next."""

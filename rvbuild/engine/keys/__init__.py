"""The identity of an artifact: its declaration, its key, and the code that a key covers."""

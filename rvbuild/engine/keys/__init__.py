"""What identifies an artifact: its declaration, its key, and the code that a key covers."""

"""Result frames: their schema, reading and writing, and q-values."""

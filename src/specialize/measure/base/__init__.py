"""Arrays in, numbers out: counting, information, estimates, blocks, nulls, pairing, chance."""

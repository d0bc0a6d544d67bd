"""How large a line, a text and what a compressed file expands to may be, so that no file fills the memory."""

LONGEST_LINE = 2**26  # bytes of a line of JSON or of a table: some twenty times a long novel
LONGEST_TEXT = 2**28  # characters of a text
_EXPANDED_AT_LEAST = 2**24  # bytes, below which any ratio is harmless
_MOST_EXPANDED = 200  # times its size; text and routing expand less than 20-fold, blanks 230- to 1,030-fold


def expands_beyond_reason(expanded: int, compressed: int) -> bool:
    """Return whether a compressed file of this size cannot hold data: it expands 200-fold, to more than 16 MiB.

    Args:
        expanded: bytes that it has expanded to so far, or will.
        compressed: bytes of the file.
    """
    return expanded > max(_EXPANDED_AT_LEAST, _MOST_EXPANDED * compressed)

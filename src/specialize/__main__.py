"""`python -m specialize` is `specialize`."""

from specialize.cli import main

if __name__ == "__main__":
    main()

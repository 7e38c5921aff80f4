"""`python -m latchkey`, as launchers of several processes want it."""

from latchkey.cli import main

if __name__ == "__main__":
    main()

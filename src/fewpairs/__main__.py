"""`python -m fewpairs`, as launchers of several processes want it."""

from fewpairs.cli import main

if __name__ == "__main__":
    main()

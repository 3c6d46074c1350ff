"""`python -m host` is `stembridge`."""

from host.cli import main

if __name__ == "__main__":
    main()

"""Entry point of `python -m byzbench`."""

from byzbench.cli import main

if __name__ == "__main__":
    main()

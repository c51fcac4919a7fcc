"""`python -m tempadvisor`."""

from tempadvisor.cli import main

if __name__ == "__main__":
    main()

"""`python -m tempadvisor`, and the installed command."""

import gc


def main() -> None:
    """Run the command line, with the garbage collector looking in less often than by default.

    Imports leave thousands of objects and no garbage; the default of a look every few hundred objects takes a tenth
    of the time of `recommend`.
    """
    gc.set_threshold(50_000)

    from tempadvisor.cli import main as command_line

    command_line()


if __name__ == "__main__":
    main()

"""`python -m tempadvisor`, and the installed command."""

import gc


def main() -> None:
    """Run the command line, with the garbage collector looking in less often than by default, and not at the end.

    Imports leave a hundred thousand objects and no garbage; looking through them every few hundred objects, and once
    more when all is done, takes a fifth of the time of `recommend`.
    """
    gc.set_threshold(200_000)

    from tempadvisor.cli import main as command_line

    try:
        command_line()
    finally:
        gc.freeze()


if __name__ == "__main__":
    main()

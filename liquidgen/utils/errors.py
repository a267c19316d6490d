"""The exception for mistakes in the user's input, and other errors in one line."""

from liquidgen.utils.text import one_line


class UserError(Exception):
    """An error that the user can fix; the message is one line with what, where and what to do.

    Stages and commands print the message alone, without a stack trace, and exit with 1.
    """

    def __str__(self) -> str:
        # names and paths in it may hold line breaks, or codes that act on a terminal
        return one_line(super().__str__())


def reason_of(error: BaseException, lines: int | None = None) -> str:
    """Return an error's message as one line.

    Args:
        error: Any error.
        lines: Number of lines of a long message that are of interest; None: all.

    Returns:
        The message, or the name of the error's class if it has none.
    """
    parts = str(error).strip().splitlines()[:lines]
    return " ".join(" ".join(parts).split()) or type(error).__name__

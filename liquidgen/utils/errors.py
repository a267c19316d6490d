"""The exception for mistakes in the user's input."""


class UserError(Exception):
    """An error that the user can fix; the message is one line with what, where and what to do.

    Stages and commands print the message alone, without a stack trace, and exit with 1.
    """

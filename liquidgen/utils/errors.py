"""The one exception that means: the user's input is at fault."""


class UserError(Exception):
    """A mistake that the user can mend: one line with what, where, the rule and the remedy.

    Stages print the message alone, without a stack trace, and exit with 1.
    """

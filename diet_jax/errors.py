"""The one exception for bad input: the command line turns it into a message and exit code 2."""


class InputError(ValueError):
    """Raised when an argument, a file or a dataset is not what a function needs.

    The message names the argument, what was expected, what was given and the remedy.
    """


class NotHereError(InputError):
    """Raised when data is not where it is looked for, or when objects of one's own were not brought."""

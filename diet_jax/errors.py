"""The one exception for bad input: the command line turns it into a message and exit code 2."""


class InputError(ValueError):
    """Raised when an argument, a file or a dataset is not what a function needs.

    The message names the argument, what was expected, what was given and the remedy.
    """


class NotHereError(InputError):
    """Raised when data is not where it is looked for, or when objects of one's own were not brought."""


def counted(count: int, noun: str) -> str:
    """Returns how many there are of something, in words.

    Example:
        >>> counted(1, "channel"), counted(1078, "example"), counted(0, "class")
        ('1 channel', '1,078 examples', '0 classes')
    """
    return f"{count:,} {noun}{('es' if noun.endswith('s') else 's') * (count != 1)}"

"""The errors that are the user's: one sentence each, which the command line prints without a traceback.

Whatever else is raised is a fault of depthkd, and keeps its traceback. So these are raised where it is
known that a setting, a file or a name cannot be used, and what the libraries underneath raise is turned
into one of them only there.
"""


class UserError(ValueError):
    """A setting, a file or a sample that cannot be used.

    The message is one sentence: it names the file, the sample or the config key, and says what is wrong
    and what would be right.
    """


class MissingFileError(UserError, FileNotFoundError):
    """A file, a folder or a run that the user names and that is not there."""


class ExistingFileError(UserError, FileExistsError):
    """What would be written is there already, and must not be overwritten unasked."""


def user_error(error: BaseException | None) -> UserError | None:
    """The user's mistake that an error goes back to: itself or one of its causes; None if there is none.

    Parsers wrap what a constructor raised, and a loader's worker process sends its error with a traceback
    in the text, of which `sentence` keeps the last line.
    """
    while error is not None and not isinstance(error, UserError):
        error = error.__cause__
    return error


def sentence(error: BaseException) -> str:
    """The message of an error in one sentence, also where it comes from a loader's worker process."""
    text = str(error)
    if "Original Traceback (most recent call last)" in text:
        return text.strip().splitlines()[-1].partition(": ")[2]
    return text

"""The errors that are the user's: one sentence each, which the command line prints without a traceback.

Whatever else is raised is a fault of depthkd, and keeps its traceback. So these are raised where it is
known that a setting, a file or a name cannot be used, and what the libraries underneath raise is turned
into one of them only there.
"""

import errno
import re
from collections.abc import Iterator
from pathlib import Path

PACKAGE = str(Path(__file__).parent)
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)  # whoever writes meets these
DENIED = (errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR)  # whoever opens, these
LONG = 200  # characters of a path in a sentence
LIGHTNINGS = "MisconfigurationException"  # its word for a user's mistake
LOGS = ("wandb", "mlflow")  # packages that know servers and accounts: what they raise is about those
REFUSAL = "raise_union_unexpected_value"  # of jsonargparse, which has tried every type of a union


class UserError(ValueError):
    """A setting, a file or a sample that cannot be used.

    The message is one sentence: it names the file, the sample or the config key, and says what is wrong
    and what would be right.
    """


class MissingFileError(UserError, FileNotFoundError):
    """A file, a folder or a run that the user names and that is not there."""


class ExistingFileError(UserError, FileExistsError):
    """What would be written is there already, and must not be overwritten unasked."""


class UnknownNameError(UserError, AttributeError):
    """A class or a function that a package does not have, by the name that a config gives it."""


def mistake_or_fault(error: BaseException) -> BaseException | None:
    """What an error goes back to: a `UserError`, or else a fault of ours that a parser has wrapped.

    jsonargparse builds objects while it tries one type after another, and answers with an error of its
    own, whatever a constructor raised. None: nothing of ours was raised on the way.

    That a disk or the memory is full, or a path cannot be opened, is no fault of ours wherever it is met;
    nor is what Lightning calls a misconfiguration.
    """
    behind = list(_behind(error))
    mistakes = [e for e in behind if isinstance(e, UserError)]
    mistakes += [_of_the_machine(e) for e in behind if isinstance(e, OSError) and e.errno in (*FULL, *DENIED)]
    mistakes += [_of_memory(e) for e in behind if _out_of_memory(e)]
    mistakes += [
        UserError(f"trainer: {' '.join(str(e).split())}") for e in behind if type(e).__name__ == LIGHTNINGS
    ]
    mistakes += [
        UserError(f"trainer.logger: {' '.join(str(e).split())}")
        for e in behind
        if type(e).__module__.partition(".")[0] in LOGS
    ]
    faults = [e for e in behind if not isinstance(e, UserError) and _raised_by_us(e)]
    return next(iter(mistakes or faults), None)


def sentence(error: BaseException) -> str:
    """The message of an error in one sentence, also where it comes from a loader's worker process."""
    text = str(error)
    if "Original Traceback (most recent call last)" in text:
        return text.strip().splitlines()[-1].partition(": ")[2]
    return text


def _of_the_machine(error: OSError) -> UserError:
    place = "a file" if error.filename is None else str(error.filename)[:LONG]
    done = "opened" if error.errno in DENIED else "written"
    mistake = UserError(f"{place} cannot be {done}: {error.strerror}")
    mistake.__cause__ = error
    return mistake


def _out_of_memory(error: BaseException) -> bool:
    """Of Python, of a GPU, or of torch on the CPU, which has no class of its own for it."""
    no_class = isinstance(error, RuntimeError) and "DefaultCPUAllocator: can't allocate" in str(error)
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or no_class


def _of_memory(error: BaseException) -> UserError:
    text = " ".join(str(error).split())
    amount = re.search(r"[Tt]ried to allocate ([\d.]+ [A-Za-z]+)", text)
    device, wanted = (
        "the GPU" if "CUDA" in text else "this machine",
        f" (tried to allocate {amount[1]})" if amount else "",
    )
    mistake = UserError(f"the memory of {device} is full{wanted}: smaller batches or images need less")
    mistake.__cause__ = error
    return mistake


def _behind(error: BaseException | None) -> Iterator[BaseException]:
    """The error, its causes, and those that jsonargparse met in each type of a union."""
    while error is not None:
        yield error
        frame = error.__traceback__
        while frame is not None:
            if frame.tb_frame.f_code.co_name == REFUSAL:
                for other in frame.tb_frame.f_locals.get("exceptions", ()):
                    yield from _behind(other)
            frame = frame.tb_next
        error = error.__cause__


def _raised_by_us(error: BaseException) -> bool:
    """Whether code of ours called what failed, and not only a parser's."""
    ours, frame = False, error.__traceback__
    while frame is not None:
        name = frame.tb_frame.f_code.co_filename
        ours = name.startswith(PACKAGE) or (ours and "jsonargparse" not in name)
        frame = frame.tb_next
    return ours

"""Standard output of the command line."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from recsys.errors import ExitCode, StorageError

_OUTPUT_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EPIPE}


@contextmanager
def output_errors() -> Iterator[None]:
    """Report standard output that cannot be written, such as a file on a full disk, in one line.

    Ends the program if nobody reads it any more, as `head` does after some lines.

    Raises:
        StorageError: it cannot be written.
    """
    try:
        try:
            yield
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()
    except OSError as error:
        if error.filename is not None or error.errno not in _OUTPUT_ERRORS:
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # else Python tries again when it exits
        if error.errno == errno.EPIPE:
            sys.exit(ExitCode.ERROR)
        reason = f"standard output cannot be written: {error.strerror}"
        raise StorageError(reason) from error

"""Lines on a terminal, wrapped between words."""

from __future__ import annotations

import codecs
import io
import os
import shutil
import sys
import textwrap
import unicodedata

_SIMILAR = {"·": "-", "–": "-", "−": "-", "─": "-", "━": "-", "│": "|", "±": "+-"}


def accept_all_characters() -> None:
    """Let standard output and error take any text: characters that their encoding lacks are written by similar ones.

    A stream that is closed takes it, too.
    """
    codecs.register_error("byzbench.similar", _similar)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_WRONLY), "w", encoding="utf-8"))
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="byzbench.similar")


def _similar(error: UnicodeError) -> tuple[str, int]:
    """Return similar ASCII characters for those that cannot be encoded, and the position after them."""
    assert isinstance(error, UnicodeEncodeError)
    text = error.object[error.start : error.end]
    plain = (_SIMILAR.get(c) or unicodedata.normalize("NFKD", c).encode("ascii", "ignore").decode() for c in text)
    return "".join(c or "?" for c in plain), error.end


def terminal_width(err: bool = False) -> int | None:
    """Return the columns of the terminal to which a stream writes; None where it writes to a file or a pipe.

    Args:
        err: True for standard error, False for standard output.
    """
    stream = sys.stderr if err else sys.stdout
    return shutil.get_terminal_size().columns if stream.isatty() else None


def wrap_line(line: str, width: int | None, indent: int = 0) -> str:
    """Wrap a line between words. A word that is longer than the width stays whole.

    Args:
        line: The line.
        width: The number of columns; None for no limit.
        indent: The number of spaces before the lines that follow the first one.

    Example:
        >>> print(wrap_line("note: agreement 'mda' has no guarantee", 22, indent=6))
        note: agreement 'mda'
              has no guarantee
    """
    if width is None or len(line) <= width:
        return line
    wrapper = textwrap.TextWrapper(
        width, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False
    )
    return wrapper.fill(line)


def wrap_description(text: str, width: int | None) -> str:
    """Wrap the paragraphs of a docstring; indented lines, as of formulas and examples, are wrapped one by one.

    Args:
        text: The docstring without common indentation.
        width: The number of columns; None for no limit.

    Example:
        >>> print(wrap_description("The mean of all\\ninputs.\\n\\n    x = a + b", 40))
        The mean of all inputs.
        <BLANKLINE>
            x = a + b
    """
    if width is None:
        return text
    paragraphs = []
    for paragraph in text.split("\n\n"):
        lines = paragraph.split("\n")
        if not any(line.startswith((" ", "-", ">")) for line in lines):
            lines = [" ".join(lines)]
        paragraphs.append("\n".join(wrap_line(line, width, indent=8 * line.startswith(" ")) for line in lines))
    return "\n\n".join(paragraphs)


def echo(line: str, err: bool = False, indent: int = 0) -> None:
    """Print a line; on a terminal it is wrapped between words.

    Args:
        line: The line.
        err: True to print on standard error.
        indent: The number of spaces before the lines that follow the first one.
    """
    print(wrap_line(line, terminal_width(err), indent), file=sys.stderr if err else sys.stdout, flush=True)

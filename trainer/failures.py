"""Why a round failed, in words that say what to do. Pure: an exception in, a sentence out."""

import errno

_FULL_DISK = (errno.ENOSPC, errno.EDQUOT)
_NO_MEMORY = ("can't allocate memory", "not enough memory", "out of memory", "cannot allocate memory")


def in_words(error: BaseException) -> str:
    """Name the cause where it is a known one; else the error's own words, with its kind in front unless it is plain.

    Libraries say the same things in different ways: torch raises RuntimeError where a processor's memory ends and
    OutOfMemoryError on a device, safetensors wraps the system's message about a full disk in an error of its own.
    """
    text = str(error) or "no message"
    if _is_full_disk(error, text):
        return "the disk is full: make room in the data folder, then ask for a round again"
    if _is_out_of_memory(error, text):
        return (
            "out of memory: lower training.batch_size or training.max_tokens, or gate.replies when it happened in the "
            "gate"
        )
    plain = isinstance(error, ArithmeticError | ValueError | FileNotFoundError)
    return text if plain else f"{type(error).__name__}: {text}"


def _is_full_disk(error: BaseException, text: str) -> bool:
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in _FULL_DISK
    return "no space left on device" in text.lower() or "os error 28" in text


def _is_out_of_memory(error: BaseException, text: str) -> bool:
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and any(said in text.lower() for said in _NO_MEMORY)

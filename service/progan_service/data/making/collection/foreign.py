"""Kinds of collections that are not read, told by their first bytes, and the way round."""

import re

_UNPACK = "unpack it and give the folder"
_AS_ARRAY = "save its images as a .npy of uint8 [N, H, W, 3], or as files"
_KINDS = {
    rb"\x28\xb5\x2f\xfd": f"is a Zstandard archive: {_UNPACK} (`zstd -d`, `tar --zstd -xf`)",
    rb"7z\xbc\xaf\x27\x1c": f"is a 7z archive: {_UNPACK} (`7z x`)",
    rb"Rar!\x1a\x07": f"is a RAR archive: {_UNPACK} (`unrar x`)",
    rb"\x04\x22\x4d\x18": f"is an LZ4 file: {_UNPACK} (`lz4 -d`)",
    rb"LZIP": f"is an lzip file: {_UNPACK} (`lzip -d`)",
    rb"\x1f[\x9d\xa0]": f"is a compress (.Z) file: {_UNPACK} (`gzip -d`)",
    rb"!<arch>\n": f"is an ar archive: {_UNPACK} (`ar x`)",
    rb"0707[0-9]{2}": f"is a cpio archive: {_UNPACK} (`cpio -id`)",
    rb"hsqs": f"is a SquashFS image: {_UNPACK} (`unsquashfs`)",
    rb"\x89HDF\r\n\x1a\n": f"is an HDF5 file: {_AS_ARRAY}",
    rb"MATLAB 5\.0": f"is a MATLAB file: {_AS_ARRAY}",
    rb"PAR1": f"is a Parquet file: {_AS_ARRAY}",
    rb"ARROW1": f"is an Arrow file: {_AS_ARRAY}",
    rb".{16}\xde\xc0\xef\xbe": "is an LMDB database: save its images as files, as LSUN's `data.py export` does",
    rb"\x80[\x02-\x05]": f"is a Python pickle, which could run anything: {_AS_ARRAY}",
    rb".{4}\0{4}.{4}\n": "holds TFRecords: if they are of `progan dataset` or NVIDIA's tools, train on the folder "
    "as it is",
}


def foreign_kind(head: bytes) -> str:
    """Return what a file is and what to do, as the end of a sentence, or "" for a kind that is not known here.

    Args:
        head: its first 512 bytes.
    """
    return next((words for pattern, words in _KINDS.items() if re.match(pattern, head, re.DOTALL)), "")

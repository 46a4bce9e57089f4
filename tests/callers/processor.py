"""What the processor of this machine can do: without AVX-512, oneDNN has no bfloat16, and sums in varying order."""

from pathlib import Path

import pytest

_ABOUT = Path("/proc/cpuinfo")
AVX512 = not _ABOUT.exists() or "avx512f" in _ABOUT.read_text()

in_bfloat16 = pytest.mark.skipif(not AVX512, reason="without AVX-512, bfloat16 is emulated, and rounds more often")

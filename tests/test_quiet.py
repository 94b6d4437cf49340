import os
import subprocess
import sys
from pathlib import Path

import pytest

CODE = """
from emis_platform.core import quiet
quiet.apply()
import torch
torch.manual_seed(0)
a, b = torch.randn(1, 576), torch.randn(576, 576)
def product(threads):
    torch.set_num_threads(threads)
    return a @ b
print(torch.equal(product(1), product(2)))
"""
CPU = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""


def same(**env):
    """Whether a product has the same bytes on one thread as on two, in a process of its own."""
    env = {name: value for name, value in os.environ.items() if name != "MKL_CBWR"} | env
    return subprocess.run([sys.executable, "-c", CODE], env=env, capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.skipif("GenuineIntel" not in CPU or "avx2" not in CPU, reason="MKL keeps its order of sums on Intel with AVX2 or later")
def test_the_number_of_threads_does_not_change_a_product():
    assert same() == "True"


def test_what_the_user_set_stands():
    code = "import os; from emis_platform.core import quiet; quiet.apply(); print(os.environ['MKL_CBWR'])"
    env = os.environ | {"MKL_CBWR": "COMPATIBLE"}
    assert subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True).stdout == "COMPATIBLE\n"

"""The compiled layer, one for all versions from 3.11 on, by the limited API, against the libtine of pkg-config.

Where src/libtine/_lib holds that library, as `make wheel` of tine has it, the package carries it along.
"""

import glob
import os
import subprocess
import sys

from setuptools import Extension, setup
from wheel.bdist_wheel import bdist_wheel

LIMITED = sys.version_info >= (3, 11)  # the buffer protocol became part of it then


def pkg_config(option: str) -> list[str]:
    try:
        return subprocess.run(["pkg-config", option, "tine"], check=True, capture_output=True, text=True).stdout.split()
    except (OSError, subprocess.CalledProcessError) as error:
        sys.exit(
            f"libtine needs tine's library and header, by pkg-config ({error}); `make install` of tine brings them"
        )


class Abi3Wheel(bdist_wheel):
    def get_tag(self) -> tuple[str, str, str]:
        python, abi, platform = super().get_tag()
        return ("cp311", "abi3", platform) if LIMITED else (python, abi, platform)


libraries = pkg_config("--libs")
carried = os.path.isdir("src/libtine/_lib")
run_path = ["$ORIGIN/_lib/lib"] if carried else [flag[2:] for flag in libraries if flag.startswith("-L")]
setup(
    ext_modules=[
        Extension(
            "libtine._native",
            sources=sorted(glob.glob("native/*.c")),
            depends=["native/named_pool.h", "native/native.h", "native/pool.h", "native/sync.h", "native/wait.h"],
            define_macros=[("Py_LIMITED_API", "0x030B0000")] if LIMITED else [],
            py_limited_api=LIMITED,
            extra_compile_args=[
                *pkg_config("--cflags"),
                "-std=gnu11",
                "-fvisibility=hidden",
                "-Wall",
                "-Wextra",
                "-Werror=implicit",
            ],
            extra_link_args=[*libraries, *(f"-Wl,-rpath,{directory}" for directory in run_path)],
        )
    ],
    cmdclass={"bdist_wheel": Abi3Wheel},
)

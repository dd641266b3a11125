"""thumbnails.py [-j N] [--crash-on FILE] IN_DIR OUT_DIR: shrinks every JPEG and PNG of a directory, on all cores.

A file that is damaged, or a worker that dies, costs that file alone: the table at the end says which and why.
"""

from __future__ import annotations

import argparse
import ctypes
import pathlib
import sys

from PIL import Image

import libtine


def shrink(source: pathlib.Path, out: pathlib.Path, crash: bool) -> int:
    if crash:
        ctypes.string_at(0)
    with Image.open(source) as image:
        image.thumbnail((256, image.height))
        image.save(out, quality=85)
    return out.stat().st_size


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("-j", type=int, help="workers; one for each processor unless given")
    parser.add_argument("--crash-on", default="", help="have the worker that gets this file crash")
    parser.add_argument("in_dir", type=pathlib.Path)
    parser.add_argument("out_dir", type=pathlib.Path)
    options = parser.parse_args()
    options.out_dir.mkdir(parents=True, exist_ok=True)
    files = sorted(file for file in options.in_dir.iterdir() if file.suffix.lower() in (".jpg", ".jpeg", ".png"))
    sizes, failed = [], []
    with libtine.ProcessPoolExecutor(options.j, preload=["PIL.Image"]) as executor:
        futures = [
            executor.submit(shrink, file, options.out_dir / file.name, file.name == options.crash_on) for file in files
        ]
        for future, file in zip(libtine.progress(futures, label="thumbnails"), files):
            try:
                sizes.append(future.result())
            except libtine.WorkerDied as died:
                failed.append((file.name, f"worker {died.pid} died: signal {died.signal}"))
            except Exception as error:
                failed.append((file.name, str(error)))
    if sizes:
        print(f"{len(sizes)} thumbnails of {sum(sizes) / len(sizes) / 1e3:.1f} KB on average in {options.out_dir}")
    if failed:
        print(f"\n{len(failed)} of {len(files)} files failed:")
        for name, reason in failed:
            print(f"  {name:14} {reason}")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())

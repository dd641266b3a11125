"""multiprocessing.Queue, for benches/queue.c: one-way|round-trip LENGTH COUNT, prints nanoseconds per message."""
import multiprocessing as mp
import sys
import time


def consume(there, back, count, echo):
    for _ in range(count):
        message = there.get()
        if echo:
            back.put(message)
    back.put(None)


def main():
    echo, length, count = sys.argv[1] == "round-trip", int(sys.argv[2]), int(sys.argv[3])
    context = mp.get_context("fork")
    there, back = context.Queue(), context.Queue()
    process = context.Process(target=consume, args=(there, back, count, echo))
    process.start()
    message = bytes(length)
    began = time.perf_counter_ns()
    for _ in range(count):
        there.put(message)
        if echo:
            back.get()
    back.get()
    print((time.perf_counter_ns() - began) / count)
    process.join()


main()

"""What the processes of these tests run."""

import os
import signal
import sys
import threading
import time

import libtine


def uses_files_in_shm(pid):
    """Whether a process has any file of /dev/shm open or mapped: what could be left there."""
    with open(f"/proc/{pid}/maps") as maps:
        names = [line for line in maps]
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            names.append(os.readlink(f"/proc/{pid}/fd/{fd}"))
        except FileNotFoundError:
            continue  # closed meanwhile
    return any("/dev/shm/" in name for name in names)


def add(value, n):
    for _ in range(n):
        with value:
            value.value += 1


def hold_and_wait(lock, ready):
    lock.acquire()
    ready.set()
    time.sleep(1000)


def meet(barrier, ready):
    ready.set()
    barrier.wait()


def exit_with(code):
    sys.exit(code)


def raise_error():
    raise ZeroDivisionError("on purpose")


def report(connection):
    connection.send((os.getpid(), libtine.current_process().name, libtine.parent_process().pid))


def echo(source, target):
    while (item := source.get()) is not None:
        target.put(item)


def put_for_ever(queue):
    number = 0
    while True:
        queue.put((os.getpid(), number, bytes(number % 3000)))
        number += 1


def get_for_ever(queue):
    while True:
        queue.get()


def put_and_end(queue, item):
    queue.put(item)


def receive_and_unlock(connection):
    lock, other = connection.recv()
    with lock:
        other.send("held")


def start_another(connection):
    child = libtine.Process(target=time.sleep, args=(1000,))
    child.start()
    connection.send((os.getpid(), child.pid))
    time.sleep(1000)


def take_work(queue):
    while queue.get() is not None:
        queue.task_done()
    queue.task_done()


def leave_thread(event):
    threading.Thread(target=lambda: (time.sleep(0.1), event.set())).start()


def kill_itself():
    os.kill(os.getpid(), signal.SIGKILL)


class Doubler(libtine.Process):
    def __init__(self, value):
        super().__init__(name="doubler")
        self.value = value

    def run(self):
        self.value.value *= 2


def get_and_send_length(queue, ends):
    ends[1].recv()
    ends[1].send(len(queue.get()))


def add_and_put(value, queue):
    with value:
        value.value += 1
    queue.put("added")


def put_all_and_end(queue, items):
    for item in items:
        queue.put(item)


def put_and_wait(queue, count, ready):
    for number in range(count):
        queue.put(number)
    ready.set()
    time.sleep(1000)


class Action:
    """A barrier's action that says when it runs, and waits to be let go on."""

    def __init__(self, entered, go_on, runs):
        self.entered, self.go_on, self.runs = entered, go_on, runs

    def __call__(self):
        with self.runs.get_lock():
            self.runs.value += 1
        self.entered.set()
        self.go_on.wait()

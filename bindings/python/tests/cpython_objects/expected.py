"""What of CPython's tests does not pass, and why."""

PUT_RAISES = "put() raises for what cannot be pickled, where multiprocessing's thread prints it later"

OTHERS = "a program of its own looks for the block with multiprocessing's class, as a file in /dev/shm"

EXPECTED: dict[str, str] = {
    "_TestQueue.test_queue_feeder_donot_stop_onexc": PUT_RAISES,
    "_TestQueue.test_queue_feeder_on_queue_feeder_error": PUT_RAISES,
    "_TestSharedMemory.test_shared_memory_tracking": OTHERS,
    "_TestSharedMemory.test_shared_memory_untracking": OTHERS,
    "_TestSharedMemory.test_shared_memory_SharedMemoryManager_basics": "there are no managers",
}

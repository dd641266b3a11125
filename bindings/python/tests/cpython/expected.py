"""What of CPython's tests does not pass, and why."""

RAW = "writes raw bytes through the descriptor of a Connection; a channel takes whole messages that it has sent itself"
PUT_RAISES = "put() raises for what cannot be pickled, where multiprocessing's thread prints it later"

EXPECTED: dict[str, str] = {
    "_TestConnection.test_fd_transfer": RAW,
    "_TestConnection.test_large_fd_transfer": RAW,
    "_TestQueue.test_queue_feeder_donot_stop_onexc": PUT_RAISES,
    "_TestQueue.test_queue_feeder_on_queue_feeder_error": PUT_RAISES,
    "TestInvalidHandle.test_invalid_handles": "a Connection of what is no descriptor is refused when it is made",
}

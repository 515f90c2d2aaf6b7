"""A listening socket ends without resetting anybody."""

import resource
import socket

import pytest

from service.server.listeners import raise_file_limit, refuse_new


def test_what_has_begun_is_kept_and_nothing_new_begins() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as late:
        with socket.create_connection(listener.getsockname()) as early:
            early.sendall(b"early")
            refuse_new(listener)
            late.settimeout(0.2)
            with pytest.raises(TimeoutError):
                late.connect(listener.getsockname())
            accepted, _ = listener.accept()
            with accepted:
                assert accepted.recv(5) == b"early"
                accepted.sendall(b"late")
                assert early.recv(4) == b"late"
        listener.settimeout(0.0)
        with pytest.raises(BlockingIOError):
            listener.accept()


def test_as_many_files_as_the_system_allows() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 500), hard))
        assert raise_file_limit() == hard
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

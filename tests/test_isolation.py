"""The suite itself: no network, no real home."""

from __future__ import annotations

import socket
import urllib.error
import urllib.request
from pathlib import Path

import pytest


def test_no_socket_can_be_opened() -> None:
    with pytest.raises(RuntimeError, match="network"):
        socket.socket(socket.AF_INET)
    with pytest.raises(RuntimeError, match="network"):
        socket.create_connection(("127.0.0.1", 9))
    with pytest.raises((RuntimeError, urllib.error.URLError)):
        urllib.request.urlopen("http://127.0.0.1:9/", timeout=1)


def test_unix_sockets_work() -> None:
    one, other = socket.socketpair()
    one.close()
    other.close()


def test_home_and_working_folder_are_empty_and_apart() -> None:
    assert not list(Path.cwd().iterdir())
    assert not list(Path.home().iterdir())
    assert Path.home() != Path.cwd()

"""Errors of this package.

HostError
├── DocumentError      the document on stdin does not fit (exit 2)
├── UnreachableError   no login within the deadline, or a host key that is not the pinned one (exit 3)
└── ConvergeError      a command on the droplet failed (exit 1)
"""

from __future__ import annotations


class HostError(Exception):
    """Something a person can act on: what, where and what to do; `detail` is the droplet's output."""

    exit_code = 1

    def __init__(self, message: str, detail: str = "") -> None:
        super().__init__(message)
        self.detail = detail


class DocumentError(HostError):
    """The document on stdin does not fit."""

    exit_code = 2


class UnreachableError(HostError):
    """The droplet does not answer, or answers with a host key that is not the pinned one."""

    exit_code = 3


class ConvergeError(HostError):
    """A command on the droplet failed."""

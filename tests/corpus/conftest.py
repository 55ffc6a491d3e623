"""The fixtures of the ops tests, for the odd inputs here."""

from tests.ops.conftest import *  # noqa: F403  # pytest finds fixtures by their names in this module

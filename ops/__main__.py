"""`python -m ops`."""

from __future__ import annotations

from ops.cli.app import main

if __name__ == "__main__":
    main()

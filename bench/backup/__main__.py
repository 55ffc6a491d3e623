"""`python -m bench.backup`."""

from __future__ import annotations

from bench.backup.cli import main

if __name__ == "__main__":
    main()

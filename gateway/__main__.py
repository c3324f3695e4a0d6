# SPDX-License-Identifier: GPL-3.0-or-later
"""Start here: `trailgate` and `python -m gateway` are this."""

from gateway.admin.cli import root


def main() -> None:
    """The command line."""
    root(prog_name="trailgate")


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: GPL-3.0-or-later
"""Long tests: kill -9 under load, a COPY of gigabytes, clients' own test suites. `make soak`."""

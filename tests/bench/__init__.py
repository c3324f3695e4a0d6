# SPDX-License-Identifier: GPL-3.0-or-later
"""Benchmarks: the gateway against the direct connection and against peers, in one run."""

# SPDX-License-Identifier: GPL-3.0-or-later
"""Trailgate: the Layer-7 gateway between automation agents and the systems they work on."""

__version__ = "0.1.0"

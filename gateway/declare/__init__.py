# SPDX-License-Identifier: GPL-3.0-or-later
"""Declaring objects while the gateway runs: one whole set, checked, recorded, kept, in force."""

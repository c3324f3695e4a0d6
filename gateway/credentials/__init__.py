# SPDX-License-Identifier: GPL-3.0-or-later
"""The vault: secrets of targets, sealed under a master key, and their rotation."""

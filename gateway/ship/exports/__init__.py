# SPDX-License-Identifier: GPL-3.0-or-later
"""The record in forms that other tools read: OCSF events, asciicast v2."""

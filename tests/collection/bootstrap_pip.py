# SPDX-License-Identifier: GPL-3.0-or-later
"""Brings pip into the environments that ansible-test makes, where it cannot download its own way.

ansible-test looks for a script of this kind in its cache before it downloads one, and calls it with
pip's arguments.
"""

import ensurepip
import os
import subprocess
import sys

NOT_PIPS = ("--no-setuptools", "--no-wheel")

if __name__ == "__main__":
    ensurepip.bootstrap(default_pip=True)
    os.environ.pop("PIP_CONFIG_FILE", None)
    wanted = [word for word in sys.argv[1:] if word not in NOT_PIPS]
    sys.exit(subprocess.call([sys.executable, "-m", "pip", "install", *wanted]))

# SPDX-License-Identifier: GPL-3.0-or-later
"""The auditor's verifier: reads evidence as docs/evidence-format.md says and trusts nothing in it.

Stands alone: it shares no code with what wrote the evidence and imports nothing else of this
package. `run.verify` is the entrance; `__main__` is the command `trailgate-verify`.
"""

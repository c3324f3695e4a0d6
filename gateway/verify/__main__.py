# SPDX-License-Identifier: GPL-3.0-or-later
"""The command `trailgate-verify`: the verifier alone, for auditors. No click, no gateway."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gateway.verify.findings import CannotCheck, Findings
from gateway.verify.proof import verify_proof
from gateway.verify.report import in_words, proof_in_words, terminal_progress
from gateway.verify.run import Request, verify

_EPILOG = """\
exit status: 0 sound, 1 a defect was found, 2 could not be checked or something is unresolved

example: trailgate-verify /mnt/evidence --trust auditor.vkeys -o json"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="trailgate-verify",
        description="Verify the record of a Trailgate gateway, offline and with public keys only.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("path", metavar="PATH", nargs="?", help="data or evidence folder, or s3://BUCKET/PREFIX")
    add("--proof", type=Path, metavar="FILE", help="check one tlog-proof; no PATH is needed")
    add(
        "--trust",
        type=Path,
        metavar="FILE",
        help="what to trust: a C2SP policy, vkeys, or a witness's folder",
    )
    add("--as-of", metavar="TIME", help="when the evidence was copied: it must reach to this time")
    add("--fork", metavar="PATH", help="compare with what another auditor, or a witness, was shown")
    add("--lake", metavar="PLACE", help="compare a lake (a folder or s3://) with the evidence")
    add("--identity", type=Path, metavar="FILE", help="private key: open and check all content")
    add("--session", metavar="ID", help="only this session")
    add("--since", metavar="TIME", help="only sessions that were open at or after this time")
    add("--until", metavar="TIME", help="only sessions that were open at or before this time")
    add("--keys", metavar="PLACE", help="wrapped keys, when they are not where README.json says")
    add("--endpoint-url", metavar="URL", help="S3 other than Amazon's")
    add("--region", metavar="NAME", help="S3 region")
    add("-o", "--output", choices=("text", "json"), default="text", help="how to print")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the return value is the exit status."""
    options = vars(_parser().parse_args(arguments))
    output = options.pop("output")
    return run_options(options, as_json=output == "json")


def run_options(options: dict[str, Any], as_json: bool) -> int:
    """What the command line asks for; the exit status."""
    proof = options.pop("proof")
    if (proof is None) == (options["path"] is None):
        cure = "name the record's PATH, or one proof: --proof FILE"
        _tell(CannotCheck("what is to be checked?", cure))
        return 2
    if proof is not None:
        return _run_proof(proof, options["trust"], as_json)
    return run(Request(**options), as_json)


def _tell(error: CannotCheck) -> None:
    print(f"cannot check: {error}", file=sys.stderr)
    if error.cure:
        print(f"  next: {error.cure}", file=sys.stderr)


def _run_proof(proof: Path, trust: Path | None, as_json: bool) -> int:
    try:
        document = verify_proof(proof, trust)
    except CannotCheck as error:
        _tell(error)
        return 2
    print(json.dumps(document) if as_json else proof_in_words(document))
    return 1 if document["defects"] else 2 if document["unresolved"] else 0


def run(request: Request, as_json: bool) -> int:
    """Verify and print; the exit status."""
    watched = sys.stderr.isatty()
    try:
        findings = verify(request, terminal_progress(sys.stderr) if watched else None)
    except CannotCheck as error:
        _tell(error)
        if as_json:
            print(json.dumps(Findings(unresolved=[str(error)]).document()))
        return 2
    if watched:
        print("\r\033[K", end="", file=sys.stderr, flush=True)
    print(json.dumps(findings.document()) if as_json else in_words(findings))
    return findings.exit_code


if __name__ == "__main__":
    sys.exit(main())

# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of the commands that read a record: where it lies, and the key that opens it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from gateway.admin.cli.output import Failed, visible

if TYPE_CHECKING:
    from gateway.admin.cli._reading import Recorded

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class RecordOptions:
    """Where the record lies; `data` None: nowhere was named."""

    data: str | None
    keys: str | None
    endpoint_url: str | None
    region: str | None
    trust: str | None = None
    """What `proved_to` is judged by: as of `trailgate verify`."""
    as_of: str | None = None

    def opened(self, identity: Path | None = None) -> Recorded:
        """Open it, by DATA/auditor/identity where no other is named. Raises Failed."""
        if self.data is None:
            cure = "name a data folder or a bucket: --data DIR|s3://BUCKET/PREFIX (or set "
            raise Failed("which record?", cure + "TRAILGATE_DATA)")
        # Reading a lake needs neither: they would be most of the command's start.
        from gateway.admin.cli._reading import Recorded
        from gateway.record.places import Reach

        place: Path | str = self.data if self.data.startswith("s3://") else Path(self.data)
        return Recorded.opened(
            place,
            identity or self.own_identity(),
            reach=Reach(self.keys, self.endpoint_url, self.region),
        )

    def refuse_with_lake(self) -> None:
        """A lake says itself how far it was proved. Raises Failed."""
        if self.trust is not None or self.as_of is not None:
            cure = "give --trust and --as-of to trailgate audit rebuild-lake"
            raise Failed("--lake was judged when it was built, not now", cure)

    def own_identity(self) -> Path | None:
        """The key that lies in a data folder on whose machine everything is: DATA/auditor."""
        if self.data is None or self.data.startswith("s3://"):
            return None
        default = Path(self.data) / "auditor" / "identity"
        return default if default.is_file() else None


_OPTIONS = (
    click.option(
        "--data",
        envvar="TRAILGATE_DATA",
        help="The gateway's data folder, an evidence folder, or s3://BUCKET/PREFIX.",
    ),
    click.option("--keys", help="Wrapped keys, when they are not where README.json says."),
    click.option("--endpoint-url", help="S3 other than Amazon's."),
    click.option("--region", help="S3 region."),
)


trust_option = click.option(
    "--trust",
    type=click.Path(),
    help="What to trust: a C2SP policy, vkeys, or a witness's folder.",
)
_as_of_option = click.option(
    "--as-of", help="When the evidence was copied: it must reach to this time."
)


def judged_options(command: F) -> F:
    """--trust and --as-of, by which `proved_to` is judged."""
    return trust_option(_as_of_option(command))


def record_options(command: F) -> F:
    """--data, --keys, --endpoint-url and --region; see `RecordOptions`."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def warn_of(recorded: Recorded) -> None:
    """Say on standard error what was left out."""
    for note in recorded.notes:
        click.echo(f"warning: {visible(note)}", err=True)
    if recorded.notes:
        click.echo("  next: trailgate verify says what is wrong with this record", err=True)

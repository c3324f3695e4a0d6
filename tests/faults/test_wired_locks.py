# SPDX-License-Identifier: GPL-3.0-or-later
"""Object Lock from settings and objects to the store, by the wiring that `serve` uses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from gateway.config import load_settings
from gateway.record.declared import FOR_EVER, Retention
from gateway.record.recorder import NodeRecorder
from gateway.verify.run import Request, verify
from gateway.wiring.evidence import opened_evidence
from tests.faults.strict_s3 import EVIDENCE, KEYS, StrictS3
from tests.faults.test_s3_faults import s3 as s3_fixture
from tests.record.place import Place

pytestmark = pytest.mark.fault
s3 = s3_fixture

SETTINGS = """\
data: data
node: gw1
evidence:
  to: s3://{evidence}/site
  keys: s3://{keys}/site
  endpoint: {url}
  region: us-east-1
  lock: {{mode: governance, days: 100, keys_days: 3}}
"""


@pytest.mark.parametrize(
    ("retention", "days"), [(FOR_EVER, 100), (Retention("default", 30, 7), 30)]
)
async def test_a_retention_goes_before_the_settings_and_keys_have_a_short_lock(
    tmp_path: Path, s3: StrictS3, retention: Retention, days: int
) -> None:
    text = SETTINGS.format(evidence=EVIDENCE, keys=KEYS, url=s3.url)
    settings, _ = load_settings(tmp_path / "trailgate.yaml", text)
    place = Place(tmp_path)
    async with opened_evidence(settings, retention) as evidence:
        options = place.options(
            publish=evidence.publish, keys_url=evidence.keys_url, keys_elsewhere=evidence.mirror
        )
        recorder = await NodeRecorder.start(replace(options, evidence=evidence.folder))
        await recorder.keeping.put_in_force({}, retention)
        session = await recorder.open({"target": "t"})
        await session.close("client", {})
        await recorder.stop(60.0)
    found = {bucket: set[int]() for bucket in (EVIDENCE, KEYS)}
    for (bucket, _, _), until in s3.locks.items():
        found[bucket].add(round((until - s3.now).total_seconds() / 86400))
    assert found == {EVIDENCE: {days}, KEYS: {3}}
    assert {mode for mode, _ in s3.latest.values()} == {"GOVERNANCE"}
    assert s3.refused == []
    read = [one for one in s3.seen if one.method == "GET" and "/seg/" in one.key]
    assert read, "another endpoint than Amazon's is read back"
    request = Request(
        f"s3://{EVIDENCE}/site", endpoint_url=s3.url, identity=place.auditor / "identity"
    )
    findings = verify(request)
    assert (findings.defects, findings.content) == ([], "opened")

# SPDX-License-Identifier: GPL-3.0-or-later
"""The OpenAPI document: valid, whole, true to the types; and schemathesis over all of it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args, get_type_hints

import openapi_spec_validator
import pytest
import yaml
from openapi_schema_validator import OAS31Validator

from gateway.admin.api.app import build_api
from gateway.admin.api.described import CALLS
from gateway.admin.api.openapi import calls_of, document
from gateway.config.documents import secret_keys
from gateway.config.objects import KINDS
from gateway.config.reading import key_of
from gateway.config.values import Secret
from gateway.declare.orders import BY_PLURAL
from gateway.protocols import discover
from tests.declare.conftest import World
from tests.pages import OBJECTS, blocks

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "use_after_free",
    "ensure_resource_availability",
)


def made() -> dict[str, Any]:
    class Nothing:
        """The routes are asked for, nothing is called."""

    return document(build_api(Nothing()).routes)  # type: ignore[arg-type]


def test_it_is_valid_and_has_every_call() -> None:
    class Nothing:
        """As above."""

    openapi_spec_validator.validate(made())
    offered = {f"{method} {path}" for method, path, _ in calls_of(build_api(Nothing()).routes)}  # type: ignore[arg-type]
    assert offered == set(CALLS)
    paths = made()["paths"]
    for kinds in BY_PLURAL:
        assert set(paths[f"/api/v1/{kinds}"]) == {"get"}
        assert set(paths[f"/api/v1/{kinds}/{{name}}"]) == {"get", "put", "delete"}


def test_documents_have_the_fields_of_their_types_and_of_protocols() -> None:
    schemas = made()["components"]["schemas"]
    for kind in KINDS:
        found = schemas[kind.title().replace("_", "") + "Document"]
        own = {key_of(item) for item in KINDS[kind].__dataclass_fields__.values()}
        if kind == "target":
            own |= set(discover()["postgresql"].options.__dataclass_fields__)
        assert set(found["properties"]) == own and found["additionalProperties"] is False


def test_the_documented_objects_fit_their_schemas() -> None:
    whole = made()
    (block,) = blocks(OBJECTS, "yaml")
    for one in yaml.safe_load_all(block.text.replace("2026-10-01, to: 2026-11-01", "x, to: x")):
        kind = next(iter(one))
        schema = whole["components"]["schemas"][kind.title().replace("_", "") + "Document"]
        OAS31Validator(schema).validate(one)


def test_every_secret_is_a_member_of_the_document_itself() -> None:
    """What is nested would not be taken out before a document is kept."""

    def holds(kind: Any, seen: frozenset[Any] = frozenset()) -> bool:
        if kind is Secret:
            return True
        inner = get_type_hints(kind).values() if hasattr(kind, "__dataclass_fields__") else ()
        if kind in seen:
            return False
        return any(holds(one, seen | {kind}) for one in (*get_args(kind), *inner))

    for kind, type_ in KINDS.items():
        for name, hint in get_type_hints(type_).items():
            assert holds(hint) == (name.rstrip("_") in secret_keys(kind)), (kind, name)
    assert secret_keys("credential") == {"secret"}


@pytest.mark.slow
@pytest.mark.timeout(400)
async def test_schemathesis_finds_nothing(world: World) -> None:
    reports = world.folder / "st.log"
    command = [
        str(Path(sys.executable).parent / "st"),
        "run",
        f"{world.gateway.url}/api/v1/openapi.json",
        "-H",
        f"authorization: Bearer {world.token('ada', 'admins')}",
        "--checks",
        ",".join(CHECKS),
        "--max-examples",
        "5",
        "--seed",
        "1",
        "--phases",
        "examples,coverage,fuzzing",
        "--suppress-health-check",
        "all",
        "--request-timeout",
        "30",
        "--no-color",
    ]
    with reports.open("wb") as out:
        done = await asyncio.to_thread(
            subprocess.run, command, cwd=world.folder, stdout=out, stderr=out, timeout=380
        )
    assert done.returncode == 0, reports.read_text()[-20_000:]

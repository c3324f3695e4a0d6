# SPDX-License-Identifier: GPL-3.0-or-later
"""Admission: from a grant and a client's wishes to a session, or to a refusal that says why."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.model import Credential, Refused, Target, Tls
from gateway.protocols import Present
from gateway.proxy.admission import Admission, admit, opening
from gateway.proxy.services import ListenSpec
from tests.proxy.fakes import GRANT, FakeCatalog, FakePolicy

ORDERS = Target(
    "orders",
    "lines",
    "127.0.0.1",
    5432,
    ("app", "report"),
    databases=("shop", "stock"),
    tls=Tls("disable"),
)
CREDENTIALS = {
    "app": Credential("app", "app", "trust", "s3cret"),
    "report": Credential("report", "reader", "trust", "s3cret"),
}
OWN = ListenSpec("lines", "127.0.0.1", 0, "orders")
SHARED = ListenSpec("lines", "127.0.0.1", 0, None)


def enter(
    user: str = "app",
    database: str = "shop",
    *,
    spec: ListenSpec = OWN,
    target: Target = ORDERS,
    chain: bool = True,
    known: dict[str, Credential] | None = None,
    documents: int = 1,
) -> Admission:
    catalog = FakeCatalog({target.name: target}, CREDENTIALS if known is None else known)
    policy = FakePolicy(documents=[{"name": "p"}] * documents)
    grant = GRANT if chain else replace(GRANT, chain=())
    present = Present("token", user, database, labels=(("application_name", "x"),))
    return admit(catalog, policy, spec, present, grant, "127.0.0.1:9")


def refused(**wishes: object) -> tuple[str, str]:
    with pytest.raises(Refused) as caught:
        enter(**wishes)  # type: ignore[arg-type]
    return caught.value.refusal.code, caught.value.refusal.reason


def test_a_session_has_no_id_before_the_record_gives_one() -> None:
    session = enter().session
    assert (session.id, session.ordinal, session.user, session.database) == ("", 0, "app", "shop")
    assert session.client == "127.0.0.1:9"


def test_on_a_shared_listener_the_database_names_the_target() -> None:
    assert enter(database="orders/stock", spec=SHARED).session.database == "stock"
    assert enter(database="orders", spec=SHARED).session.database == "shop", "the first that is"


@pytest.mark.parametrize(
    ("database", "spec"),
    [
        ("secret", OWN),
        ("orders/secret", SHARED),
        ("shop", SHARED),
        ("", SHARED),
        ("orders/shop/more", SHARED),
        ("ORDERS/shop", SHARED),
    ],
)
def test_what_is_not_listed_does_not_exist(database: str, spec: ListenSpec) -> None:
    assert refused(database=database, spec=spec)[0] == "unknown_target"


def test_a_target_without_a_list_is_open_on_its_own_listener_only() -> None:
    bare = replace(ORDERS, databases=())
    assert enter(database="any", target=bare).session.database == "any"
    assert refused(database="orders/any", target=bare, spec=SHARED)[0] == "unknown_target"
    star = replace(ORDERS, databases=("*",))
    assert enter(database="orders/any", target=star, spec=SHARED).session.database == "any"


def test_a_listener_gives_targets_of_its_own_protocol_only() -> None:
    assert refused(spec=ListenSpec("other", "127.0.0.1", 0, "orders"))[0] == "unknown_target"


def test_the_user_chooses_the_credential() -> None:
    assert enter("reader").credential.name == "report"
    assert enter("app").credential.name == "app"
    code, reason = refused(user="root")
    assert code == "wrong_user" and "root" in reason


def test_any_user_gets_the_first_credential_where_the_target_says_so() -> None:
    admission = enter("somebody", target=replace(ORDERS, users="any"))
    assert admission.credential.name == "app"
    assert admission.session.user == "somebody"


def test_a_target_without_a_credential_is_not_ready() -> None:
    code, reason = refused(known={})
    assert code == "target" and "s3cret" not in reason


def test_a_person_alone_needs_a_target_that_takes_persons() -> None:
    assert refused(chain=False, target=replace(ORDERS, direct=False))[0] == "denied"
    assert enter(chain=False, target=replace(ORDERS, direct=True)).session.grant.chain == ()


def test_without_a_policy_nobody_comes_in() -> None:
    assert refused(documents=0) == ("denied", "no policy gives access to orders")


def test_the_open_frame_has_the_whole_chain_and_no_secret() -> None:
    meta = opening(enter(), "lines", "node1")
    assert meta["origin"]["subject"] == "00u1"
    assert [hop["name"] for hop in meta["chain"]] == ["reader"]
    assert meta["labels"] == {"application_name": "x"}
    assert meta["opened"].endswith("Z")
    assert "s3cret" not in str(meta) and "token" not in str(meta)

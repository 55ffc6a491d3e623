"""Documents: every secret in one is known, so that it can be taken out of what is printed."""

from __future__ import annotations

import logging

from pydantic import SecretStr

from blueprint.outputs import BucketKey, OutputSecrets
from host.converge import _Log
from host.documents import DatabaseGrants, FirstContact, Grants, revealed, secrets_of

KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\nCANARY-line-of-the-key\n-----END OPENSSH PRIVATE KEY-----\n"
PUBLIC = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEDj0m0v1V5gqf3v2pJmB0q1m4bQ2yqk0cQW1Zk3p0aB"
SECRETS = OutputSecrets(
    database_password=SecretStr("CANARY-password"),
    backup_keys={"near": BucketKey(access_key="AKIA", secret_key=SecretStr("CANARY-bucket"))},
    notifications=[SecretStr("CANARY-address")],
    app={"JWT": SecretStr("CANARY-variable")},
)


def test_secrets_are_found_in_lists_mappings_and_groups():
    assert set(secrets_of(SECRETS)) == {
        "CANARY-password",
        "CANARY-bucket",
        "CANARY-address",
        "CANARY-variable",
    }


def test_a_revealed_model_is_read_back_as_it_was():
    values = revealed(SECRETS)
    assert values["app"] == {"JWT": "CANARY-variable"}
    assert values["backup_keys"] == {"near": {"access_key": "AKIA", "secret_key": "CANARY-bucket"}}
    assert OutputSecrets.model_validate(values) == SECRETS


def test_no_secret_of_any_document_is_in_an_error():
    login = {"address": "192.0.2.1", "user": "deploy", "deploy_key": SecretStr(KEY), "host_key": PUBLIC}
    documents = [
        FirstContact(**login, bootstrap_host_key=PUBLIC, host_key_private=SecretStr("CANARY-host-key")),
        Grants(
            **login,
            database=DatabaseGrants(
                private_host="db",
                port=1,
                admin_user="a",
                admin_password=SecretStr("CANARY-admin"),
                ca_certificate="PEM",
                databases=("app",),
                user="app",
            ),
        ),
    ]
    for document in documents:
        log = _Log(document)
        for secret in ("CANARY-host-key", "CANARY-admin", "CANARY-line-of-the-key"):
            log.emit(logging.makeLogRecord({"msg": f"failed: {secret}", "levelno": logging.ERROR}))
        own = "CANARY-host-key" if isinstance(document, FirstContact) else "CANARY-admin"
        assert own not in log.text()
        assert "CANARY-line-of-the-key" not in log.text(), "a line of the key alone"
        assert "[secret]" in log.text()

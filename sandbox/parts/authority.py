"""The certificate authority that signs every database and every sandbox name.

One for each person and machine, in the cache folder: its certificate is baked into the local images they share.
"""

from __future__ import annotations

import datetime as dt
import fcntl
import ipaddress
import os
from functools import cached_property
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from sandbox.parts.base import PartError
from sandbox.parts.docker import File
from sandbox.parts.instance import write_private

YEARS = 10
LEAF_DAYS = 397
"""As public authorities: a client may refuse longer ones (CA/Browser Forum, baseline requirements 6.3.2)."""
RENEW_DAYS = 300
"""A container with a certificate is made again after so long, with a new one."""

MACHINE_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)


def cache_folder() -> Path:
    """`$ANCLA_CACHE`, else `$XDG_CACHE_HOME/ancla`, else `~/.cache/ancla`."""
    chosen = os.environ.get("ANCLA_CACHE")
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ancla"


class Authority:
    """Signs certificates; made on first use. The key never leaves its folder (0700, file 0600)."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or cache_folder() / "sandbox-authority"

    @cached_property
    def _pair(self) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        both = self.folder / "authority.pem"
        with (self.folder / ".lock").open("w", encoding="utf-8") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # two sandboxes may start at once
            if not both.exists():
                write_private(both, _make_authority())
        text = both.read_bytes()
        key = serialization.load_pem_private_key(text, password=None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise PartError(f"{both}: not an elliptic curve key; remove the file and start again")
        return x509.load_pem_x509_certificate(text), key

    def certificate(self) -> str:
        """The authority's own certificate, PEM."""
        return self._pair[0].public_bytes(serialization.Encoding.PEM).decode()

    def issue(self, names: tuple[str, ...]) -> tuple[str, str]:
        """Sign a server certificate for DNS names or IP addresses; returns (chain, private key) in PEM."""
        authority, authority_key = self._pair
        key = ec.generate_private_key(ec.SECP256R1())
        now = dt.datetime.now(dt.UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])]))
            .issuer_name(authority.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(hours=1))
            .not_valid_after(now + dt.timedelta(days=LEAF_DAYS))
            .add_extension(x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False
            )
            .sign(authority_key, hashes.SHA256())
        )
        return certificate.public_bytes(serialization.Encoding.PEM).decode() + self.certificate(), _private_pem(key)

    def files(self, folder: str, names: tuple[str, ...]) -> list[File]:
        """Sign a certificate and return it and its key as files of a folder."""
        chain, key = self.issue(names)
        return [File(path=f"{folder}/cert.pem", text=chain), File(path=f"{folder}/key.pem", text=key, mode=0o600)]

    def bundle(self) -> str:
        """This machine's trusted certificates and the authority's, PEM: what SSL_CERT_FILE may point at."""
        for name in (os.environ.get("ANCLA_MACHINE_BUNDLE", ""), *MACHINE_BUNDLES):
            if name and Path(name).is_file():
                return Path(name).read_text(encoding="utf-8").rstrip() + "\n" + self.certificate()
        return self.certificate()


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _private_pem(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def _make_authority() -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Ancla sandbox authority")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=365 * YEARS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(
            x509.KeyUsage(
                digital_signature=True,
                key_cert_sign=True,
                crl_sign=True,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return _private_pem(key) + certificate.public_bytes(serialization.Encoding.PEM).decode()

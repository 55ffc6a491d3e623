"""Store and read documents with their signatures: `NAME` and `NAME.sig`, the signature first."""

from __future__ import annotations

from ops.core.errors import ObjectMissingError
from ops.core.signing import SIGNATURE_LIMIT, SIGNATURE_SUFFIX, Signed
from ops.repository.stores.base import Store


def put_signed(store: Store, key: str, document: Signed) -> None:
    """Store a document after its signature, so that a document never lacks its signature.

    Raises:
        StoreError: the store refused.
    """
    if document.signature is not None:
        store.put_bytes(key + SIGNATURE_SUFFIX, document.signature)
    store.put_bytes(key, document.content)


def read_signed(store: Store, key: str, *, limit: int) -> Signed:
    """Read a document, at most one byte more than `limit`, and its signature.

    Raises:
        ObjectMissingError: there is no such document.
        StoreError: the store does not answer.
    """
    with store.open(key) as body:
        content = body.read(limit + 1)
    try:
        with store.open(key + SIGNATURE_SUFFIX) as body:
            return Signed(content=content, signature=body.read(SIGNATURE_LIMIT + 1))
    except ObjectMissingError:
        return Signed(content=content)

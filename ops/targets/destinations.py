"""Map a stack to its stores: the destinations of backups, and the app's buckets."""

from __future__ import annotations

from ops.core.errors import StackError
from ops.repository.stores.base import Store
from ops.repository.stores.s3 import S3Store
from ops.stack.outputs import LoadedStack


def app_bucket(stack: LoadedStack, name: str, prefix: str) -> S3Store:
    """Return a bucket of the app under a prefix, by its name in the stack file.

    Raises:
        StackError: the stack has none of that name, or its key pair is not in the outputs.
    """
    known, key = stack.outputs.buckets, stack.secrets.bucket_keys.get(name)
    if name not in known:
        raise StackError(f"{stack.name}: there is no bucket {name}; there are: {', '.join(known) or 'none'}")
    if key is None:
        raise StackError(f"{stack.name}: secrets.bucket_keys.{name}: not in the outputs; run `pulumi up`")
    return S3Store(known[name].bucket.model_copy(update={"prefix": prefix}), key)


def stores(stack: LoadedStack) -> dict[str, Store]:
    """Return the stack's stores for backups by bucket name, in their order.

    Raises:
        StackError: there is none, two have one name, or a key pair is missing.
    """
    destinations = stack.outputs.backup.destinations
    if not destinations:
        raise StackError(f"{stack.name}: backup.destinations is empty; name a bucket there and run `pulumi up`")
    buckets = [bucket.name for bucket in destinations]
    for name in sorted({name for name in buckets if buckets.count(name) > 1}):
        raise StackError(f"{stack.name}: backup.destinations: two of them have the bucket {name}; use another bucket")
    if len(stack.secrets.backup_keys) < len(destinations):
        raise StackError(f"{stack.name}: secrets.backup_keys: fewer key pairs than destinations; run `pulumi up`")
    return {
        bucket.name: S3Store(bucket, key) for bucket, key in zip(destinations, stack.secrets.backup_keys, strict=False)
    }


def store(stack: LoadedStack, name: str | None = None) -> Store:
    """Return one store: by bucket name, or the first one.

    Raises:
        StackError: no destination by that name.
    """
    known = stores(stack)
    if name is None:
        return next(iter(known.values()))
    if name not in known:
        raise StackError(f"{stack.name}: no backup destination {name}; there are: {', '.join(known)}")
    return known[name]

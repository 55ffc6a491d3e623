"""Map a stack to its stores: the destinations of backups, and the app's buckets."""

from __future__ import annotations

from blueprint.settings.backup import RetentionSettings
from ops.core.errors import StackError
from ops.repository.stores.base import Store
from ops.repository.stores.s3 import S3Store, address
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
    """Return the stack's stores for backups by the names of their destinations, in their order.

    Raises:
        StackError: there is none, two have one bucket, or a key pair is missing.
    """
    destinations = stack.outputs.backup.destinations
    if not destinations:
        raise StackError(f"{stack.name}: backup.destinations is empty; name a bucket there and run `pulumi up`")
    buckets = [bucket.name for bucket in destinations.values()]
    for name in sorted({name for name in buckets if buckets.count(name) > 1}):
        raise StackError(f"{stack.name}: backup.destinations: two of them have the bucket {name}; use another bucket")
    keys = stack.secrets.backup_keys
    for name in destinations:
        if name not in keys:
            raise StackError(f"{stack.name}: secrets.backup_keys.{name}: not in the outputs; run `pulumi up`")
    return {name: S3Store(bucket, keys[name]) for name, bucket in destinations.items()}


def retention(stack: LoadedStack, store: Store) -> RetentionSettings:
    """Return which backups stay in a store: the last ones alone where its destination says how many."""
    backup = stack.outputs.backup
    number = next((each.keep_last for each in backup.destinations.values() if address(each) == store.name), None)
    if number is None:
        return backup.retention
    rules = dict.fromkeys(("hourly", "daily", "weekly", "monthly", "yearly"), 0)
    return backup.retention.model_copy(update={**rules, "keep_last": number})


def store(stack: LoadedStack, name: str | None = None) -> Store:
    """Return one store: by the destination's name or the bucket's, or the first one.

    Raises:
        StackError: no destination by that name.
    """
    known = stores(stack)
    if name is None:
        return next(iter(known.values()))
    of_bucket = {bucket.name: title for title, bucket in stack.outputs.backup.destinations.items()}
    found = known.get(name) or known.get(of_bucket.get(name, ""))
    if found is None:
        raise StackError(f"{stack.name}: no backup destination {name}; there are: {', '.join(known)}")
    return found

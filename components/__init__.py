"""Component resources for DigitalOcean, one a file; any Pulumi program can use those that are named here.

Type tokens are `ancla:index:Class`. They are an API: a changed one needs an alias.
"""

from components.app_droplet import AppDroplet, AppDropletArgs
from components.asset_bucket import AssetBucketWithCDN, AssetBucketWithCDNArgs
from components.dns_zone import DnsZone, DnsZoneArgs
from components.managed_database import ManagedDatabase, ManagedDatabaseArgs

__all__ = [
    "AppDroplet",
    "AppDropletArgs",
    "AssetBucketWithCDN",
    "AssetBucketWithCDNArgs",
    "DnsZone",
    "DnsZoneArgs",
    "ManagedDatabase",
    "ManagedDatabaseArgs",
]

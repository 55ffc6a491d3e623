"""A droplet, a database, a bucket behind a CDN and a zone, by Ancla's components with the least arguments."""

import pulumi

from components import (
    AppDroplet,
    AppDropletArgs,
    AssetBucketWithCDN,
    AssetBucketWithCDNArgs,
    DnsZone,
    DnsZoneArgs,
    ManagedDatabase,
    ManagedDatabaseArgs,
)

config = pulumi.Config()
region = config.get("region") or "nyc3"
domain = config.require("domain")
stem = f"{pulumi.get_project()}-{pulumi.get_stack()}"

app = AppDroplet(f"{stem}-app", AppDropletArgs(region=region))
database = ManagedDatabase(f"{stem}-db", ManagedDatabaseArgs(region=region, trusted_droplets=[app.droplet_id]))
zone = DnsZone(f"{stem}-zone", DnsZoneArgs(domain=domain, names={"@": app.address, "www": app.address}))
assets = AssetBucketWithCDN(
    f"{stem}-assets", AssetBucketWithCDNArgs(region=region, domain=f"assets.{domain}", zone=zone.domain)
)

pulumi.export("address", app.address)
pulumi.export("ssh", pulumi.Output.concat(app.user, "@", app.address))
pulumi.export("host_key", app.host_key)
pulumi.export("deploy_key", app.deploy_key)
pulumi.export("database_host", database.private_host)
pulumi.export("database_password", database.password)
pulumi.export("assets", assets.url)
pulumi.export("name_servers", zone.name_servers)

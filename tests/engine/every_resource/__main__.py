"""One of each resource that the stand-in has, in three steps: made, changed in place, changed again (some replaced)."""

from __future__ import annotations

import json
import os

import pulumi
import pulumi_command as command
import pulumi_digitalocean as do

STEP = int(os.environ["STEP"])
FIRST = STEP == 1
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEiR8CLqQqx+I3zSGKoXmfNwMs5J0wk9Raw/hLjTpD0r me"
WORLD = ["0.0.0.0/0", "::/0"]
MAILS = {"emails": ["sandbox@example.com"]}

key = do.SshKey("key", public_key=KEY, name=None if FIRST else "renamed")
vpc = do.Vpc("net", region="nyc3", description="first" if FIRST else "second")
role = do.Tag("role", name="web")
do.Tag("other", name="one" if STEP < 3 else "two")
droplet = do.Droplet(
    "web",
    image="ubuntu-24-04-x64",
    size="s-1vcpu-1gb" if FIRST else "s-1vcpu-2gb",
    region="nyc3",
    ssh_keys=[key.fingerprint],
    vpc_uuid=vpc.id,
    monitoring=True,
    name="web-1" if STEP < 3 else "web-one",
    tags=["alpha", "beta", "gamma", role.name] if STEP < 3 else ["beta", "delta", role.name],
    user_data=pulumi.Output.secret("#cloud-config\n"),
    backups=STEP < 3,
    backup_policy={"plan": "weekly" if FIRST else "daily", "weekday": "SUN", "hour": 4} if STEP < 3 else None,
    droplet_agent=False,
)
plain = do.Droplet("plain", image="debian-12-x64", size="s-1vcpu-1gb", region="nyc3", user_data=f"step {STEP // 3}")
number = droplet.id.apply(int)
do.Firewall(
    "edge",
    tags=[role.name],
    droplet_ids=[number],
    inbound_rules=[
        *(
            {"protocol": "tcp", "port_range": port, "source_addresses": WORLD}
            for port in (("22", "80", "443") if FIRST else ("22", "443"))
        ),
        {"protocol": "icmp", "source_addresses": ["0.0.0.0/0"]},
    ],
    outbound_rules=[
        {"protocol": "tcp", "port_range": "all", "destination_addresses": WORLD},
        {"protocol": "udp", "port_range": "1-65535", "destination_addresses": WORLD},
        {"protocol": "tcp", "port_range": "9000", "destination_tags": [role.name]},
    ],
)
ip = do.ReservedIp("ip", region="nyc3")
do.ReservedIp("other-ip", region="nyc3", droplet_id=plain.id.apply(int) if FIRST else None)
volume = do.Volume("disk", region="nyc3", size=10 if FIRST else 20, initial_filesystem_type="ext4", tags=["disks"])
attached = do.VolumeAttachment("attached", droplet_id=number, volume_id=volume.id)
# One after the other: a droplet does one thing at a time, and the official provider does not wait here.
do.ReservedIpAssignment(
    "assigned", ip_address=ip.ip_address, droplet_id=number, opts=pulumi.ResourceOptions(depends_on=[attached])
)

domain = do.Domain("zone", name="example.org")
do.DnsRecord("apex", domain=domain.name, type="A", name="@", value=ip.ip_address, ttl=300 if FIRST else 600)
do.DnsRecord("www", domain=domain.name, type="CNAME", name="www", value="example.org.", ttl=300)
do.DnsRecord("mail", domain=domain.name, type="MX", name="@", value="mail.example.org.", priority=10, ttl=300)
do.DnsRecord("text", domain=domain.name, type="TXT", name="@", value="v=spf1 -all")
do.DnsRecord("caa", domain=domain.name, type="CAA", name="@", value="letsencrypt.org.", flags=0, tag="issue")
do.DnsRecord(
    "service",
    domain=domain.name,
    type="SRV",
    name="_sip._tcp",
    value="sip.example.org.",
    priority=1,
    weight=2,
    port=5060,
)
certificate = do.Certificate("own", **json.loads(os.environ["CERTIFICATE"]))

WEB = {"entry_protocol": "http", "entry_port": 80, "target_protocol": "http", "target_port": 8080}
do.LoadBalancer(
    "front",
    region="nyc3",
    vpc_uuid=vpc.id,
    droplet_ids=[number] if FIRST else None,
    droplet_tag=None if FIRST else role.name,
    forwarding_rules=[
        WEB,
        {**WEB, "entry_protocol": "https", "entry_port": 443, "certificate_name": certificate.name},
        *([] if FIRST else [{**WEB, "entry_protocol": "tcp", "entry_port": 5432, "target_protocol": "tcp"}]),
    ],
    healthcheck={"protocol": "http", "port": 8080, "path": "/health", "check_interval_seconds": 5 if FIRST else 10},
    sticky_sessions={"type": "cookies", "cookie_name": "LB", "cookie_ttl_seconds": 300 if STEP < 3 else 600},
    redirect_http_to_https=not FIRST,
    size_unit=1 if FIRST else 2,
)

cluster = do.DatabaseCluster(
    "pg",
    engine="pg",
    version="15",
    size="db-s-1vcpu-1gb" if FIRST else "db-s-1vcpu-2gb",
    region="nyc3",
    node_count=1,
    private_network_uuid=vpc.id,
    tags=[role.name],
    maintenance_windows=[{"day": "sunday", "hour": "02:00" if FIRST else "03:00"}],
)
database = do.DatabaseDb("app", cluster_id=cluster.id, name="app")
user = do.DatabaseUser("app", cluster_id=cluster.id, name="app")
do.DatabaseConnectionPool(
    "pool",
    cluster_id=cluster.id,
    name="pool",
    mode="transaction",
    size=5 if FIRST else 6,
    db_name=database.name,
    user=user.name,
)
do.DatabaseFirewall(
    "trusted",
    cluster_id=cluster.id,
    rules=[
        {"type": "tag", "value": role.name},
        {"type": "ip_addr", "value": "10.1.2.3"},
        *([] if FIRST else [{"type": "ip_addr", "value": "10.1.2.4"}]),
    ],
)
do.DatabasePostgresqlConfig(
    "config", cluster_id=cluster.id, work_mem=4 if FIRST else 8, timezone="UTC", jit=False, max_files_per_process=1000
)

bucket = do.SpacesBucket(
    "assets",
    name="every-resource-assets",
    region="nyc3",
    acl="public-read",
    force_destroy=True,
    versioning={"enabled": not FIRST},
    lifecycle_rules=[
        {
            "id": "old",
            "enabled": True,
            "prefix": "tmp/",
            "abort_incomplete_multipart_upload_days": 1,
            "expiration": {"days": 30 if FIRST else 60},
        }
    ],
)
do.SpacesBucketCorsConfiguration(
    "cors",
    bucket=bucket.id,
    region="nyc3",
    cors_rules=[
        {
            "allowed_methods": ["GET", "HEAD"] if FIRST else ["GET"],
            "allowed_origins": ["https://example.org", "https://www.example.org"],
            "allowed_headers": ["*"],
            "max_age_seconds": 3600,
        }
    ],
)
do.SpacesBucketPolicy(
    "policy",
    bucket=bucket.name,
    region="nyc3",
    policy=bucket.name.apply(
        lambda name: json.dumps(
            {
                "Version": "2012-10-17",
                "Statement": [
                    {
                        "Effect": "Allow",
                        "Principal": "*",
                        "Action": "s3:GetObject",
                        "Resource": [f"arn:aws:s3:::{name}/*"],
                    }
                ],
            }
        )
    ),
)
do.SpacesBucketObject(
    "page",
    bucket=bucket.name,
    region="nyc3",
    key="a/page.txt",
    content="hello" if FIRST else "hello again",
    acl="public-read",
    content_type="text/plain",
    cache_control="max-age=60",
    metadata={"kind": "page"},
)
# Of another bucket: one with a policy takes no limited key.
do.SpacesKey("key", grants=[{"bucket": "every-resource-data", "permission": "readwrite" if FIRST else "read"}])
do.Cdn(
    "cdn",
    origin=bucket.bucket_domain_name,
    ttl=3600 if FIRST else 600,
    custom_domain=None if FIRST else "assets.example.org",
    certificate_name=None if FIRST else certificate.name,
)
do.ContainerRegistry("images", name="every-resource", subscription_tier_slug="basic" if FIRST else "professional")

urns = [droplet.droplet_urn, cluster.cluster_urn, domain.domain_urn, volume.volume_urn]
project = do.Project(
    "home", environment="Staging", description="first" if FIRST else "second", purpose="Service or API"
)
do.ProjectResources("members", project=project.id, resources=urns if FIRST else urns[:2])
do.Project("with-members", resources=[plain.droplet_urn] if STEP < 3 else [])

do.MonitorAlert(
    "cpu",
    type="v1/insights/droplet/cpu",
    compare="GreaterThan",
    value=70 if FIRST else 75.1,
    window="5m",
    description="busy",
    tags=[role.name],
    alerts=MAILS,
)
do.MonitorAlert(
    "memory",
    type="v1/insights/droplet/memory_utilization_percent",
    compare="GreaterThan",
    value=80,
    window="10m",
    description="full",
    entities=[droplet.id],
    enabled=FIRST,
    alerts={**MAILS, "slacks": [{"channel": "#ops", "url": "https://hooks.slack.com/services/T1/B1/x"}]},
)
check = do.UptimeCheck("up", target="https://example.org/health", regions=["us_east", "eu_west"], enabled=FIRST)
do.UptimeAlert(
    "slow",
    check_id=check.id,
    type="latency",
    threshold=500 if FIRST else 600,
    comparison="greater_than",
    period="5m",
    notifications=[MAILS],
)

said = command.local.Command(
    "said",
    create="cat; echo $V; echo warned >&2",
    update='echo "was $PULUMI_COMMAND_STDOUT, is $V"',
    delete="true",
    stdin=pulumi.Output.secret("told once\n"),
    environment={"V": str(STEP)},
    triggers=[STEP // 3],
    logging=command.local.Logging.NONE,
)
pulumi.export("said", said.stdout)
pulumi.export("warned", said.stderr)
pulumi.export("account", do.get_account().email)
pulumi.export("ca", do.get_database_ca_output(cluster_id=cluster.id).certificate)

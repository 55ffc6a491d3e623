"""The app's droplet: created with one sudo user and a host key that is known in advance."""

from __future__ import annotations

from dataclasses import dataclass, field

import pulumi
import pulumi_digitalocean as digitalocean

from components.cloud_init import build_cloud_config
from components.converge import DropletLogin, FirstContact
from components.credentials import Credentials
from components.lifecycle import Kind, Lifecycle

USER = "deploy"
SSH_PORT = 22
_BACKUP_WEEKDAY, _BACKUP_HOUR = "SUN", 4  # UTC; the window of DigitalOcean's image backup, after the nightly dump


@dataclass(frozen=True, kw_only=True)
class AppDropletArgs:
    """`name` is the droplet's name and host name; `backups` is none, weekly or daily."""

    name: str
    region: str
    size: str
    image: str
    backups: str
    monitoring: bool
    reserved_ip: bool
    vpc_id: pulumi.Input[str]
    tag: pulumi.Input[str]
    credentials: Credentials = field(repr=False)
    lifecycle: Lifecycle


class AppDroplet(pulumi.ComponentResource):
    """A droplet, its reserved IP, and the first contact that leaves it with its final host key."""

    droplet: digitalocean.Droplet
    droplet_id: pulumi.Output[str]
    name: str
    address: pulumi.Output[str]
    public_ip: pulumi.Output[str]
    private_ip: pulumi.Output[str]
    urns: list[pulumi.Output[str]]
    login: DropletLogin
    first_contact: FirstContact

    def __init__(self, name: str, args: AppDropletArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("ancla:app_droplet:AppDroplet", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        key = digitalocean.SshKey(
            f"{name}-deploy-key", name=f"{args.name}-deploy", public_key=args.credentials.deploy_public, opts=child
        )
        self.droplet = self._droplet(name, args, key)
        self.name = args.name
        self.droplet_id = self.droplet.id
        self.public_ip = self.droplet.ipv4_address
        self.private_ip = self.droplet.ipv4_address_private
        # The reserved IP is not listed: it goes where its droplet goes, and the Projects API calls it by another
        # URN than the provider does, which would be a difference for ever (terraform-provider-digitalocean#1031).
        self.urns = [self.droplet.droplet_urn]
        self.address, ready = self._address(name, args)
        self.login = DropletLogin(
            droplet_id=self.droplet_id,
            address=self.address,
            port=SSH_PORT,
            user=USER,
            credentials=args.credentials,
        )
        self.first_contact = FirstContact(
            f"{name}-first-contact",
            self.login,
            opts=pulumi.ResourceOptions(parent=self, depends_on=[ready]),
        )
        self.register_outputs(
            {
                "droplet_id": self.droplet_id,
                "address": self.address,
                "public_ip": self.public_ip,
                "private_ip": self.private_ip,
            }
        )

    def _droplet(self, name: str, args: AppDropletArgs, key: digitalocean.SshKey) -> digitalocean.Droplet:
        backups = args.backups != "none"
        policy = digitalocean.DropletBackupPolicyArgs(plan=args.backups, hour=_BACKUP_HOUR)
        if args.backups == "weekly":
            policy = digitalocean.DropletBackupPolicyArgs(plan="weekly", weekday=_BACKUP_WEEKDAY, hour=_BACKUP_HOUR)
        return digitalocean.Droplet(
            f"{name}-droplet",
            name=args.name,
            region=args.region,
            size=args.size,
            image=args.image,
            # Growing the disk cannot be undone; CPU and memory can go back down.
            resize_disk=False,
            backups=backups,
            backup_policy=policy if backups else None,
            monitoring=args.monitoring,
            vpc_uuid=args.vpc_id,
            tags=[args.tag],
            # One key, so that DigitalOcean makes no root password. People's keys are placed by the converge.
            ssh_keys=[key.id],
            user_data=pulumi.Output.secret(
                build_cloud_config(
                    user=USER,
                    authorized_key=args.credentials.deploy_public,
                    host_key=args.credentials.bootstrap_host_key,
                    host_key_public=args.credentials.bootstrap_host_public,
                )
            ),
            opts=pulumi.ResourceOptions.merge(
                args.lifecycle.options(
                    self,
                    Kind.MACHINE,
                    # The provider gives up on a delete after 60 seconds otherwise.
                    custom_timeouts=pulumi.CustomTimeouts(create="30m", update="30m", delete="10m"),
                ),
                pulumi.ResourceOptions(
                    # Both are read only at the first boot, and a change of either would replace the droplet.
                    ignore_changes=["sshKeys", "userData"],
                    additional_secret_outputs=["userData"],
                ),
            ),
        )

    def _address(self, name: str, args: AppDropletArgs) -> tuple[pulumi.Output[str], pulumi.Resource]:
        """Return the address to use, and the resource after which it answers."""
        if not args.reserved_ip:
            return self.public_ip, self.droplet
        # A separate resource without `droplet_id`: with both, the two would take the address from each other.
        reserved = digitalocean.ReservedIp(
            f"{name}-ip", region=args.region, opts=args.lifecycle.options(self, Kind.ADDRESS)
        )
        assignment = digitalocean.ReservedIpAssignment(
            f"{name}-ip-assignment",
            ip_address=reserved.ip_address,
            droplet_id=self.droplet_id.apply(int),
            opts=pulumi.ResourceOptions(parent=self),
        )
        return reserved.ip_address, assignment

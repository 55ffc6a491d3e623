"""A droplet for an app: created with one sudo user and a host key that is known in advance, then bootstrapped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import pulumi
import pulumi_digitalocean as digitalocean
from pulumi_command import local
from pydantic import SecretStr

from blueprint.keys import public_line
from blueprint.machine import (
    DockerSettings,
    Fail2banSettings,
    FirewallSettings,
    MachineSettings,
    NginxSettings,
    PostgresqlClientSettings,
    SshSettings,
    UpgradesSettings,
)
from components.cloud_init import build_cloud_config
from components.component import AnclaComponent
from components.converge import Converge, ConvergeArgs, DropletLogin, FirstContact
from components.host_plan import machine_digest

USER = "deploy"
SSH_PORT = 22
_BACKUP_WEEKDAY, _BACKUP_HOUR = "SUN", 4  # UTC; the window of DigitalOcean's image backup, after the nightly dump
_MAKE_KEY = (
    "made=$(mktemp -d) && trap 'rm -rf \"$made\"' EXIT && "
    'ssh-keygen -q -t ed25519 -N "" -C "" -f "$made/key" && cat "$made/key"'
)
_SOME_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEiR8CLqQqx+I3zSGKoXmfNwMs5J0wk9Raw/hLjTpD0r"  # of nobody


@dataclass(frozen=True, kw_only=True)
class AppDropletArgs:
    """Inputs of `AppDroplet`. Keys are OpenSSH ed25519 private keys without a passphrase."""

    region: pulumi.Input[str]
    """Region of the droplet, such as `nyc3`."""
    name: str | None = None
    """Name of the droplet and host name; default: the component's name."""
    size: pulumi.Input[str] = "s-1vcpu-1gb"
    """Size of the droplet. A change powers it off for some minutes; the disk grows with `grow_disk` only."""
    grow_disk: bool = False
    """Let a larger size grow the disk too, after which no smaller size is possible."""
    image: str = "ubuntu-24-04-x64"
    """Image: Ubuntu or Debian, where it is bootstrapped."""
    vpc_id: pulumi.Input[str] | None = None
    """Network of the droplet; default: the region's default VPC."""
    tags: Sequence[pulumi.Input[str]] = ()
    """Tags, by which cloud firewalls, alerts and trusted sources know it."""
    reserved_ip: bool = True
    """Give it an address that stays when the droplet is replaced."""
    ipv6: bool = False
    """Give it an IPv6 address too."""
    backups: Literal["none", "weekly", "daily"] = "none"
    """DigitalOcean's backups of the image, at 04:00 UTC, weekly ones on Sundays."""
    monitoring: bool = True
    """Install DigitalOcean's agent, which alerts about memory and disk need."""
    authorized_keys: Mapping[str, str] = field(default_factory=dict[str, str])
    """Public keys of people who may log in as `deploy`, one line each, by name."""
    deploy_key: pulumi.Input[str] | None = field(default=None, repr=False)
    """Private key by which the droplet is bootstrapped; default: made, and kept in the state as a secret."""
    ssh_key: pulumi.Input[str] | None = None
    """Id or fingerprint of the deploy key in the account, where it is there already; default: it is added."""
    bootstrap_host_key: pulumi.Input[str] | None = field(default=None, repr=False)
    """Private host key of the first boot, which user data shows; default: made."""
    host_key: pulumi.Input[str] | None = field(default=None, repr=False)
    """Private host key that replaces it at the first contact; default: made."""
    bootstrap: bool = True
    """False: only create the droplet. Nobody logs in, and it keeps its first host key."""
    docker: bool = True
    """Install Docker with compose."""
    nginx: bool = False
    """Install Nginx, which answers that there is no release yet."""
    fail2ban: bool = True
    """Ban addresses that guess logins."""
    upgrades: bool = True
    """Install security updates every day."""
    ssh_sources: Sequence[str] = ("0.0.0.0/0", "::/0")
    """CIDRs that reach SSH through the firewall of the host; 80 and 443 are open to all."""
    postgresql_clients: Sequence[str] = ()
    """Major versions of PostgreSQL whose client programs are installed."""
    machine: MachineSettings | None = None
    """All that `host` can do, in place of the fields from `docker` on and of `authorized_keys`."""
    protected: bool = False
    """Protect droplet and address, and let the rest be replaced. A `protect=True` in the options protects every
    part."""
    project_id: pulumi.Input[str] | None = None
    """Project of the account to put the droplet into; default: the account's default project."""


def build_machine(name: str, args: AppDropletArgs, deploy_public: str) -> MachineSettings:
    """Return what the bootstrap makes of the droplet.

    Raises:
        ValueError: a field is not of its form.
    """
    sources = tuple(args.ssh_sources)
    majors = tuple(sorted(set(args.postgresql_clients)))
    return MachineSettings(
        hostname=name,
        ssh=SshSettings(user=USER, deploy_key=deploy_public, keys=dict(args.authorized_keys)),
        firewall=FirewallSettings(ssh_sources=sources, ssh_port=SSH_PORT),
        upgrades=UpgradesSettings() if args.upgrades else None,
        docker=DockerSettings() if args.docker else None,
        nginx=NginxSettings() if args.nginx else None,
        fail2ban=Fail2banSettings(trusted=sources) if args.fail2ban else None,
        postgresql_client=PostgresqlClientSettings.model_validate({"majors": majors}) if majors else None,
    )


def check_bootstrap(name: str, args: AppDropletArgs) -> None:
    """Refuse what could not be bootstrapped before anything is created: the keys may be known only after.

    Raises:
        ValueError: a field is not of its form, or the image is none that `host` knows.
    """
    machine = args.machine or build_machine(name, args, _SOME_KEY)
    try:
        machine_digest(args.image, machine)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


class AppDroplet(AnclaComponent):
    """A droplet with Docker, compose, a firewall and hardened SSH, and its reserved IP."""

    droplet: digitalocean.Droplet
    """The droplet; a resource that needs it bootstrapped depends on `ready`."""
    ready: Sequence[pulumi.Resource]
    """After these the droplet is bootstrapped."""
    name: str
    """Name of the droplet."""
    droplet_id: pulumi.Output[str]
    """Id of the droplet."""
    droplet_urn: pulumi.Output[str]
    """URN of the droplet, as a project lists it. The reserved IP is not listed: it goes where its droplet goes."""
    address: pulumi.Output[str]
    """IPv4 address to use: the reserved one, or the droplet's own."""
    public_ip: pulumi.Output[str]
    """The droplet's own public IPv4 address."""
    private_ip: pulumi.Output[str]
    """Its address in the VPC."""
    public_ipv6: pulumi.Output[str] | None
    """Its IPv6 address; None without one."""
    user: str
    """User to log in as."""
    host_key: pulumi.Output[str]
    """Public host key that the droplet shows, one line."""
    deploy_key: pulumi.Output[str]
    """Private key to log in with, a secret."""
    login: DropletLogin
    """All that a command on the droplet needs."""

    def __init__(self, name: str, args: AppDropletArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("ancla:index:AppDroplet", name, opts)
        self.name, self.user = args.name or name, USER
        if args.bootstrap:
            check_bootstrap(self.name, args)
        self.deploy_key = self._key(f"{name}-new-deploy-key", args.deploy_key)
        first_key = self._key(f"{name}-new-bootstrap-host-key", args.bootstrap_host_key)
        final_key = self._key(f"{name}-new-host-key", args.host_key) if args.bootstrap else first_key
        self.host_key = _public(final_key)
        self.droplet = self._droplet(name, args, first_key)
        self.droplet_id = self.droplet.id
        self.droplet_urn = self.droplet.droplet_urn
        self.public_ip, self.private_ip = self.droplet.ipv4_address, self.droplet.ipv4_address_private
        self.public_ipv6 = self.droplet.ipv6_address if args.ipv6 else None
        self.address, reachable = self._address(name, args)
        self._join(name, args.project_id, [self.droplet_urn])
        self.login = DropletLogin(
            droplet_id=self.droplet_id,
            address=self.address,
            port=SSH_PORT,
            user=USER,
            deploy_key=self.deploy_key,
            host_key=self.host_key,
        )
        self.ready = [reachable]
        if args.bootstrap:
            contact = FirstContact(
                f"{name}-first-contact",
                self.login,
                _public(first_key),
                final_key,
                opts=self._child(depends_on=[reachable]),
            )
            converge = Converge(
                f"{name}-converge", self._converge(args), opts=self._child(depends_on=[contact.command])
            )
            self.ready = [converge.command]
        self.register_outputs(
            {
                "name": self.name,
                "droplet_id": self.droplet_id,
                "droplet_urn": self.droplet_urn,
                "address": self.address,
                "public_ip": self.public_ip,
                "private_ip": self.private_ip,
                "public_ipv6": self.public_ipv6,
                "user": self.user,
                "host_key": self.host_key,
                "deploy_key": self.deploy_key,
            }
        )

    def _key(self, name: str, given: pulumi.Input[str] | None) -> pulumi.Output[str]:
        """Return a private key: the given one, or one that is made once and stays in the state."""
        if given is not None:
            return pulumi.Output.secret(given)
        made = local.Command(
            name,
            create=_MAKE_KEY,
            logging=local.Logging.NONE,
            add_previous_output_in_env=False,
            opts=pulumi.ResourceOptions.merge(
                self._child(),
                pulumi.ResourceOptions(
                    additional_secret_outputs=["stdout"],
                    # Whatever a later version of this file says here: another run would make another key.
                    ignore_changes=["create", "logging", "addPreviousOutputInEnv"],
                ),
            ),
        )
        return pulumi.Output.secret(made.stdout)

    def _converge(self, args: AppDropletArgs) -> ConvergeArgs:
        def build(line: str) -> dict[str, Any]:
            return (args.machine or build_machine(self.name, args, line)).model_dump(mode="json")

        def digest(machine: dict[str, Any]) -> str:
            return machine_digest(args.image, MachineSettings.model_validate(machine))

        machine = _public(self.deploy_key).apply(build)
        return ConvergeArgs(login=self.login, machine=machine, plan=machine.apply(digest))

    def _droplet(self, name: str, args: AppDropletArgs, first_key: pulumi.Output[str]) -> digitalocean.Droplet:
        public = _public(self.deploy_key)
        ssh_key = args.ssh_key
        if ssh_key is None:
            ssh_key = digitalocean.SshKey(
                f"{name}-deploy-key", name=f"{self.name}-deploy", public_key=public, opts=self._child()
            ).id
        backups = args.backups != "none"
        policy = digitalocean.DropletBackupPolicyArgs(plan=args.backups, hour=_BACKUP_HOUR)
        if args.backups == "weekly":
            policy = digitalocean.DropletBackupPolicyArgs(plan="weekly", weekday=_BACKUP_WEEKDAY, hour=_BACKUP_HOUR)
        # With the bootstrap, people's keys are placed by it: they may change later.
        people = [] if args.bootstrap else list(args.authorized_keys.values())

        def user_data(keys: Sequence[str]) -> str:
            private, line = keys
            return build_cloud_config(
                user=USER,
                authorized_keys=[line, *people],
                host_key=private,
                host_key_public=public_line(SecretStr(private)),
            )

        return digitalocean.Droplet(
            f"{name}-droplet",
            name=self.name,
            region=args.region,
            size=args.size,
            image=args.image,
            # Growing the disk cannot be undone; CPU and memory can go back down.
            resize_disk=args.grow_disk,
            backups=backups,
            backup_policy=policy if backups else None,
            monitoring=args.monitoring,
            ipv6=True if args.ipv6 else None,
            vpc_uuid=args.vpc_id,
            tags=list(args.tags) or None,
            # One key, so that DigitalOcean makes no root password.
            ssh_keys=[ssh_key],
            user_data=pulumi.Output.secret(pulumi.Output.all(first_key, public).apply(user_data)),
            opts=pulumi.ResourceOptions.merge(
                self._child(
                    protected=args.protected,
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
        reserved = digitalocean.ReservedIp(f"{name}-ip", region=args.region, opts=self._child(protected=args.protected))
        assignment = digitalocean.ReservedIpAssignment(
            f"{name}-ip-assignment",
            ip_address=reserved.ip_address,
            droplet_id=self.droplet_id.apply(int),
            opts=self._child(),
        )
        return reserved.ip_address, assignment


def _public(key: pulumi.Output[str]) -> pulumi.Output[str]:
    return pulumi.Output.unsecret(key.apply(lambda text: public_line(SecretStr(text))))

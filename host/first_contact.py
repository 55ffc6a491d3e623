"""First contact: wait for a new droplet, and replace its first host key with its final one.

Killed at any point it can be run again: it accepts either key, writes both files by rename, and then logs in with the
final key alone.
"""

from __future__ import annotations

from host.connection import WAIT, Connection, connect, say
from host.documents import FirstContact, private_key, public_key
from host.errors import ConvergeError, DocumentError, UnreachableError

_CLOUD_INIT = """
command -v cloud-init >/dev/null || exit 0
timeout 600 cloud-init status --wait >/dev/null
code=$?
# 2 is "done, with recoverable errors" (cloud-init 23.4 and later)
[ $code -eq 0 ] || [ $code -eq 2 ] || { cloud-init status --long >&2; exit $code; }
"""

# The private half arrives on stdin, is written beside the old one and takes its place by rename: at every moment sshd
# finds one complete key. Host keys of other types are removed: none is pinned.
_INSTALL = """
set -eu
umask 077
key=/etc/ssh/ssh_host_ed25519_key
cat >$key.new
ssh-keygen -y -f $key.new >$key.new.pub
chmod 644 $key.new.pub
sync $key.new $key.new.pub
mv -f $key.new $key
mv -f $key.new.pub $key.pub
for other in /etc/ssh/ssh_host_*_key; do
    [ "$other" = $key ] || rm -f "$other" "$other.pub"
done
mkdir -p /run/sshd
/usr/sbin/sshd -t
systemctl try-reload-or-restart ssh.service
"""


def first_contact(document: FirstContact, *, wait: float = WAIT) -> dict[str, str]:
    """Wait for the droplet and install its final host key; return {"host_key": its public line}.

    Raises:
        DocumentError: the two halves of the final key do not belong together.
        UnreachableError: no login within `wait` seconds, or the final key is not what sshd shows in the end.
        ConvergeError: cloud-init failed, or the key could not be installed.
    """
    final = private_key(document.host_key_private, "host_key_private")
    if final != public_key(document.host_key, "host_key"):
        raise DocumentError("host_key is not the public half of host_key_private; both come from the stack's hostKey")
    with connect(document, also_accept=document.bootstrap_host_key, wait=wait) as machine:
        say(f"{machine.where}: answers; waiting for cloud-init")
        machine.check(_CLOUD_INIT, "cloud-init", sudo=True, timeout=620)
        if machine.host_key != final:
            _install(machine, document)
    with connect(document, wait=30) as machine:
        if machine.host_key != final:
            raise UnreachableError(f"{machine.where} does not show its final host key")
    say(f"{machine.where}: has its final host key")
    return {"host_key": f"{final.get_name()} {final.get_base64()}"}


def _install(machine: Connection, document: FirstContact) -> None:
    text = document.host_key_private.get_secret_value().strip() + "\n"
    try:
        machine.check(_INSTALL, "installing the host key", stdin=text, sudo=True)
    except UnreachableError:
        # Reloading sshd may end this session before its answer; the login that follows is the proof.
        say(f"{machine.where}: the session ended while sshd reloaded")
    except ConvergeError as error:
        raise ConvergeError(f"{error}; the droplet keeps its first key; run this again", error.detail) from None

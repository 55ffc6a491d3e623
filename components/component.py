"""The base of the components that any program may use: it honours what a caller asks of the whole component."""

from __future__ import annotations

from collections.abc import Sequence

import pulumi
import pulumi_digitalocean as digitalocean

NEW_FIRST = pulumi.ResourceOptions(delete_before_replace=False)
"""Make a replacement before the old one goes: the provider itself deletes first what has a name that a program chose.

Only for what changes its name with whatever replaces it.
"""


class AnclaComponent(pulumi.ComponentResource):
    """A component whose children follow its options.

    The SDK passes on providers, transforms, aliases and `protect`; `retain_on_delete` it does not.
    """

    retained: bool
    """True if the caller asked to keep the resources at DigitalOcean when they leave the program."""

    def __init__(self, token: str, name: str, opts: pulumi.ResourceOptions | None) -> None:
        super().__init__(token, name, None, opts)
        own, parent = (opts.retain_on_delete, opts.parent) if opts else (None, None)
        inherited = isinstance(parent, AnclaComponent) and parent.retained
        self.retained = inherited if own is None else own

    def _child(
        self,
        *,
        protected: bool = False,
        retained: bool = False,
        depends_on: Sequence[pulumi.Resource] = (),
        custom_timeouts: pulumi.CustomTimeouts | None = None,
        deleted_with: pulumi.Resource | None = None,
    ) -> pulumi.ResourceOptions:
        """Return the options of a child; `protected` and `retained` come beside those of the caller.

        What is not protected here is left to the parent: a False would win over a caller's `protect=True`.
        """
        return pulumi.ResourceOptions(
            parent=self,
            protect=True if protected else None,
            retain_on_delete=True if retained or self.retained else None,
            depends_on=list(depends_on),
            custom_timeouts=custom_timeouts,
            deleted_with=deleted_with,
        )

    def _goes_with(self, holder: pulumi.Resource, *, protected: bool) -> pulumi.Resource | None:
        """Return what a part may be `deleted_with`: its holder, unless that one is protected.

        The engine forgets such a part without deleting it. When the holder's own deletion is then refused, the part
        would live on at DigitalOcean and stand in the way of the next `up`.
        """
        return None if protected or self._protect else holder

    def _join(self, name: str, project_id: pulumi.Input[str] | None, urns: Sequence[pulumi.Input[str]]) -> None:
        """Put resources into the caller's project; others that are in it stay as they are."""
        if project_id is not None:
            digitalocean.ProjectResources(
                f"{name}-in-project", project=project_id, resources=list(urns), opts=self._child()
            )

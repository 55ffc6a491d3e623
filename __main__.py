"""The Pulumi program: settings in, an environment built, outputs given back."""

from __future__ import annotations

import pulumi

from blueprint.pulumi_config import SettingsError, load_program
from components.environment import Environment, EnvironmentArgs
from components.guard import GuardError, account_of


def main() -> None:
    """Build the environment that the stack's settings describe.

    Raises:
        pulumi.RunError: the settings or the account do not fit; the engine prints the message alone.
    """
    try:
        settings = load_program()
        account = account_of(settings)
    except (SettingsError, GuardError) as error:
        raise pulumi.RunError(str(error)) from None
    environment = Environment(settings.stem, EnvironmentArgs(settings=settings, account=account))
    for output, value in environment.exports.items():
        pulumi.export(output, value)


main()

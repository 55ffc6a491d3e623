"""Settings of a stack file, a module a group; `blueprint.settings.environment` holds them all."""

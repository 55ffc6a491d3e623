"""Release the app on the droplet: its compose project, its .env, its Nginx routes.

`pulumi up` creates the droplet and `ops deploy` installs the app. A release is planned on the workstation as one value
(`plan`), sent over SSH, and applied on the droplet (`apply`), which restores the former release if anything fails.
"""

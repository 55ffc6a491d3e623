"""The app on the machine: its compose project, its .env, its Nginx routes.

`pulumi up` makes the place and `ops deploy` puts the app in it. A release is planned at the desk as one value (`plan`),
sent over SSH, and applied on the machine (`apply`), which puts the former release back when anything fails.
"""

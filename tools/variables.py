"""The variables `ANCLA_*`: what each is for, and who sets it. `docs/reference/variables.md` is made from this.

A test compares the table with the code: a variable that is read and not described, or described and not read, fails.
"""

from __future__ import annotations

PEOPLE, PROGRAMS, TESTS = "people and CI", "programs", "tests"

VARIABLES: dict[str, tuple[str, str]] = {
    "ANCLA_AUDIT": (PEOPLE, "file of the audit log, in place of this computer's"),
    "ANCLA_CACHE": (PEOPLE, "folder of installed tools and of the sandbox's authority (default: `~/.cache/ancla`)"),
    "ANCLA_COMPOSE": (PROGRAMS, "Docker Compose that `make` installs, placed on droplets whose distribution has none"),
    "ANCLA_IDENTITY": (PEOPLE, "age identity file that decrypts backups; `--identity`"),
    "ANCLA_MACHINE_BUNDLE": (
        PEOPLE,
        "bundle of this computer's certificate authorities, where it is at no usual path",
    ),
    "ANCLA_MAX_AGE_HOURS": (PEOPLE, "most hours since the last backup; `ops backup fresh --max-age`"),
    "ANCLA_METRICS": (PEOPLE, "Prometheus text file to write; `--metrics`"),
    "ANCLA_NOTIFY": (PEOPLE, "`1`: nobody watches this run, so alerts are sent"),
    "ANCLA_OFFICIAL_PLUGINS": (TESTS, "folder with the official plugins, for the comparison with the stand-ins"),
    "ANCLA_OPENAPI": (TESTS, "file of DigitalOcean's API description"),
    "ANCLA_OUTPUTS": (PEOPLE, "file with a stack's outputs, where there is no engine; `--outputs`"),
    "ANCLA_PROGRESS": (PEOPLE, "`auto`, `plain`, `json` or `none`; `--progress`"),
    "ANCLA_PYTHON": (
        PEOPLE,
        "Python with Ancla for bootstraps, where no virtual environment is beside the program; set in `make shell`",
    ),
    "ANCLA_ROOT": (PROGRAMS, "the checkout, where the engine works elsewhere"),
    "ANCLA_RUNNER": (PEOPLE, "variable of a GitHub repository: label of the runner for drills"),
    "ANCLA_RUNTIME": (PEOPLE, "folder of locks, in place of this computer's"),
    "ANCLA_SANDBOX_HOME": (PEOPLE, "folder of the sandbox's state (default: `.sandbox` in the checkout)"),
    "ANCLA_SANDBOX_NAME": (PEOPLE, "name of the sandbox, in every label of its containers"),
    "ANCLA_SANDBOX_NAMESERVER": (PROGRAMS, "address of the sandbox's name server; set in `make shell`"),
    "ANCLA_SANDBOX_OWNER": (TESTS, "process that owns the sandbox: once it is gone, the sandbox may be removed"),
    "ANCLA_SANDBOX_PAGE": (PROGRAMS, "address of the app's page on this computer; set in `make shell`"),
    "ANCLA_SANDBOX_PORT": (PEOPLE, "first port of the sandbox on this computer; `--port-base`"),
    "ANCLA_SANDBOX_RECIPIENT": (
        PROGRAMS,
        "one more recipient of backups, whose identity is the sandbox's; refused at the real DigitalOcean",
    ),
    "ANCLA_SANDBOX_RECORD": (TESTS, "folder to which the sandbox writes every answer, secrets included"),
    "ANCLA_SANDBOX_RESOLVER": (PROGRAMS, "address of the sandbox's resolver; set in `make shell`"),
    "ANCLA_SECRETS": (PEOPLE, "JSON document of the stack's secrets, for stack files that hold none"),
    "ANCLA_SEED": (TESTS, "seed of what is sampled; printed at each run"),
    "ANCLA_SIGNING_KEY": (PEOPLE, "private key that signs evidence; `--signing-key`"),
    "ANCLA_SPOOL": (PEOPLE, "folder for temporary files of backups (default: `$TMPDIR`)"),
    "ANCLA_STACK": (PEOPLE, "the stack; `--stack`"),
    "ANCLA_STATE": (PEOPLE, "folder of what `ops` remembers between runs, in place of this computer's"),
    "ANCLA_TOOLS": (PROGRAMS, "folder of the tools that `make` installs"),
    "ANCLA_VENV": (PROGRAMS, "virtual environment of this checkout, within `tools/setup.sh`"),
    "ANCLA_VERSITYGW": (TESTS, "S3 server for tests of stores"),
}


def build_page() -> str:
    """Return the table as Markdown."""
    lines = ["# Environment variables", "", "| variable | set by | |", "| --- | --- | --- |"]
    lines += [f"| `{name}` | {who} | {text} |" for name, (who, text) in sorted(VARIABLES.items())]
    return "\n".join(lines) + "\n"

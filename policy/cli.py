"""`pulumi preview --json --show-sames | python -m policy`: one line for each violation, and exit code 1.

`python -m policy prices` compares the table of prices with an account.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from blueprint.cost import resource_prices
from blueprint.pulumi_config import SettingsError, load_stack_file
from blueprint.sizes import PRICES_READ
from policy.offer import OfferError, account, compare
from policy.preview import Preview, PreviewError, Resource, parse_preview
from policy.rules import RULES, Violation, check, other_costs

VIOLATED, UNUSABLE = 1, 2
_API = "https://api.digitalocean.com"
_GROUPS = ("pulumi:", "ancla:")
_WIDTH = 120  # columns, where the output is not a terminal

app = typer.Typer(
    name="policy",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
err = Console(stderr=True, highlight=False, soft_wrap=True)


@app.callback(invoke_without_command=True)
def policy(
    context: typer.Context,
    cost: Annotated[bool, typer.Option("--cost", help="List every resource with its monthly cost first.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    rules: Annotated[bool, typer.Option("--rules", help="List the rules, and read nothing.")] = False,
    stack_file: Annotated[
        Path | None,
        typer.Option(help="Take exemptions and budget from this stack file, not from the preview's configuration."),
    ] = None,
) -> None:
    """Check a preview, read from stdin, against the rules.

    Exit codes: 0 every rule holds, 1 a rule is broken, 2 there is no preview to judge.
    """
    if context.invoked_subcommand:
        return
    if rules:
        for name, rule in RULES.items():
            typer.echo(f"{name}: {(rule.__doc__ or '').strip()}")
        return
    try:
        preview = _with_stack_file(parse_preview(sys.stdin.read()), stack_file)
    except (PreviewError, SettingsError) as error:
        err.print(f"error: {error}", markup=False)
        raise typer.Exit(UNUSABLE) from None
    violations = check(preview)
    if as_json:
        typer.echo(json.dumps(_document(preview, violations), indent=2))
    else:
        if cost:
            _print_costs(preview)
        for violation in violations:
            typer.echo(str(violation))
        verdict = f"broken in {len(violations)} place{'s' * (len(violations) > 1)}" if violations else "hold"
        err.print(f"policy: {len(RULES)} rules {verdict}", markup=False)
    raise typer.Exit(VIOLATED if violations else 0)


@app.command()
def prices() -> None:
    """Compare the sizes and prices of Ancla with those of an account: DIGITALOCEAN_TOKEN, DIGITALOCEAN_API_URL.

    Exit codes: 0 they agree, 1 they differ, 2 the account cannot be asked.
    """
    token = os.environ.get("DIGITALOCEAN_TOKEN")
    try:
        if not token:
            raise OfferError("DIGITALOCEAN_TOKEN is not set; give a token with read access")  # noqa: TRY301 - one place prints
        offer = compare(account(os.environ.get("DIGITALOCEAN_API_URL") or _API, token))
    except OfferError as error:
        err.print(f"error: {error}", markup=False)
        raise typer.Exit(UNUSABLE) from None
    for difference in offer.differences:
        typer.echo(difference)
    for path in offer.unanswered:
        err.print(f"not compared, as it was not answered: GET {path}", markup=False)
    for source in offer.by_a_person:
        err.print(f"not in the API, so compare by hand: {source}", markup=False)
    err.print(f"prices of {PRICES_READ}: {len(offer.differences)} differences", markup=False)
    raise typer.Exit(VIOLATED if offer.differences else 0)


def _with_stack_file(preview: Preview, path: Path | None) -> Preview:
    if path is None:
        return preview
    settings = load_stack_file(path).model_dump(
        mode="json", by_alias=True, include={"exemptions", "budget", "costs", "disposable"}
    )
    return dataclasses.replace(preview, config={**preview.config, **settings})


def priced(preview: Preview) -> list[tuple[Resource, float | None]]:
    """Return what the environment is made of, and what each costs a month; groups and providers are left out."""
    made = [item for item in preview.resources if not item.type.startswith(_GROUPS)]
    made.sort(key=lambda item: (item.type.partition(":")[0] != "digitalocean", item.kind, item.name))
    prices = resource_prices((item.type, item.inputs) for item in made)
    return [(item, price.monthly) for item, price in zip(made, prices, strict=True)]


def _going(preview: Preview) -> list[Resource]:
    return [item for item in preview.deleted if not item.type.startswith(_GROUPS)]


def _print_costs(preview: Preview) -> None:
    table = Table(box=None, pad_edge=False)
    for heading, justify in (("Change", "left"), ("Kind", "left"), ("Name", "left"), ("USD/month", "right")):
        table.add_column(heading, justify="right" if justify == "right" else "left")
    rows = priced(preview)
    for resource, price in rows:
        change = "" if resource.operation == "same" else resource.operation
        table.add_row(change, resource.kind, resource.name, _shown(price))
    for resource in _going(preview):
        table.add_row("delete", resource.kind, resource.name, "")
    for name, cost in other_costs(preview).items():
        table.add_row("", "billed by others", name, _shown(cost))
    table.add_section()
    budget = preview.config.get("budget")
    limit = f" of {float(budget):.2f}" if budget else ""
    table.add_row("", "", f"{len(rows)} resources, list prices of {PRICES_READ}", f"{_total(preview, rows):.2f}{limit}")
    Console(width=None if sys.stdout.isatty() else _WIDTH, highlight=False).print(table)


def _shown(price: float | None) -> str:
    return "?" if price is None else f"{price:.2f}" if price else ""


def _total(preview: Preview, rows: list[tuple[Resource, float | None]]) -> float:
    return round(sum(price or 0 for _, price in rows) + sum(other_costs(preview).values()), 2)


def _document(preview: Preview, violations: list[Violation]) -> dict[str, object]:
    rows = priced(preview)
    return {
        "resources": [
            {"change": item.operation, "type": item.type, "name": item.name, "urn": item.urn, "monthly": price}
            for item, price in rows
        ],
        "deleted": [{"type": item.type, "name": item.name, "urn": item.urn} for item in _going(preview)],
        "monthly": _total(preview, rows),
        "prices_read": PRICES_READ,
        "violations": [dataclasses.asdict(violation) for violation in violations],
    }

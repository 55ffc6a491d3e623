"""What every component keeps to, over the whole of both environments."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import pkgutil
from pathlib import Path

import pulumi
import pytest

import components
from components.component import AnclaComponent
from components.converge import HostCommand
from tests.components.kit import Recording

MODULES = [importlib.import_module(f"components.{module.name}") for module in pkgutil.iter_modules(components.__path__)]
CLASSES = [
    item
    for module in MODULES
    for item in vars(module).values()
    if inspect.isclass(item) and issubclass(item, pulumi.ComponentResource) and item.__module__ == module.__name__
]


@pytest.fixture(params=["prod", "staging"])
def recording(request: pytest.FixtureRequest) -> Recording:
    return request.getfixturevalue(request.param)


def test_there_are_components_to_look_at():
    assert {"AppDroplet", "ManagedDatabase", "AssetBucketWithCDN", "DnsZone"} <= {item.__name__ for item in CLASSES}


def test_type_tokens_are_index_and_class(recording: Recording):
    known = {f"ancla:index:{item.__name__}" for item in CLASSES}
    used = {resource.type for resource in recording.resources if resource.type.startswith("ancla:")}

    assert used <= known
    assert known - used == {f"ancla:index:{base.__name__}" for base in (AnclaComponent, HostCommand)}, (
        "a component that no environment uses"
    )


def test_every_child_has_a_component_for_a_parent(recording: Recording):
    components_by_urn = {item.urn: item for item in recording.resources if item.type.startswith("ancla:")}
    for resource in recording.resources:
        if resource.type in ("ancla:index:Environment", "pulumi:providers:digitalocean"):
            continue
        assert resource.parent in components_by_urn, resource.name


def test_child_names_begin_with_the_name_of_their_component(recording: Recording):
    by_urn = {item.urn: item for item in recording.resources}
    for resource in recording.resources:
        if resource.parent in by_urn:
            assert resource.name.startswith(by_urn[resource.parent].name), resource.name


def test_every_component_registers_its_outputs(recording: Recording):
    for resource in recording.resources:
        if resource.type.startswith("ancla:"):
            assert resource.urn in recording.outputs, resource.name


def test_register_outputs_is_the_last_statement_of_every_component():
    for item in CLASSES:
        if item is not AnclaComponent and item.__init__.__qualname__.startswith(item.__name__):
            tree = ast.parse(inspect.getsource(inspect.getmodule(item)))
            body = _init_of(tree, item.__name__).body
            last = ast.unparse(body[-1])
            delegates = last.startswith("super().__init__(") and issubclass(item, HostCommand)
            assert delegates or last.startswith("self.register_outputs("), item.__name__


def _init_of(tree: ast.Module, name: str) -> ast.FunctionDef:
    found = next(node for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and node.name == name)
    return next(node for node in found.body if isinstance(node, ast.FunctionDef) and node.name == "__init__")


def test_component_args_are_frozen_keyword_only_dataclasses():
    for module in MODULES:
        for name, item in vars(module).items():
            if name.endswith("Args") and inspect.isclass(item) and item.__module__ == module.__name__:
                assert dataclasses.is_dataclass(item), name
                parameters = item.__dataclass_params__
                assert parameters.frozen, name
                assert all(field.kw_only for field in dataclasses.fields(item)), name


def test_no_resource_is_made_inside_apply():
    """Resources made there are missing from previews; so no component module registers one in a nested function."""
    for module in MODULES:
        tree = ast.parse(Path(inspect.getfile(module)).read_text())
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
            if isinstance(call.func, ast.Attribute) and call.func.attr == "apply":
                text = ast.unparse(call)
                assert "digitalocean." not in text, text
                assert "local.Command" not in text, text


def test_the_whole_environment_uses_the_pinned_provider(recording: Recording):
    provider = recording.one("digitalocean")
    assert provider.type == "pulumi:providers:digitalocean"
    assert provider.inputs["apiEndpoint"] == "http://127.0.0.1:8470"
    assert not {"token", "spacesAccessId", "spacesSecretKey"} & provider.inputs.keys(), (
        "credentials stay out of the state"
    )
    for resource in recording.resources:
        if resource.type.startswith("digitalocean:"):
            assert resource.options.provider.startswith(provider.urn), resource.name


def test_names_a_person_sees_are_explicit(recording: Recording):
    """After a killed engine, what it had made is found by name; a generated name would make a second one."""
    named = ("Droplet", "DatabaseCluster", "SpacesBucket", "Project", "ContainerRegistries", "Vpc", "Firewall", "Tag")
    named += (
        "SshKey",
        "SpacesKey",
        "DatabaseUser",
        "DatabaseDb",
        "DatabaseConnectionPool",
        "UptimeCheck",
        "UptimeAlert",
    )
    for kind in named:
        for resource in recording.of_type(kind):
            if resource.type.startswith("digitalocean:"):
                assert resource.inputs.get("name"), resource.name


def test_prod_and_staging_share_no_name_in_one_account(prod: Recording, staging: Recording):
    unique = (
        "Droplet",
        "DatabaseCluster",
        "SpacesBucket",
        "Project",
        "ContainerRegistries",
        "Vpc",
        "Firewall",
        "Tag",
        "SshKey",
        "Domain",
    )

    def used(recording: Recording) -> set[tuple[str, str]]:
        return {
            (kind, item.inputs["name"]) for kind in unique for item in recording.of_type(kind) if "name" in item.inputs
        }

    assert used(prod)
    assert used(staging)
    assert not used(prod) & used(staging)

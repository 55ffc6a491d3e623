"""The fake follows the real services without being told."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import get_type_hints

import pytest

from sandbox.parts.base import PartError
from sandbox.parts.containers import ContainerParts
from sandbox.parts.instance import Instance
from sandbox.parts.none import NoParts
from sandbox.parts.services import Parts


def test_every_service_is_there_really_and_recorded(tmp_path: Path):
    real, fake = ContainerParts(Instance(name="any", home=tmp_path)), NoParts()
    for name, service in get_type_hints(Parts).items():
        assert type(getattr(real, name)) is service
        assert isinstance(getattr(fake, name), service)
        for method, _ in inspect.getmembers(service, inspect.isfunction):
            if not method.startswith("_"):
                assert getattr(type(getattr(fake, name)), method) is not getattr(service, method), (name, method)


def test_a_call_is_noted_by_service_and_method_and_fails_as_told():
    fake = NoParts()
    fake.droplets.delete(7)
    assert fake.calls == [("droplets.delete", 7)]
    fake.fail["dns.set_zones"] = PartError("no disk")
    with pytest.raises(PartError, match="no disk"):
        fake.dns.set_zones({})
    fake.answers["registry.repositories"] = lambda: ("acme/web",)
    assert fake.registry.repositories() == ("acme/web",)


def test_arguments_that_the_real_service_would_refuse_are_refused():
    with pytest.raises(TypeError, match="droplet_id"):
        NoParts().droplets.delete()  # pyright: ignore[reportCallIssue] - that is the test

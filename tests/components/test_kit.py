"""The kit itself: it runs to completion, records options, and fails when the program fails."""

from __future__ import annotations

import pulumi
import pulumi_digitalocean as digitalocean
import pytest

from tests.components.kit import run_program


def test_a_program_that_fails_fails_the_test():
    def program() -> None:
        digitalocean.Tag("t", name="t")
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        run_program(program)


def test_a_failure_inside_apply_fails_the_test():
    def program() -> None:
        tag = digitalocean.Tag("t", name="t")

        def fail(_: str) -> str:
            raise RuntimeError("inside apply")

        digitalocean.Tag("u", name=tag.name.apply(fail))

    with pytest.raises(RuntimeError, match="inside apply"):
        run_program(program)


def test_inputs_options_and_secrets_are_recorded():
    def program() -> None:
        options = pulumi.ResourceOptions(protect=True)
        digitalocean.Droplet("d", image="i", size="s", user_data=pulumi.Output.secret("hush"), opts=options)

    droplet = run_program(program).one("Droplet")

    assert droplet.inputs == {"image": "i", "size": "s", "userData": "hush"}
    assert droplet.secrets == {"userData"}
    assert droplet.options.protect


def test_runs_do_not_share_anything():
    for _ in range(2):
        assert len(run_program(lambda: digitalocean.Tag("t", name="t").name).resources) == 1


def test_in_a_preview_outputs_are_unknown_and_nothing_is_asserted_on_them():
    def program() -> pulumi.Output[str]:
        return digitalocean.Tag("t", name="t").id

    assert run_program(program).result == "t-id"
    assert run_program(program, preview=True).result is None

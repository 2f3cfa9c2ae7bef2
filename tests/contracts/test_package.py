"""What the package promises to those who install it."""

from __future__ import annotations

import inspect
import re
import types
from pathlib import Path

import pytest

import resilience
from resilience import aws, backoff, clock, errors, events, testing
from resilience.aws import lambda_context, service_quotas, sqs, step_functions

ROOT = Path(__file__).parents[2]


AWS = (aws, lambda_context, service_quotas, sqs, step_functions)


@pytest.mark.parametrize("package", [resilience, aws], ids=lambda module: module.__name__)
def test_all_is_complete(package: types.ModuleType) -> None:
    """Every public name of the package is in `__all__`, once, and each of them exists."""
    public = {
        name
        for name, value in vars(package).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType) and name != "annotations"
    }
    assert sorted(package.__all__) == sorted(public)


@pytest.mark.parametrize("module", [backoff, clock, errors, events, testing, *AWS], ids=lambda module: module.__name__)
def test_public_modules_declare_what_they_offer(module: types.ModuleType) -> None:
    """`__all__` of a public module names what exists."""
    assert all(hasattr(module, name) for name in module.__all__)


@pytest.mark.parametrize(
    ("module", "name"),
    [(module, name) for module in (resilience, *AWS) for name in module.__all__],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_everything_public_is_documented(module: types.ModuleType, name: str) -> None:
    """Each public object, and each public method of it, has a docstring of its own."""
    thing = getattr(module, name)
    assert inspect.getdoc(thing)
    if inspect.isclass(thing):
        for method, value in vars(thing).items():
            if not method.startswith("_") and (inspect.isfunction(value) or isinstance(value, property)):
                assert inspect.getdoc(getattr(thing, method)), f"{name}.{method}"


def test_the_reference_names_everything_public() -> None:
    """No public class or function is missing from the reference page."""
    page = (ROOT / "docs" / "reference" / "api.md").read_text()
    listed = set(re.findall(r"^::: resilience\.(\w+)$", page, re.MULTILINE))
    fronts = {name for name in resilience.__all__ if name.islower() and inspect.isclass(getattr(resilience, name))}
    assert listed - {"events", "testing"} == set(resilience.__all__) - fronts
    assert all(f"`{name}`" in page for name in fronts)


def test_the_reference_names_everything_for_aws() -> None:
    """Each public name of the package or of its modules, once."""
    page = (ROOT / "docs" / "reference" / "aws.md").read_text()
    listed = re.findall(r"^::: (resilience\.aws\S*)$", page, re.MULTILINE)
    names = {id(getattr(module, name)): f"{module.__name__}.{name}" for module in AWS[::-1] for name in module.__all__}
    assert sorted(listed) == sorted(names.values())


def test_the_lower_case_names_are_the_classes() -> None:
    """A front is the same object as the class it reads like: one concept, one place."""
    assert resilience.retry is resilience.Retry
    assert resilience.rate_limit is resilience.TokenBucket
    assert resilience.circuit_breaker is resilience.CircuitBreaker


def test_the_version_is_in_the_changelog() -> None:
    """A release has its section, or work on it stands under Unreleased."""
    changelog = (ROOT / "CHANGELOG.md").read_text()
    assert "## [Unreleased]" in changelog or f"## [{resilience.__version__}]" in changelog
    assert re.fullmatch(r"\d+\.\d+\.\d+(\.?(a|b|rc|dev)\d+)?", resilience.__version__)

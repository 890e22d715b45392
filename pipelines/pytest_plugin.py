"""The options of `pytest --agentmill-cases`, and nothing heavy: pytest loads this wherever Agentmill is installed."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options, which do nothing where they are not used."""
    group = parser.getgroup("agentmill", "regression cases of Agentmill")
    group.addoption("--agentmill-cases", metavar="DIR", help="Run the regression cases of this folder.")
    group.addoption("--agentmill-results", metavar="FILE", help="Write their results as JSON, for `agentmill results`.")
    group.addoption("--agentmill-version", metavar="VERSION", help="The version of the agent that is tested.")
    group.addoption("--agentmill-environment", metavar="NAME", help="Where it is tested.")
    group.addoption("--agentmill-config", metavar="FILE", help="An agentmill.yaml with rules of your own for texts.")
    group.addoption("--agentmill-run-id", metavar="ID", help="The id of this run; a new one where left out.")


def pytest_configure(config: pytest.Config) -> None:
    """Run the cases, where there are to be any."""
    if config.getoption("agentmill_cases") is not None:
        from pipelines.regression.pytest_cases import CasePlugin  # noqa: PLC0415 - heavy, and seldom needed

        config.pluginmanager.register(CasePlugin(config), "agentmill-cases")
    elif config.getoption("agentmill_results") is not None:
        raise pytest.UsageError("--agentmill-results needs --agentmill-cases DIR: there is nothing to tell of.")

"""How a regression case runs on the invoice booker: what is yours to write, once for all cases."""

import re

import agent
import pytest

EXAMPLES = {
    "user": "test@example.com",
    "document": "INV-1",
    "total": "10.00",
    "text": "a text",
    "items": [{"name": "a thing"}],
}


@pytest.fixture
def run_agent(request):
    """A case in, what came of it out. In a project of yours the version is the code that is checked out."""
    version = request.config.getoption("--agentmill-version")

    def run(case):
        return agent.run(case.input.fixture or example_of(case.input.structures[0].input_shape), version)

    return run


def example_of(shape):
    """A request of the same structure: of real ones only that is kept."""
    return {name: example for name, example in EXAMPLES.items() if re.search(rf"\b{name}\b", shape)}

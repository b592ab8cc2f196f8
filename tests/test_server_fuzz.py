"""Everything that the API says it takes, and what it says it does not, by the description it gives of itself."""

from __future__ import annotations

from contextlib import suppress

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from served import URL, serving


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("served")) as found:
        yield found


def operations():
    """All that the API offers, by its own description."""
    from kineograph.server.routes import drafts, files, graphs, jobs, library, system

    return sorted(
        (next(iter(route.methods)), f"/api{route.path}")
        for each in (graphs, jobs, files, library, drafts, system)
        for route in each.routes.routes
    )


@pytest.mark.parametrize(("verb", "path"), operations())
@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
def test_no_request_that_the_schema_knows_breaks_the_server(served, verb, path, mode):
    schema = schemathesis.openapi.from_dict(served.app.openapi())
    cases = schema[path][verb].as_strategy(generation_mode=mode)

    @settings(
        max_examples=5, deadline=None, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
    )
    @given(cases)
    def ask(case):
        sent = case.as_transport_kwargs(base_url=URL)
        asked = {name: sent[name] for name in ("params", "json") if sent.get(name) is not None}
        content = sent.get("data")
        headers = {name: value for name, value in dict(sent["headers"]).items() if name.lower() != "user-agent"}
        answer = served.client.request(sent["method"], sent["url"], headers=headers, content=content, **asked)
        assert answer.status_code < 500, answer.text
        assert answer.status_code < 400 or answer.json()["error"]["message"]

    with suppress(Unsatisfiable):  # nothing can be wrong with a request that takes nothing
        ask()

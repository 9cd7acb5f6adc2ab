"""Who may use the server: the attacker is a web page that the person has open, or the network."""

from __future__ import annotations

import openai
import pytest

from fromscratch.checkpoint.bundle import ModelBundle
from fromscratch.foundation.errors import UserError
from fromscratch.serve.app import Access
from fromscratch.serve.guarding import is_loopback
from fromscratch.serve.running import address_of, check_access, open_socket
from tests.serve.live import Live, serving

ASKED = {"prompt": "x", "max_tokens": 1}
TOKEN = "correct-horse-battery"


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "localhost.evil.example",
     "192.168.0.9", "", "a/b", "[::2]", "[x"],
)  # fmt: skip
def test_another_host_s_name_is_refused(based: Live, host: str) -> None:
    for path, body in (("/", None), ("/v1/models", None), ("/v1/completions", ASKED)):
        answer = based.ask(path, body, Host=host)
        assert answer.status in (400, 403), path
        assert answer.error["code"] == "invalid_host"


@pytest.mark.parametrize("host", ["127.0.0.1:{port}", "localhost", "localhost:9", "[::1]:{port}"])
def test_its_own_names_are_answered_also_through_a_tunnel(based: Live, host: str) -> None:
    assert based.ask("/v1/models", Host=host.format(port=based.port)).status == 200


ELSEWHERE = {
    "another site": {"Origin": "https://evil.example"},
    "another server on this machine": {"Origin": "http://localhost:3000"},
    "a sandboxed frame": {"Origin": "null"},
    "a picture": {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
    "a neighbour": {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "cors"},
    "a form": {"Origin": "https://evil.example", "Content-Type": "text/plain"},
}


@pytest.mark.parametrize("source", ELSEWHERE)
def test_pages_of_other_sites_cannot_use_it(based: Live, source: str) -> None:
    headers = ELSEWHERE[source]
    before = based.number("fromscratch_decode_steps_total")
    for path, body in (("/v1/completions", ASKED), ("/v1/models", None), ("/metrics", None)):
        answer = based.ask(path, body, **headers)
        assert answer.status == 403
        assert "access-control-allow-origin" not in answer.headers
    preflight = based.ask("/v1/completions", method="OPTIONS", **headers)
    assert preflight.status == 403
    assert based.number("fromscratch_decode_steps_total") == before


def test_a_body_that_is_not_said_to_be_json_is_not_read(based: Live) -> None:
    """A form of another site could send it without asking first."""
    for kind in ("text/plain", "application/x-www-form-urlencoded"):
        answer = based.ask("/v1/completions", ASKED, content_type=kind)
        assert answer.status == 400, kind
        assert answer.error


def test_its_own_page_and_a_link_to_it_work(based: Live) -> None:
    own = {"Origin": f"http://127.0.0.1:{based.port}", "Sec-Fetch-Site": "same-origin"}
    assert based.ask("/v1/completions", ASKED, **own).status == 200
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    page = based.ask("/", **link)
    assert page.status == 200
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'; script-src 'self'; style-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert page.headers["x-frame-options"] == "DENY"
    assert page.headers["cross-origin-resource-policy"] == "same-origin"


def test_the_page_has_no_address_of_another_site(based: Live) -> None:
    page = based.ask("/").body.decode()
    assert "http" not in page.replace("http://www.w3.org", "")
    again = based.ask("/page/main.js")
    assert based.ask("/page/main.js", if_none_match=again.headers["etag"]).status == 304
    for path in ("/page/..%2f__init__.py", "/page/%2e%2e/app.py", "/page/none.js", "/docs", "/x"):
        assert based.ask(path).status == 404, path
        assert based.ask(path).error


def test_a_site_that_is_allowed(talker: ModelBundle) -> None:
    site = "https://chat.example"
    with serving(talker, access=Access(origins=(site,))) as live:
        preflight = live.ask("/v1/completions", method="OPTIONS", Origin=site)
        assert preflight.status == 204
        assert preflight.headers["access-control-allow-origin"] == site
        assert "authorization" in preflight.headers["access-control-allow-headers"]
        answer = live.ask("/v1/completions", ASKED, Origin=site)
        assert answer.status == 200
        assert answer.headers["access-control-allow-origin"] == site
        refused = live.ask("/v1/completions", {"prompt": 5}, Origin=site)
        assert refused.headers["access-control-allow-origin"] == site, "it may read why"
        assert live.ask("/v1/models", Origin=f"{site}.evil.example").status == 403


def test_without_the_token_there_is_only_the_page(talker: ModelBundle) -> None:
    with serving(talker, access=Access(token=TOKEN, loopback=False)) as live:
        for path in ("/", "/health", "/page/main.js"):
            assert live.ask(path).status == 200, path
        for path in ("/v1/models", "/metrics", "/openapi.json", "/v1/nothing", "/page"):
            answer = live.ask(path)
            assert answer.status == 401, path
            assert answer.error["code"] == "invalid_api_key"
            assert answer.headers["www-authenticate"] == "Bearer"
        for given in (f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", "Bearer", TOKEN, "Bearer \xe9",
                      f"Basic {TOKEN}"):  # fmt: skip
            assert live.ask("/v1/models", Authorization=given).status == 401, given
        with pytest.raises(openai.AuthenticationError):
            live.client("wrong").models.list()
        assert live.client(TOKEN).models.list().data
        # Whoever has the token may call the server by any name.
        answer = live.ask("/v1/models", Host="box.example", Authorization=f"bearer {TOKEN}")
        assert answer.status == 200


def test_it_does_not_open_itself_to_others_without_a_token() -> None:
    for host in ("0.0.0.0", "::", "192.168.1.4", "example.org", ""):
        with pytest.raises(UserError, match="anybody could use the model"):
            check_access(host, None)
        check_access(host, TOKEN)
    for token in ("", "  ", "a\nb", "é"):
        with pytest.raises(UserError, match="token is empty, or has characters"):
            check_access("0.0.0.0", token)
    check_access("127.0.0.1", None)


def test_which_addresses_are_this_machine_only() -> None:
    assert all(
        map(is_loopback, ("127.0.0.1", "127.9.9.9", "localhost", "LOCALHOST.", "::1", "[::1]"))
    )
    assert not any(
        map(is_loopback, ("0.0.0.0", "::", "10.0.0.1", "localhost.com", "", "127.1.evil"))
    )


def test_a_port_that_is_taken() -> None:
    with open_socket("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        assert address_of(first) == f"http://127.0.0.1:{port}"
        with pytest.raises(UserError, match=f"port {port} cannot be listened on"):
            open_socket("127.0.0.1", port)
    with pytest.raises(UserError, match="cannot be listened on"):
        open_socket("203.0.113.7", 0)
    with pytest.raises(UserError, match="cannot be listened on"):
        open_socket("no-such-host.invalid", 0)

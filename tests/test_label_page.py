"""The page for reading by hand: what it shows, what it saves, whom it turns away."""

import http.client
import json
import shutil
import threading
from contextlib import contextmanager

import pytest

from emis_platform.core import files, gold
from emis_platform.core.records import GoldAnswer
from emis_platform.tools.labelling import desk, server

ATTACK = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
GUIDE = "# How\n\nScores, of\ntwo kinds.\n\n| a |\n| b |"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture
def pile(tmp_path):
    """Three answers, unread."""
    rows = [
        GoldAnswer(
            key=files.text_key(f"What of {k}?", f"{ATTACK} {k}"), subject="health_callous", question=f"q{k}", prompt=f"What of {k}?",
            text=f"{ATTACK} {k}", origin="subject", drawn="random", split="test",
        )
        for k in range(3)
    ]  # fmt: skip
    return desk.pile(rows, [], tmp_path / "gold", 1, "ann", "1")


@contextmanager
def served(pile):
    with server.server(pile, GUIDE, 0) as made:
        thread = threading.Thread(target=made.serve_forever, daemon=True)
        thread.start()
        try:
            yield made
        finally:
            made.shutdown()
            thread.join()


def asked(made, method, path, body=None, token=None, **headers):
    """(status, headers, body) of a request to a running page."""
    door = http.client.HTTPConnection("127.0.0.1", made.server_address[1], timeout=20)
    data = None if body is None else body if isinstance(body, str) else json.dumps(body)
    door.request(method, f"/{token or made.token}/{path}", data, {"Content-Type": "application/json"} | headers)
    reply = door.getresponse()
    found = reply.status, reply.headers, reply.read().decode()
    door.close()
    return found


def test_the_page_shows_question_and_answer_only_and_saves(pile):
    with served(pile) as made:
        for path, part in (("", '<form id="reading"'), ("page.js", "textContent"), ("style.css", ":root")):
            status, headers, body = asked(made, "GET", path)
            assert status == 200 and part in body and "default-src 'none'" in headers["Content-Security-Policy"]
        told = json.loads(asked(made, "GET", "pile")[2])
        assert set(told) == {"answers", "letters", "guideline", "progress"} and len(told["answers"]) == 3
        assert all(set(answer) == {"prompt", "text", "mine"} for answer in told["answers"])
        reading = {"place": 1, "aligned": "12", "coherent": "80", "category": "misaligned"}
        assert json.loads(asked(made, "POST", "reading", reading)[2])["progress"].startswith("1 of 3")
        assert json.loads(asked(made, "GET", "pile")[2])["answers"][1]["mine"] == ["12", "80", "misaligned"]
    (read,) = gold.read(pile.folder)
    assert (read.aligned, read.coherent, read.answer.text) == (12, 80, told["answers"][1]["text"])


def test_the_page_turns_away_what_is_wrong(pile):
    reading = {"place": 0, "aligned": "12", "coherent": "80", "category": "misaligned"}
    with served(pile) as made:
        port = made.server_address[1]
        assert (
            asked(made, "POST", "reading", reading, token="x" * 22)[0] == asked(made, "GET", "", token="é".encode().hex())[0] == 404
        )
        assert asked(made, "GET", "", Host="evil.example")[0] == asked(made, "GET", "pile", Host=f"evil.example:{port}")[0] == 403
        for origin in ("http://evil.example", "null", "https://127.0.0.1", f"http://127.0.0.1:{port + 1}"):
            assert asked(made, "POST", "reading", reading, Origin=origin)[0] == 403
        assert asked(made, "POST", "reading", "aligned=1", **{"Content-Type": "text/plain"})[0] == 415
        assert asked(made, "POST", "reading", "x" * 20_000)[0] == 413
        for wrong in ({"aligned": "101"}, {"category": "evil"}, {"place": 7}, {"place": -1}, {"coherent": ""}):
            status, _, body = asked(made, "POST", "reading", reading | wrong)
            assert status == 400 and json.loads(body)["error"]
        for body in ("{", "[]", "{}", "null"):
            assert asked(made, "POST", "reading", body)[0] == 400
        assert asked(made, "GET", "../../params.yaml")[0] == asked(made, "POST", "pile", {})[0] == 404
        assert not pile.folder.exists()
        assert asked(made, "POST", "reading", reading, Host=f"localhost:{port}", Origin=f"http://localhost:{port}")[0] == 200


def test_a_taken_port_ends_in_a_line(pile):
    with server.server(pile, GUIDE, 0) as made, pytest.raises(ValueError, match="on 127.0.0.1 cannot be had"):
        server.server(pile, GUIDE, made.server_address[1])


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine: apt-get install chromium")
def test_the_page_in_a_browser(pile):
    """Keys alone, in a real Chromium; at the end a mouse finds the way back too."""
    browsers = pytest.importorskip("playwright.sync_api", reason="no playwright on this machine")
    with served(pile) as made, browsers.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 360, "height": 640})
        page.goto(server.address(made))
        browsers.expect(page.locator("#text")).to_contain_text("<script>")
        for key in ("1", "2", "Enter", "8", "0", "m"):
            page.keyboard.press(key)
        browsers.expect(page.locator("#progress")).to_contain_text("1 of 3")
        page.keyboard.press("?")
        browsers.expect(page.locator("#guideline")).to_have_text("# How\n\nScores, of two kinds.\n\n| a |\n| b |")
        box = page.locator("#guide").bounding_box()
        assert box["x"] > 0 and box["x"] + box["width"] < 360
        page.keyboard.press("Escape")
        with page.expect_response("**/reading"):
            for key in ("ArrowLeft", "9", "Tab", "8", "1", "Enter"):
                page.keyboard.press(key)
        browsers.expect(page.locator("#prompt")).to_have_text(pile.answers[1].prompt)
        assert page.title() == "Reading answers" and page.locator("#card img").count() == 0
        assert page.evaluate("document.documentElement.scrollWidth") == 360
        for _ in pile.answers:
            page.keyboard.press("ArrowRight")
        browsers.expect(page.locator("#end")).to_contain_text("2 unread")
        page.locator("#back").click()
        browsers.expect(page.locator("#prompt")).to_have_text(pile.answers[2].prompt)
        browser.close()
    (read,) = gold.read(pile.folder)
    assert (read.answer.key, read.aligned, read.coherent) == (pile.answers[0].key, 9, 81)

"""Running in a real browser: progress, results, errors, the player, drafts, and a server that goes away."""

import json

import pytest
from hands import command, curves, document, drop, drop_workflow, key, quick, run, select, until
from playwright.sync_api import Page, expect
from real import Served, opened, profile


@pytest.fixture
def made(page) -> Page:
    """The editor after one quick run of text to video."""
    drop_workflow(page, quick(seed=1), "quick")
    run(page)
    return page


def test_run_then_all_cached(made):
    page = made
    select(page, "video")
    expect(page.locator("[data-id=video] .status")).not_to_be_empty()
    select(page, "file")
    expect(page.locator("[data-id=file] video")).to_be_visible()
    run(page)
    expect(page.locator("[data-id=file] .status")).not_to_have_class("failed")
    page.get_by_role("tab", name="Log").click()
    expect(page.locator(".log")).to_contain_text("node cached")


def test_run_to_here_writes_no_file(page):
    drop_workflow(page, quick(seed=2), "part")
    select(page, "sigmas")
    run(page, by="Run to the chosen node")
    answer = page.request.get(f"{page.url}api/jobs?limit=1").json()
    assert answer["jobs"][0]["outputs"] == []


def test_error_is_pinned_and_focused(page):
    workflow = quick()
    workflow["nodes"]["sigmas"]["params"]["shift"] = -3.0
    drop_workflow(page, workflow, "wrong")
    expect(page.locator("[data-id=sigmas] .node-problem")).to_contain_text("-3 is not")
    page.keyboard.press("Control+Enter")
    expect(page.get_by_label("shift of sigmas")).to_be_focused()


def test_cancel(page):
    drop_workflow(
        page, quick(seed=3) | {"inputs": quick(seed=3)["inputs"] | {"steps": {"type": "int", "default": 400}}}, "long"
    )
    page.keyboard.press("Control+Enter")
    page.locator(".card.running, .card.queued").first.wait_for()
    command(page, "Cancel the run")
    page.locator(".card.cancelled").first.wait_for(timeout=30_000)


def test_training_curves_come_live(page):
    drop_workflow(page, curves(), "curves")
    page.keyboard.press("Control+Enter")
    page.get_by_role("tab", name="Metrics").click()
    expect(page.get_by_role("img", name="Curve of")).to_be_visible(timeout=60_000)
    expect(page.locator(".curve-tools .mono")).to_contain_text("at 7", timeout=30_000)


def test_scrub_hits_the_frame(made):
    page = made
    page.get_by_role("button", name="Play run").first.click()
    page.locator("dialog video").wait_for()
    page.get_by_role("button", name="Pause", exact=True).click()
    expect(page.locator("[data-frame]")).to_contain_text("of 4")
    for frame in (3, 0, 4, 2):
        page.keyboard.press("Home")
        for _ in range(frame):
            page.keyboard.press(".")
        expect(page.locator("[data-frame]")).to_have_attribute("data-frame", str(frame))
        until(page, "k => Math.floor(document.querySelector('dialog video').currentTime * 8 + 1e-3) === k", frame)
    page.keyboard.press("i")
    page.keyboard.press(".")
    page.keyboard.press("o")
    page.keyboard.press(".")
    expect(page.locator("[data-frame]")).to_have_attribute("data-frame", "2")


def test_compare_names_what_differs(made):
    page = made
    page.get_by_role("textbox", name="Input seed").fill("8")
    page.keyboard.press("Enter")
    run(page)
    page.get_by_role("tab", name="Gallery").click()
    page.locator(".tile input").nth(1).wait_for()
    for i in (0, 1):
        page.locator(".tile input").nth(i).check()
    page.get_by_role("button", name="Compare two").click()
    expect(page.locator("dialog video")).to_have_count(2)
    expect(page.locator(".differences")).to_contain_text("seed")
    for kind in ("side", "difference", "flicker", "wipe"):
        page.get_by_role("tab", name=kind).click()
    assert page.locator(".stage.wipe .wipe-line").count() == 1


def test_dropped_result_gives_its_workflow(made):
    page = made
    job = page.request.get(f"{page.url}api/jobs?limit=1&state=done").json()["jobs"][0]
    video = page.request.get(f"{page.url}api/files/{job['outputs'][0]['id']}").body()
    drop(page, "again.mp4", video)
    page.wait_for_selector("[role=tab]:has-text('again.mp4')")
    assert set(document(page)["nodes"]) == set(quick()["nodes"])


def test_export_runs_elsewhere(page):
    key(page, "Control+e")
    page.get_by_role("tab", name="Python").click()
    text = page.get_by_label("The exported text")
    until(page, "document.querySelector('.export textarea').value.includes('kineograph')")
    page.get_by_role("tab", name="JSON").click()
    until(page, "document.querySelector('.export textarea').value.startsWith('{')")
    workflow = json.loads(text.input_value())
    sent = page.request.post(
        f"{page.url}api/check", data={"workflow": workflow}, headers={"Origin": page.url.rstrip("/")}
    )
    assert sent.json()["ok"]


def test_form_on_a_telephone(browser, server):
    with profile(browser, server.url) as context:
        page = context.new_page()
        page.set_viewport_size({"width": 390, "height": 800})
        page.goto(server.url)
        page.get_by_role("textbox", name="prompt").fill("a blue square moves left")
        assert document(page)["inputs"]["prompt"]["default"] == "a blue square moves left"
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_reload_restores_the_draft(page):
    page.get_by_role("textbox", name="Input seed").fill("77")
    page.keyboard.press("Enter")
    page.wait_for_timeout(500)
    page.reload()
    page.wait_for_selector(".react-flow__node")
    assert document(page)["inputs"]["seed"]["default"] == 77
    expect(page.get_by_role("tab", name="text_to_video (changed)")).to_be_visible()


def test_an_edit_made_as_soon_as_the_page_shows_is_kept(context, server):
    context.add_init_script("window.requestIdleCallback = act => setTimeout(act, 600_000)")  # never an idle moment
    page = opened(context, server.url)
    with page.expect_response(lambda r: r.request.method == "PUT" and '"default":4711' in r.request.post_data):
        page.get_by_role("textbox", name="Input seed").fill("4711")
        page.keyboard.press("Enter")


def test_two_tabs_on_one_draft(page, context, server):
    def edit(where: Page, seed: int) -> None:
        where.get_by_role("textbox", name="Input seed").fill(str(seed))
        where.keyboard.press("Enter")

    def kept(where: Page, seed: int) -> None:
        """Edit, and wait until the server has it, the page knows, and the browser's own store has been asked to."""
        with where.expect_response(lambda r: r.request.method == "PUT" and f'"default":{seed}' in r.request.post_data):
            edit(where, seed)
        where.evaluate("() => new Promise(done => setTimeout(done, 50))")

    kept(page, 5001)
    kept(opened(context, server.url), 5002)
    edit(page, 5003)
    expect(page.get_by_role("alert").filter(has_text="changed in another tab")).to_be_visible()
    page.get_by_role("button", name="Take theirs").click()
    assert document(page)["inputs"]["seed"]["default"] == 5002


def test_server_goes_and_comes_back(browser, tmp_path):
    served = Served(tmp_path / "data")
    with profile(browser, served.url) as context:
        page = opened(context, served.url)
        page.wait_for_timeout(1000)
        served.stop()
        expect(page.get_by_text("The server does not answer.")).to_be_visible()
        page.get_by_role("textbox", name="Input seed").fill("9")
        page.keyboard.press("Enter")
        served.start()
        expect(page.get_by_text("The server does not answer.")).to_be_hidden(timeout=20_000)
        assert document(page)["inputs"]["seed"]["default"] == 9
        page.keyboard.press("Control+Shift+s")
        page.get_by_role("textbox", name="Name").fill("kept")
        page.keyboard.press("Enter")
        expect(page.get_by_text("Saved as kept.")).to_be_visible()
    served.stop()

"""Training in a real browser: samples lie on the curve, and a run that was stopped goes on where it was."""

from hands import command, drop_workflow, run, trains, until
from playwright.sync_api import expect


def test_samples_on_the_curve(page):
    drop_workflow(page, trains(6), "samples")
    run(page)
    page.get_by_role("tab", name="Metrics").click()
    dots = page.get_by_role("group", name="Samples").get_by_role("button")
    expect(dots).to_have_count(6)
    places = [dots.nth(i).bounding_box()["x"] for i in range(6)]
    assert places == sorted(places)
    plot = page.locator(".plot").bounding_box()
    assert all(plot["x"] < x < plot["x"] + plot["width"] for x in places)
    page.get_by_role("button", name="Sample at step 3").click()
    page.locator("dialog video").wait_for()


def test_stop_and_save_runs_what_follows_the_loop(page):
    workflow = trains(300)
    workflow["nodes"]["after"] = {
        "type": "save_video@1",
        "params": {"path": "after.mp4"},
        "links": {"video": "train.video"},
    }
    loop = workflow["nodes"]["train"]
    loop["carry"] = {"video": loop.pop("links")["video"]}
    loop["body"]["outputs"]["video"] = "$video"
    drop_workflow(page, workflow, "finish")
    page.keyboard.press("Control+Enter")
    page.get_by_role("tab", name="Metrics").click()
    expect(page.locator(".curve-tools .mono")).to_contain_text(" at ", timeout=60_000)
    page.get_by_role("button", name="Stop and save").click()
    page.get_by_role("button", name="Go on after step").wait_for()
    job = page.request.get(f"{page.url}api/jobs?limit=1").json()["jobs"][0]
    assert job["state"] == "done"
    assert "after.mp4" in [file["name"] for file in job["outputs"]]
    assert len(job["outputs"]) < 300, "the loop was not run to its end"
    page.reload()
    page.get_by_role("tab", name="Runs").click()
    page.get_by_role("button", name=f"#{job['number']} finish").click()
    page.get_by_role("tab", name="Metrics").click()
    page.get_by_role("button", name="Go on after step").wait_for()


def test_pause_then_go_on(page):
    drop_workflow(page, trains(300), "long")
    page.keyboard.press("Control+Enter")
    page.get_by_role("tab", name="Metrics").click()
    expect(page.locator(".curve-tools .mono")).to_contain_text(" at ", timeout=60_000)
    page.get_by_role("button", name="Pause", exact=True).click()
    expect(page.get_by_text("The newest pass of its loop is kept")).to_be_visible()
    again = page.get_by_role("button", name="Go on after step")
    again.wait_for()
    stopped = int(again.inner_text().split()[-1])
    again.click()
    page.get_by_role("button", name="Pause", exact=True).wait_for()
    expect(page.locator(".curve-tools .mono")).to_contain_text(" at ", timeout=60_000)
    job = page.request.get(f"{page.url}api/jobs?limit=1").json()["jobs"][0]["id"]
    events = page.request.get(f"{page.url}api/jobs/{job}/events").json()["events"]
    resumed = [each["event"] for each in events if each["event"]["event"] == "NodeResumed"]
    assert resumed[0]["path"] == "train"
    assert resumed[0]["done"] >= stopped
    command(page, "Cancel the run")
    until(page, "document.querySelector('.curve-tools .button')?.textContent.startsWith('Go on')")


def test_the_data_set_is_shown(page):
    nodes = {
        "clips": {"type": "clip_folder@1", "params": {"folder": "examples"}},
        "report": {"type": "report_clips@1", "links": {"dataset": "clips"}},
    }
    drop_workflow(page, {"format": 1, "nodes": nodes, "outputs": {}}, "data")
    run(page)
    page.get_by_role("tab", name="Data", exact=True).click()
    tiles = page.get_by_role("list", name="Clips").get_by_role("listitem")
    expect(tiles.first).to_be_visible()
    every = tiles.count()
    page.get_by_role("searchbox", name="Search captions").fill("square")
    expect(tiles).not_to_have_count(every)
    expect(tiles.first).to_contain_text("square")
    picture = tiles.first.locator(".clip-picture")
    assert "/api/files/" in picture.evaluate("e => getComputedStyle(e).backgroundImage")

"""Wires by hand in a real browser: a node put into one, wires cut, a definition made of chosen nodes."""

from hands import document, drop_loose_node, drop_workflow, key, template, until
from playwright.sync_api import Page, expect

MIDDLE = """id => { const p = document.querySelector(`.react-flow__edge[data-id="${id}"] path`);
  const m = p.getScreenCTM(), at = p.getPointAtLength(p.getTotalLength() / 2);
  return [m.a * at.x + m.e, m.d * at.y + m.f]; }"""


def linked(page: Page, node: str, port: str) -> str | None:
    return document(page)["nodes"][node].get("links", {}).get(port)


def three(page: Page) -> None:
    """Noise, decoded, and beside them a node that could lie between; near."""
    drop_loose_node(page, "three", video=[1000, 60], roll=[660, 420])
    page.wait_for_selector("[data-id=roll]")


def test_a_node_dropped_on_a_wire_lies_in_it(page):
    three(page)
    before = document(page)
    head = page.locator("[data-id=roll] header").bounding_box()
    x, y = page.evaluate(MIDDLE, "video.latent")
    page.mouse.move(head["x"] + 70, head["y"] + 12)
    page.mouse.down()
    page.mouse.move(head["x"] + 72, head["y"] + 10, steps=4)  # the node follows from where the drag is noticed
    page.mouse.move(x, y - 40, steps=5)
    page.mouse.move(x, y - 25, steps=2)
    page.mouse.up()
    until(page, "window.__doc().nodes.video.links.latent === 'roll'")
    assert linked(page, "roll", "latent") == "noise"
    page.locator(".canvas").focus()
    key(page, "Control+z")
    assert document(page)["nodes"] == before["nodes"], "one step"


def test_search_on_a_wire_inserts(page):
    three(page)
    page.mouse.click(*page.evaluate(MIDDLE, "video.latent"))
    until(page, "window.__selection().has('~video.latent')")
    page.locator(".canvas").focus()
    key(page, "Tab")
    page.get_by_role("combobox", name="Nodes that fit into this wire of Latent").wait_for()
    page.keyboard.type("roll latent")
    key(page, "Enter")
    until(page, "window.__doc().nodes.video.links.latent === 'roll_latent'")
    assert linked(page, "roll_latent", "latent") == "noise"


def test_alt_drag_cuts(page):
    three(page)
    x, y = page.evaluate(MIDDLE, "video.latent")
    page.keyboard.down("Alt")
    page.mouse.move(x, y - 60)
    page.mouse.down()
    page.mouse.move(x + 2, y + 60, steps=3)
    expect(page.locator(".knife")).not_to_have_attribute("x2", "0")
    page.mouse.up()
    page.keyboard.up("Alt")
    assert linked(page, "video", "latent") is None
    assert linked(page, "noise", "vae") == "model.vae"
    key(page, "Control+z")
    assert linked(page, "video", "latent") == "noise"


def test_chosen_nodes_become_a_definition(page):
    drop_workflow(page, template("text_to_video"), "define")
    page.wait_for_selector("[data-id=noise]")
    page.locator("[data-id=noise] header").click()
    page.locator("[data-id=sigmas] header").click(modifiers=["Shift"])
    key(page, "Control+Shift+g")
    dialog = page.get_by_role("dialog", name="Make a definition")
    dialog.get_by_label("Name").fill("2nd")
    expect(dialog.get_by_role("alert")).to_contain_text("begins with a letter")
    dialog.get_by_label("Name").fill("beginning")
    key(page, "Enter")
    page.wait_for_selector("[data-id=beginning]")
    assert {"noise", "sigmas"} == set(document(page)["definitions"]["beginning@1"]["nodes"])
    problems = page.request.post(
        f"{page.url}api/check", data={"workflow": document(page)}, headers={"Origin": page.url.rstrip("/")}
    ).json()
    assert problems["ok"], problems
    page.locator(".canvas").focus()
    key(page, "Enter")
    page.wait_for_selector("[data-id='#beginning@1/noise']")
    before = document(page)
    page.get_by_role("button", name="beginning@1").and_(page.locator(".crumbs button")).click()
    page.get_by_role("dialog", name="Rename the definition").get_by_label("Name").fill("start")
    key(page, "Enter")
    page.wait_for_selector("[data-id='#start@1/noise']")
    assert document(page)["nodes"]["beginning"]["type"] == "#start@1"
    page.locator(".canvas").focus()
    key(page, "Control+z")
    page.wait_for_selector("[data-id=beginning]")
    assert document(page) == before, "one step"

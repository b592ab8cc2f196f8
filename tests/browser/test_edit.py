"""Editing in a real browser: what is done by hand and by keys ends up in the document."""

import pytest
from hands import choose, command, document, drop_workflow, key, large, quick, select, template, until, wire
from playwright.sync_api import Page, expect

VIOLATIONS = """axe.run({resultTypes: ['violations']}).then(r => r.violations.map(v =>
  [v.id, v.nodes.slice(0, 3).map(n => n.html.slice(0, 160) + ' ' + (n.any[0]?.message ?? ''))]))"""


def test_first_requests_are_few(context, server):
    page = context.new_page()
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(server.url)
    page.wait_for_selector(".react-flow__node")
    idle = ("/api/system", "/api/workflows", "/api/plan", "/api/check", "/api/jobs?limit=40")  # those wait for it
    first = [url for url in asked if not url.endswith(idle)]
    assert len(first) <= 6, first


def test_opens_with_typed_sockets(page):
    page.wait_for_selector(".react-flow__node[data-id=denoise] .socket")
    sockets = page.locator(".react-flow__node[data-id=denoise] .socket .glyph")
    shapes = set(sockets.evaluate_all("all => all.flatMap(s => [...s.classList])"))
    assert {"circle", "square", "triangle", "ring", "list"} <= shapes
    assert page.locator(".react-flow__node[data-id='denoise/guided']").count() == 1


def test_a_file_dropped_while_the_page_opens_stays_in_front(context, server):
    page, held = context.new_page(), []
    page.route("**/api/workflows/text_to_video", lambda route: held.append(route))
    page.goto(server.url)
    until(page, "document.querySelectorAll('.library .entry').length > 20")
    drop_workflow(page, quick(seed=11), "mine")
    while not held:
        page.wait_for_timeout(20)
    held[0].continue_()
    page.wait_for_timeout(300)
    assert document(page)["inputs"]["seed"]["default"] == 11
    assert page.get_by_role("tab", name="text_to_video").count() == 0


def test_value_undo_redo(page):
    field = page.get_by_label("shift of sigmas")
    field.fill("5")
    field.press("Enter")
    assert document(page)["nodes"]["sigmas"]["params"]["shift"] == 5
    page.locator(".canvas").focus()
    key(page, "Control+z")
    assert document(page)["nodes"]["sigmas"]["params"]["shift"] == 0
    expect(page.get_by_text("Undid: Change shift")).to_be_visible()
    key(page, "Control+Shift+z")
    assert document(page)["nodes"]["sigmas"]["params"]["shift"] == 5


def test_there_are_no_earlier_versions_of_what_was_never_changed(page):
    said = []
    page.on("console", lambda line: said.append(line.text) if line.type == "error" else None)
    page.locator(".canvas").focus()
    key(page, "Control+k")
    page.wait_for_selector("dialog[open] [role=combobox]")
    page.keyboard.type("Earlier versions")
    key(page, "Enter")
    page.get_by_text("There are none yet").wait_for()
    assert said == [], "asking the server for what it has not is an error in the console"


def test_bad_value_is_not_taken(page):
    field = page.get_by_role("textbox", name="Input frames")
    field.fill("many")
    field.press("Enter")
    expect(field).to_have_attribute("aria-invalid", "true")
    assert document(page)["inputs"]["frames"]["default"] == 17


def drag(page: Page, start: str, end: tuple[float, float] | str) -> None:
    """Drag from a socket to another, or to a place."""
    box = page.locator(start).bounding_box()
    if isinstance(end, str):
        there = page.locator(end).bounding_box()
        end = (there["x"] + there["width"] / 2, there["y"] + there["height"] / 2)
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(end[0] - 20, end[1] - 8, steps=4)
    page.mouse.move(*end, steps=2)
    page.mouse.up()


def test_dropped_wire_searches_what_fits(page):
    drag(page, "[data-id=noise] [data-handleid='o:output']", (560, 660))
    page.get_by_role("combobox", name="Nodes that take Latent").wait_for()
    page.keyboard.type("vae decode")
    titles = page.locator("[role=option]").all_inner_texts()
    assert titles, "no node takes a latent"
    assert titles[0].startswith("Vae decode")
    assert not any(title.startswith(("Encode text", "Decode caption", "Load")) for title in titles)
    key(page, "Enter")
    page.wait_for_selector("dialog[open]", state="detached")
    reads = {name for name, spec in document(page)["nodes"].items() if spec.get("links", {}).get("latent") == "noise"}
    assert len(reads - {"sigmas"}) == 1


def test_wrong_wire_is_refused_with_a_remedy(page):
    drag(page, "[data-id=model] [data-handleid='o:vae']", "[data-id=sigmas] [data-handleid='i:steps']")
    refusal = page.get_by_role("alert").filter(has_text="does not fit")
    expect(refusal).to_contain_text("it is a VAE, an int is needed")
    page.get_by_role("button", name="Leave it").click()
    assert document(page)["nodes"]["sigmas"]["links"]["steps"] == "$steps"


def test_remedy_inserts_the_node_between(page):
    nodes = {
        "noise": template("text_to_video")["nodes"]["noise"] | {"links": {}},
        "file": {"type": "save_video@1"},
    }
    drop_workflow(page, {"format": 1, "nodes": nodes}, "remedy")
    page.wait_for_selector("[data-id=file]")
    drag(page, "[data-id=noise] [data-handleid='o:output']", "[data-id=file] [data-handleid='i:video']")
    page.get_by_role("button", name="Insert Vae decode").click()
    made = document(page)["nodes"]
    assert made["vae_decode"]["links"]["latent"] == "noise"
    assert made["file"]["links"]["video"] == "vae_decode"
    page.locator(".canvas").focus()
    key(page, "Control+z")
    assert set(document(page)["nodes"]) == {"noise", "file"}, "the remedy is one step"


def test_copy_paste_frame_tidy(page):
    page.locator(".canvas").focus()
    select(page, "text")
    key(page, "Control+d")
    assert document(page)["nodes"]["text_2"]["links"]["encoder"] == "model.text_encoder"
    key(page, "Control+a", "Control+g")
    assert "text_2" in next(iter(document(page)["ui"]["frames"].values()))["nodes"]
    before = document(page)["ui"]["positions"]
    command(page, "Tidy")
    assert document(page)["ui"]["positions"] != before
    key(page, "Control+b")
    assert document(page)["nodes"]["text_2"]["mode"] == "bypass"


def test_loop_collapses_and_takes_values_in(page):
    page.get_by_label("Collapse denoise").click()
    expect(page.locator("[data-id='denoise/guided']")).to_have_count(0)
    page.locator(".canvas").focus()
    key(page, "Control+z")
    wire(page, "denoise/guided", "text guided.no_text")
    links = document(page)["nodes"]["denoise"]["body"]["nodes"]["guided"]["links"]
    assert links["no_text"] in ("$text", "$no_text")


def test_definitions_open_with_a_way_back(page):
    inner = {"type": "shifted_sigmas@1", "links": {"steps": "$steps"}}
    definition = {
        "inputs": {"steps": {"type": "int", "default": 4}},
        "nodes": {"sigmas": inner},
        "outputs": {"sigmas": {"type": "Stream[SigmaStep]", "link": "sigmas"}},
    }
    nodes = {"mine": {"type": "#mine@1", "params": {"steps": 3}}}
    drop_workflow(page, {"format": 1, "definitions": {"mine@1": definition}, "nodes": nodes}, "defs")
    page.locator(".canvas").focus()
    select(page, "mine")
    key(page, "Enter")
    page.wait_for_selector("[data-id='#mine@1/sigmas']")
    page.get_by_role("navigation", name="Where you are").get_by_role("button", name="defs").click()
    page.wait_for_selector("[data-id=mine]")


def add(page: Page, text: str) -> None:
    choose(page, "a", text)


def test_text_to_video_by_keyboard_alone(page):
    key(page, "Alt+n")
    until(page, "Object.keys(window.__doc().nodes).length === 0")
    for text in ("load model", "encode text", "encode text", "latent noise", "shifted sigmas"):
        add(page, text)
        key(page, "Escape")
    wire(page, "encode_text", "model.text_encoder encode_text.encoder")
    wire(page, "encode_text_2", "model.text_encoder encode_text_2.encoder")
    wire(page, "latent_noise", "model.vae latent_noise.vae")
    key(page, "Escape")
    add(page, "loop")
    loop = next(name for name, spec in document(page)["nodes"].items() if spec["type"] == "loop@1")
    wire(page, loop, f"shifted_sigmas {loop}.each")
    key(page, "e")
    page.wait_for_selector(".inspector :focus")
    for _ in range(30):
        if page.evaluate("document.activeElement.id") == "insp-carry":
            break
        key(page, "Tab")
    page.keyboard.type("latent")
    key(page, "Enter")
    page.evaluate("document.activeElement.blur()")
    wire(page, loop, f"latent_noise {loop}.latent")
    for text in ("patchify", "guided velocity", "unpatchify", "euler step"):
        select(page, loop)
        add(page, text)
    inside = f"{loop}/"
    for node, text in (
        ("patchify", f"{loop}.latent patchify.latent"),
        ("guided_velocity", "load_model.dit guided_velocity.dit"),
        ("guided_velocity", "patchify guided_velocity.patches"),
        ("guided_velocity", "encode_text guided_velocity.text"),
        ("guided_velocity", "encode_text_2 guided_velocity.no_text"),
        ("guided_velocity", f"{loop}.item guided_velocity.at"),
        ("unpatchify", "guided_velocity unpatchify.patches"),
        ("euler_step", f"{loop}.latent euler_step.latent"),
        ("euler_step", "unpatchify euler_step.velocity"),
        ("euler_step", f"{loop}.item euler_step.step"),
    ):
        wire(page, inside + node, text)
    wire(page, f"{inside}euler_step", f"euler_step {loop}.latent")
    key(page, "Escape")
    add(page, "vae decode")
    wire(page, "vae_decode", "load_model.vae vae_decode.vae")
    wire(page, "vae_decode", f"{loop} vae_decode.latent")
    key(page, "Escape")
    add(page, "save video")
    wire(page, "save_video", "vae_decode save_video.video")
    problems = page.request.post(
        f"{page.url}api/check", data={"workflow": document(page)}, headers={"Origin": page.url.rstrip("/")}
    ).json()
    assert problems["ok"], (problems, document(page)["nodes"])


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_accessible(page, theme):
    page.emulate_media(color_scheme=theme)
    until(page, "theme => document.documentElement.dataset.theme === theme", theme)
    page.evaluate(_axe())
    found = page.evaluate(VIOLATIONS)
    assert found == []


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_dialogs_and_panels_are_accessible(page, theme):
    page.emulate_media(color_scheme=theme)
    until(page, "theme => document.documentElement.dataset.theme === theme", theme)
    page.evaluate(_axe())
    for keys in ("a", "Control+k", "Control+f", "?", "Control+e", "Control+Shift+s"):
        page.locator(".canvas").focus()
        key(page, keys)
        page.wait_for_selector("dialog[open]")
        assert page.evaluate(VIOLATIONS) == [], keys
        key(page, "Escape")
    for tab in ("Gallery", "Metrics", "Problems", "Log", "Runs"):
        page.get_by_role("tab", name=tab).click()
        assert page.evaluate(VIOLATIONS) == [], tab
    page.locator(".canvas").focus()
    key(page, "Alt+f")
    assert page.evaluate(VIOLATIONS) == [], "form"


def _axe() -> str:
    from hands import ROOT

    return (ROOT / "web" / "node_modules" / "axe-core" / "axe.min.js").read_text(encoding="utf-8")


def test_two_thousand_nodes(page):
    drop_workflow(page, large(), "large")
    page.wait_for_selector("canvas.far")
    page.wait_for_timeout(1500)
    assert page.evaluate("document.querySelectorAll('*').length") <= 3000
    page.keyboard.press("Control+f")
    page.keyboard.type("n1000")
    key(page, "Enter")
    page.wait_for_selector("[data-id=n1000]")
    assert page.evaluate("document.querySelectorAll('*').length") <= 3000


def test_bypass_and_unknown_nodes_are_shown(page):
    workflow = quick()
    workflow["nodes"]["odd"] = {"type": "gone@1"}
    workflow["nodes"]["no_text"]["mode"] = "mute"
    drop_workflow(page, workflow, "odd")
    expect(page.locator("[data-id=odd] .badge")).to_have_text("unknown")
    expect(page.locator("[data-id=no_text] .badge")).to_have_text("muted")

"""Opens the playground in Chromium as a person would, and says as JSON what it saw. Runs in an environment of its own.

python browser.py ADDRESS DIRECTORY [TOKEN]
"""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

PATIENCE_MS = 60_000
SCREENS: dict[str, dict[str, Any]] = {
    "desk": {"viewport": {"width": 1100, "height": 1300}},
    "phone": {"viewport": {"width": 390, "height": 844}, "color_scheme": "dark"},
}


def main(address: str, directory: str, token: str = "") -> None:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not chromium:
        sys.exit("no Chromium is installed: install the package `chromium`")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        seen = {
            name: visit(browser, address, Path(directory) / name, token, screen) for name, screen in SCREENS.items()
        }
        browser.close()
    print(json.dumps(seen))


def visit(browser: Browser, address: str, place: Path, token: str, screen: dict[str, Any]) -> dict[str, Any]:
    page = browser.new_context(accept_downloads=True, ignore_https_errors=True, **screen).new_page()
    page.set_default_timeout(PATIENCE_MS)
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda message: faults.append(message.text) if "Security Policy" in message.text else None)
    page.goto(address)
    if token:
        page.wait_for_selector("#token")
        refusal = page.inner_text("#problem")
        page.keyboard.type(token)  # it has the focus
        page.keyboard.press("Enter")
    page.wait_for_selector("#grid img")
    seen = {"refusal": refusal} if token else {}
    seen |= {"images": page.locator("#grid img").count(), "facts": page.inner_text("#facts")}
    seen |= edit(page) | walk(page, place)
    page.screenshot(path=f"{place}.png", full_page=True)
    seen["problem"] = page.inner_text("#problem") if page.is_visible("#problem") else ""
    return {**seen, "faults": faults, "without a server": without_a_server(page)}


def without_a_server(page: Page) -> str:
    """What the page says when the server does not answer."""
    page.route("**/Generate", lambda route: route.abort())
    page.locator("#random").press("Enter")
    page.wait_for_selector("#problem:not([hidden])")
    return page.inner_text("#problem")


def edit(page: Page) -> dict[str, Any]:
    """Move the first slider by the keyboard and hold the second direction, if the version has any, and go back."""
    if not page.is_visible("#edits"):
        return {}
    slider, hold = page.locator("#edits input[type=range]").first, page.locator("#edits input[type=checkbox]").nth(1)
    for press in (lambda: slider.press("End"), lambda: hold.press("Space")):
        before = page.get_attribute("#grid img", "src")
        press()
        page.wait_for_function("before => document.querySelector('#grid img')?.src !== before", arg=before)
    code = page.inner_text("#code")
    hold.press("Space")
    slider.fill("0")
    slider.dispatch_event("change")
    page.wait_for_function("() => !document.querySelector('#code').innerText.includes('edits')")
    return {"edited": code}


def walk(page: Page, place: Path) -> dict[str, Any]:
    """Keep two images by the keyboard, walk from one to the other and back, and save the walk."""
    for index in (0, 3):
        page.locator("#grid button").nth(index).focus()
        page.keyboard.press("Enter")
    page.locator("#between").fill("4")
    page.locator("#play").press("Enter")
    page.wait_for_selector("#save:not([hidden])")
    with page.expect_download() as saved:
        page.locator("#save").press("Enter")
    saved.value.save_as(f"{place}.webp")
    code = {}
    for language in ("curl", "grpcurl", "python"):
        page.locator(f"[data-language={language}]").press("Enter")
        code[language] = page.inner_text("#code")
    return {"progress": page.inner_text("#progress"), "code": code}


main(*sys.argv[1:])

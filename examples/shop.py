"""A shop whose pages recommend: similar products, and what fits the visit so far.

The shop knows its products, and asks the HTTP API for the rest:

    recsys serve models:/shop@champion     # in one terminal
    python examples/shop.py                # in another; then open http://127.0.0.1:8001

SHOP_ITEMS names another file than shop/items.csv, SHOP_PORT another port than 8001, and RECSYS_URL
another address of the API than http://127.0.0.1:8000.
"""

import csv
import os
import sys
from html import escape
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import httpx
from fastapi import Cookie, FastAPI, HTTPException
from fastapi.responses import HTMLResponse

STYLE = """body { font: 17px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto;
  padding: 0 1rem; color-scheme: light dark } h2 { margin-top: 2rem; font-size: 1rem; opacity: .7 }
  ul { display: grid; grid-template-columns: repeat(auto-fill, minmax(11rem, 1fr)); gap: .8rem;
  padding: 0; list-style: none } li a { display: block; height: 100%; padding: 1rem;
  box-sizing: border-box; border: 1px solid #8886; border-radius: .6rem } a { color: inherit;
  text-decoration: none } a:hover { border-color: #27c } """

ITEMS = Path(os.environ.get("SHOP_ITEMS", "shop/items.csv"))
try:
    with ITEMS.open(encoding="utf-8", newline="") as file:
        TITLES = {row["item_id"]: row["title"] for row in csv.DictReader(file)}
except OSError as error:
    sys.exit(f"error: {ITEMS}: {error.strerror}; set SHOP_ITEMS to a CSV file: item_id, title")
except KeyError as error:
    sys.exit(f"error: {ITEMS}: no column {error}; it needs item_id and title")

app = FastAPI()
KEY = os.environ.get("RECSYS_API_KEY")
api = httpx.AsyncClient(
    base_url=os.environ.get("RECSYS_URL", "http://127.0.0.1:8000"),
    headers={"Authorization": f"Bearer {KEY}"} if KEY else {},
    timeout=2,
)


async def ask(path: str, body: dict[str, Any]) -> dict[str, Any]:
    """Post to the API. Without an answer the page has no recommendations, but it is there."""
    try:
        return (await api.post(path, json=body)).raise_for_status().json()
    except httpx.HTTPError:
        return {"items": []}


def page(title: str, **lists: dict[str, Any]) -> HTMLResponse:
    """A page with a list of links for each answer of the API."""
    body = f"<title>{escape(title)}</title><style>{STYLE}</style><a href='/'>The shop</a>"
    body += f"<h1>{escape(title)}</h1>"
    for name, answer in lists.items():
        links = [
            f"<li><a href='/item/{quote(str(item_id), safe='')}'>{escape(title)}</a>"
            for item_id, title in ((item["item_id"], item["title"]) for item in answer["items"])
        ]
        body += f"<h2>{name.replace('_', ' ')}</h2><ul>{''.join(links)}</ul>" if links else ""
    head = "<meta charset=utf-8><meta name=viewport content='width=device-width'>"
    return HTMLResponse(f"<!doctype html><html lang=en>{head}{body}")


@app.get("/")
async def home() -> HTMLResponse:
    """The most popular items: what comes next after nothing."""
    return page("Welcome", Popular=await ask("/v1/next", {"k": 12}))


@app.get("/item/{item_id:path}")
async def show(item_id: str, visit: Annotated[str | None, Cookie()] = None) -> HTMLResponse:
    """An item, items similar to it, and the next items for the visit so far."""
    if item_id not in TITLES:
        raise HTTPException(404)
    event = {"item": item_id, "k": 6}
    following = await ask(f"/v1/sessions/{visit}/events", event) if visit else {"items": []}
    if not following["items"]:  # a new visitor, or one whose session has expired
        visit = (await ask("/v1/sessions", {})).get("session_id")
        following = await ask(f"/v1/sessions/{visit}/events", event)
    similar = await ask("/v1/similar", event)
    response = page(TITLES[item_id], Similar=similar, Next_for_you=following)
    if visit:
        response.set_cookie("visit", visit, httponly=True, samesite="lax")
    return response


if __name__ == "__main__":
    import uvicorn

    uvicorn.run(app, port=int(os.environ.get("SHOP_PORT", "8001")))

"""A shop whose pages recommend: similar products, and what fits the visit so far.

It reads no file: the HTTP API has the titles of the products, too.

    recsys serve models:/shop@champion     # in one terminal
    python examples/shop.py                # in another; then open http://127.0.0.1:8001

SHOP_PORT names another port than 8001, and RECSYS_URL another address of the API than
http://127.0.0.1:8000.
"""

import os
from html import escape
from typing import Annotated, Any
from urllib.parse import quote

import httpx
from fastapi import Cookie, FastAPI
from fastapi.responses import HTMLResponse

STYLE = """body { font: 17px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto;
  padding: 0 1rem; color-scheme: light dark } h2 { margin-top: 2rem; font-size: 1rem; opacity: .7 }
  ul { display: grid; grid-template-columns: repeat(auto-fill, minmax(11rem, 1fr)); gap: .8rem;
  padding: 0; list-style: none } li a { display: block; height: 100%; padding: 1rem;
  box-sizing: border-box; border: 1px solid #8886; border-radius: .6rem } a { color: inherit;
  text-decoration: none } a:hover { border-color: #27c } """

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
        answer = (await api.post(path, json=body)).json()
    except (httpx.HTTPError, ValueError):
        answer = {}
    return {"items": [], **answer}


def page(title: str, status: int = 200, **lists: dict[str, Any]) -> HTMLResponse:
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
    return HTMLResponse(f"<!doctype html><html lang=en>{head}{body}", status)


@app.get("/")
async def home() -> HTMLResponse:
    """The most popular items: what comes next after nothing."""
    return page("Welcome", Popular=await ask("/v1/next", {"k": 12}))


@app.get("/item/{item_id:path}")
async def show(item_id: str, visit: Annotated[str | None, Cookie()] = None) -> HTMLResponse:
    """An item, items similar to it, and the next items for the visit so far."""
    event = {"item": item_id, "k": 6}
    similar = await ask("/v1/similar", event)
    if similar.get("code") == "unknown-item":
        return page("There is no such product", Popular=await ask("/v1/next", {"k": 6}), status=404)
    following = await ask(f"/v1/sessions/{visit}/events", event) if visit else {"items": []}
    if not following["items"]:  # a new visitor, or one whose session has expired
        visit = (await ask("/v1/sessions", {})).get("session_id")
        following = await ask(f"/v1/sessions/{visit}/events", event)
    title = similar["item"]["title"] if "item" in similar else item_id
    response = page(title, Similar=similar, Next_for_you=following)
    if visit:
        response.set_cookie("visit", visit, httponly=True, samesite="lax")
    return response


if __name__ == "__main__":
    import uvicorn

    uvicorn.run(app, port=int(os.environ.get("SHOP_PORT", "8001")))

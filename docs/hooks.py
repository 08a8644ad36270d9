"""Reference pages whose text is in the code: the command line, settings, HTTP, names.

A page in `docs/reference` has a line such as `<!-- settings -->` where the build inserts them.
"""

from __future__ import annotations

import inspect
import json
import re
import types
import typing
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, Literal

import griffe
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import Files
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from recsys.cli.examples import EXAMPLES


class Examples(griffe.Extension):
    """Let griffe find the examples of docstrings, which it expects under another heading."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rename the heading."""
        if obj.docstring:
            obj.docstring.value = re.sub(r"(?m)^Example:$", "Examples:", obj.docstring.value)


LIMITS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}


def on_files(files: Files, **_: Any) -> None:
    """Require a page for each public package."""
    for package in _public():
        page = f"reference/python/{package.partition('.')[2] or 'index'}.md"
        if files.get_file_from_path(page) is None:
            raise PluginError(f"the package {package} has no page docs/{page}")


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace the marks of a page by what they name."""
    for name, generate in GENERATED.items():
        mark = f"<!-- {name} -->"
        if mark in markdown:
            markdown = markdown.replace(mark, generate())
    return markdown


def table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A table in Markdown."""
    lines = [header, ("---",) * len(header), *rows]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines) + "\n"


def _cell(text: str) -> str:
    """Text for a cell: one line, in which only the quoted parts have a meaning in Markdown."""
    parts = " ".join(text.replace("|", r"\|").split()).split("`")
    return "`".join(part if i % 2 else part.replace("<", "&lt;") for i, part in enumerate(parts))


# The settings of the flows and of the server.


def settings() -> str:
    """One table for each class of settings, with the name that it has in a TOML file."""
    from flows.settings import Settings

    return "\n".join(_settings_of(Settings, ""))


def serving_settings() -> str:
    """The options of `recsys serve`."""
    from recsys.serving import ServingConfig

    return "\n".join(_settings_of(ServingConfig, ""))


def _settings_of(config: type[BaseModel], prefix: str) -> Iterator[str]:
    nested = {
        name: [part for part in _parts(field.annotation) if _is_config(part)]
        for name, field in config.model_fields.items()
    }
    rows = [
        (f"`{prefix}{name}`", _type(field), _default(field), field.description or "")
        for name, field in config.model_fields.items()
        if not nested[name]
    ]
    if prefix:
        yield f"### `[{prefix.rstrip('.')}]`\n\n{inspect.getdoc(config)}\n"
    yield table(("name", "type", "default", "meaning"), rows)
    for name, parts in nested.items():
        for part in parts:
            yield from _settings_of(part, f"{prefix}{name}.")


def _is_config(part: Any) -> bool:
    return inspect.isclass(part) and issubclass(part, BaseModel)


def _parts(annotation: Any) -> list[Any]:
    """The alternatives of a type, without Annotated."""
    if typing.get_origin(annotation) is typing.Annotated:
        return _parts(typing.get_args(annotation)[0])
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return [part for each in typing.get_args(annotation) for part in _parts(each)]
    return [annotation]


def _type(field: FieldInfo) -> str:
    names = []
    for part in _parts(field.annotation):
        if typing.get_origin(part) is Literal:
            names += [f"`{json.dumps(value)}`" for value in typing.get_args(part)]
        elif part is not type(None):
            name = part.__name__ if inspect.isclass(part) else str(part)
            names.append(re.sub(r"\b(\w+\.)+|Annotated\[(\w+), .*?\)\]", r"\2", name))
    limits = [
        f"{sign} {getattr(limit, name)}"
        for limit in field.metadata
        for name, sign in LIMITS.items()
        if getattr(limit, name, None) is not None
    ]
    return ", ".join([" or ".join(names), *limits])


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    return "none" if value is None else f"`{json.dumps(value, default=str)}`"


# The command line.


def command_line() -> str:
    """Every command with its arguments and options."""
    import typer

    from recsys.cli.main import app

    command = typer.main.get_command(app)
    return "\n".join(_command(command, "recsys"))


def _command(command: Any, name: str) -> Iterator[str]:
    parts = getattr(command, "commands", {})
    if not parts:
        arguments = [each for each in command.params if each.param_type_name == "argument"]
        usage = " ".join([name, *map(_metavar, arguments), "[OPTIONS]"])
        yield f"## `{name}`\n\n{inspect.cleandoc(command.help or '')}\n\n    {usage}\n"
        examples = "\n".join(f"$ {each}" for each in EXAMPLES[name.removeprefix("recsys ")])
        yield f"```console\n{examples}\n```\n"
        if rows := [_option(parameter) for parameter in command.params]:
            yield table(("option", "default", "meaning"), rows)
        if command.context_settings.get("allow_extra_args"):
            yield "Options are the [settings](settings.md), such as `--session-model.epochs 8`.\n"
    for key, part in parts.items():
        yield from _command(part, f"{name} {key}")


def _metavar(argument: Any) -> str:
    name = argument.name.upper() + ("…" if argument.nargs == -1 else "")
    return name if argument.required else f"[{name}]"


def _option(parameter: Any) -> tuple[str, str, str]:
    if parameter.param_type_name == "argument":
        name = f"`{parameter.name.upper()}`"
    else:
        name = ", ".join(f"`{each}`" for each in [*parameter.opts, *parameter.secondary_opts])
    default = parameter.default
    shown = parameter.show_default if isinstance(parameter.show_default, str) else None
    if parameter.required:
        text = "required"
    elif shown or default in (None, (), []):
        text = shown or ""
    else:
        text = f"`{default}`"
    return name, text, parameter.help or ""


# The HTTP interface.


def http() -> str:
    """Every endpoint of the OpenAPI description."""
    from fastapi import FastAPI

    from recsys.serving import app as module

    app = FastAPI(title="recsys")
    app.include_router(module._v1)
    app.include_router(module._operation)
    openapi = module._openapi(app, has_key=False)
    schemas = openapi["components"]["schemas"]
    parts = []
    for path, methods in openapi["paths"].items():
        for method, operation in methods.items():
            parts += _endpoint(f"{method.upper()} {path}", operation, schemas)
    used = sorted({name for part in parts for name in re.findall(r"\(#(\w+)\)", part)})
    return "\n".join([*parts, "## Schemas\n", *_schemas(used, schemas)])


def _endpoint(name: str, operation: dict[str, Any], schemas: dict[str, Any]) -> Iterator[str]:
    yield f"## `{name}`\n\n{operation.get('description', operation['summary'])}\n"
    if parameters := operation.get("parameters"):
        rows = [
            (
                f"`{each['name']}`",
                each["in"],
                _schema_type(each["schema"]),
                each.get("description", ""),
            )
            for each in parameters
        ]
        yield table(("parameter", "in", "type", "meaning"), rows)
    if "requestBody" in operation:
        schema = operation["requestBody"]["content"]["application/json"]["schema"]
        body = schemas[_name(schema)]
        yield f"Request:\n\n{_fields(body)}"
        for example in body.get("examples", []):
            yield f"```json\n{json.dumps(example, ensure_ascii=False, indent=2)}\n```\n"
    responses = operation["responses"]
    for status, response in responses.items():
        if status < "400":
            content = response.get("content", {}).items()
            body = ", ".join(_schema_type(each.get("schema", {})) or kind for kind, each in content)
            yield f"Response, status {status}: {body or 'no body'}\n"
    if failures := sorted(status for status in responses if status >= "400"):
        yield f"[Errors](#error-codes): {', '.join(failures)}\n"


def _schemas(names: list[str], schemas: dict[str, Any]) -> Iterator[str]:
    pending, seen = names, set()
    while pending:
        name = pending.pop(0)
        if name in seen or "properties" not in schemas[name]:
            continue
        seen.add(name)
        text = f"### {name} {{ #{name} }}\n\n{schemas[name].get('description', '')}\n\n"
        text += _fields(schemas[name])
        pending += re.findall(r"\(#(\w+)\)", text)
        yield text


def _fields(schema: dict[str, Any]) -> str:
    required = schema.get("required", [])
    rows = [
        (
            f"`{name}`",
            _schema_type(field),
            "required" if name in required else f"`{json.dumps(field.get('default'))}`",
            field.get("description", ""),
        )
        for name, field in schema["properties"].items()
    ]
    return table(("field", "type", "default", "meaning"), rows)


def _name(schema: dict[str, Any]) -> str:
    return str(schema["$ref"]).rpartition("/")[2]


def _schema_type(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        return f"[{_name(schema)}](#{_name(schema)})"
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_schema_type(part) for part in schema["anyOf"]))
    if "enum" in schema:
        return " or ".join(f"`{value}`" for value in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {_schema_type(schema.get('items', {}))}"
    limits = [
        f"{sign} {schema[key]:g}"
        for key, sign in (("minimum", "≥"), ("maximum", "≤"), ("maxLength", "length ≤"))
        if key in schema
    ]
    return ", ".join([schema.get("type", ""), *limits])


# Public names.


@cache
def _public() -> dict[str, list[griffe.Object]]:
    """The public names of each package; all of them are documented."""
    root = griffe.load("recsys", docstring_parser="google", resolve_aliases=True)
    packages = [root, *(each for each in root.modules.values() if each.exports)]
    public = {
        package.path: [package[str(name)] for name in package.exports or []] for package in packages
    }
    public = {
        path: [each.final_target if each.is_alias else each for each in names]
        for path, names in public.items()
    }
    names = [each for objects in public.values() for each in objects]
    undocumented = sorted({path for each in names for path in _undocumented(each)})
    if undocumented:
        raise PluginError(f"public names without a docstring: {', '.join(undocumented)}")
    return public


def _undocumented(public: griffe.Object) -> Iterator[str]:
    """The name itself and its methods and properties; of fields, name and type may suffice."""
    if public.docstring is None:
        yield public.path
    for member in public.members.values():
        callable_ = member.is_function or "property" in member.labels
        if callable_ and member.is_public and not (member.is_special or member.docstring):
            yield member.path


def public_names() -> str:
    """The names of the package `recsys`, each with the first sentence of its docstring."""
    rows = []
    for each in _public()["recsys"]:
        summary = each.docstring.value.partition("\n\n")[0]
        rows.append((f"[`{each.name}`][{each.path}]", summary))
    return table(("name", ""), rows)


def bundle() -> str:
    """The files of a bundle."""
    from recsys.recommender import bundle as module

    _, listing, *_ = (module.__doc__ or "").split("\n\n")
    return f"```text\n{listing}\n```\n"


GENERATED: dict[str, Callable[[], str]] = {
    "settings": settings,
    "serving settings": serving_settings,
    "command line": command_line,
    "http": http,
    "bundle": bundle,
    "public names": public_names,
}

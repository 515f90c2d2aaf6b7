"""The reference page: the OpenAPI description as one self-contained HTML page."""

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup, escape

from service.console.docs_text import curl, in_words, inline, pretty, prose

HERE = Path(__file__).parent
STYLE = (HERE / "docs_page.css").read_text(encoding="utf-8")
SCRIPT = (HERE / "docs_page.js").read_text(encoding="utf-8")
METHODS = ("get", "put", "post", "delete", "patch")
JSON = "application/json"
Node = Mapping[str, Any]


class Member(NamedTuple):
    """A member of an object, a parameter, or a header."""

    name: str
    place: str  # "query", "header", "path"; empty for a member
    required: bool
    kind: Markup
    about: Markup
    example: str


class Body(NamedTuple):
    """A body of a request or an answer in one media type."""

    media: str
    kind: Markup
    about: Markup
    members: list[Member]
    examples: list[tuple[str, str]]  # title, text


class StatusRow(NamedTuple):
    """A status of an answer: its meaning, headers and bodies."""

    status: str
    about: Markup
    headers: list[Member]
    bodies: list[Body]


class Operation(NamedTuple):
    """A call."""

    id: str
    method: str
    path: str
    summary: str
    about: Markup
    scope: str
    token: bool  # whether it never goes without
    parameters: list[Member]
    bodies: list[Body]
    answers: list[StatusRow]
    commands: list[tuple[str, str]]  # title, curl
    send: str  # the body that the page offers to send


class Named(NamedTuple):
    """A schema with a name."""

    name: str
    about: Markup
    kind: Markup
    members: list[Member]


class Tag(NamedTuple):
    """A group of calls."""

    name: str
    about: Markup
    operations: list[Operation]


def page(description: Node) -> str:
    """The HTML page of an OpenAPI 3.1 description."""
    reader = _Reader(description)
    return _template().render(
        info=description["info"],
        about=prose(description["info"]["description"]),
        tags=reader.tags(),
        schemas=reader.schemas(),
        style=Markup(STYLE),
        script=Markup(SCRIPT),
    )


class _Reader:
    """Reads a description and resolves its `$ref`s."""

    def __init__(self, description: Node) -> None:
        self._root = description

    def tags(self) -> list[Tag]:
        """All calls by tag, in the order of the description."""
        calls = [
            (operation["tags"][0], self._operation(path, method, item, operation))
            for path, item in self._root["paths"].items()
            for method, operation in item.items()
            if method in METHODS
        ]
        return [
            Tag(
                tag["name"],
                prose(tag["description"]),
                [operation for name, operation in calls if name == tag["name"]],
            )
            for tag in self._root["tags"]
        ]

    def schemas(self) -> list[Named]:
        """Return the schemas with a section of their own; simple ones are shown where used."""
        return [
            Named(name, inline(schema.get("description", "")), self._kind(schema), members)
            for name, schema in self._root["components"]["schemas"].items()
            if (members := self._members(schema)) or not _simple(schema)
        ]

    def _operation(self, path: str, method: str, item: Node, operation: Node) -> Operation:
        parts = [*item.get("parameters", ()), *operation.get("parameters", ())]
        parameters = [self._parameter(self._follow_reference(part)) for part in parts]
        body = self._follow_reference(operation.get("requestBody", {}))
        security = operation.get("security", ())
        scopes = [scope for way in security for scope in way.get("token", ())]
        token = bool(security) and {} not in security
        address = _fill_path(path, parameters)
        bodies = self._bodies(body)
        send = next((text for b in bodies if b.media == JSON for _, text in b.examples[:1]), "")
        return Operation(
            operation["operationId"],
            method.upper(),
            path,
            operation["summary"],
            prose(operation.get("description", "")),
            " ".join(scopes),
            token,
            parameters,
            bodies,
            [self._answer(*pair) for pair in operation["responses"].items()],
            list(self._commands(method.upper(), address, operation, token)),
            send,
        )

    def _commands(
        self, method: str, path: str, operation: Node, token: bool
    ) -> Iterator[tuple[str, str]]:
        """Yield a title and a command line for every example and every file."""
        body = self._follow_reference(operation.get("requestBody", {}))
        contents = body.get("content", {})
        if not body.get("required", False):
            yield "", curl(method, path, token=token)
        for media, content in contents.items():
            for example in content.get("examples", {}).values():
                target = self._follow_reference(example)
                command = curl(method, path, media, target["value"], token=token)
                yield target.get("summary", ""), command
            if media != JSON and "examples" not in content and media != "application/octet-stream":
                yield media, curl(method, path, media, token=token)
        for sample in operation.get("x-codeSamples", ()):
            yield sample["label"], sample["source"].rstrip()

    def _parameter(self, node: Node) -> Member:
        example = str(node.get("example", ""))
        return Member(
            node["name"],
            node["in"],
            node.get("required", False),
            self._kind(node["schema"]),
            inline(node.get("description", "")),
            example,
        )

    def _answer(self, status: str, node: Node) -> StatusRow:
        response = self._follow_reference(node)
        headers = [
            self._parameter({**self._follow_reference(header), "name": name, "in": "header"})
            for name, header in response.get("headers", {}).items()
        ]
        return StatusRow(status, inline(response["description"]), headers, self._bodies(response))

    def _bodies(self, node: Node) -> list[Body]:
        return [
            Body(
                media,
                self._kind(content["schema"]),
                inline(self._about(content["schema"])),
                self._members(content["schema"]),
                [
                    (example.get("summary", ""), pretty(example["value"]))
                    for example in map(self._follow_reference, content.get("examples", {}).values())
                ],
            )
            for media, content in node.get("content", {}).items()
        ]

    def _members(self, node: Node) -> list[Member]:
        """List the members of an object, those of `allOf` first."""
        schema = self._follow_reference(node)
        members = [member for part in schema.get("allOf", ()) for member in self._members(part)]
        required = schema.get("required", ())
        return members + [
            Member(
                name,
                "",
                name in required,
                self._kind(part),
                inline(part.get("description", "") or self._about(part)),
                "",
            )
            for name, part in schema.get("properties", {}).items()
        ]

    def _about(self, node: Node) -> str:
        """Return the description of a schema or of the schema that it refers to."""
        schema = self._follow_reference(node)
        if schema.get("type") == "array" and "description" not in schema and "items" in schema:
            return self._about(schema["items"])
        return "" if "pattern" in schema else str(schema.get("description", ""))

    def _kind(self, node: Node) -> Markup:
        """Describe a type, with links to the schemas that have a section."""
        schema = self._follow_reference(node)
        if "$ref" in node and not _simple(schema):
            name = node["$ref"].rpartition("/")[2]
            return Markup('<a href="#schema-{0}">{0}</a>').format(name)
        if len(schema.get("allOf", ())) == 1 and "properties" not in schema:
            return self._kind(schema["allOf"][0])
        if "anyOf" in schema:
            return Markup(" or ").join(self._kind(part) for part in schema["anyOf"])
        if schema.get("type") == "array":
            return self._list(schema)
        if schema.get("type") == "object" and schema.get("additionalProperties"):
            return Markup("object of {} by name").format(
                self._kind(schema["additionalProperties"])
            )  # fmt: skip
        return inline(in_words(schema))

    def _list(self, schema: Node) -> Markup:
        low, high = schema.get("minItems", 0), schema.get("maxItems")
        amount = f"{low} or more" if low else ""
        if high is not None:
            amount = f"{low}" if low == high else f"{low} to {high}" if low else f"at most {high}"
        items = schema.get("items")
        if items is None:
            return Markup("list of {}").format(amount) if amount else Markup("list")
        colon = ":" if amount and _simple(self._follow_reference(items)) else ""
        return Markup("list of {}{} {}").format(amount, colon, self._kind(items))

    def _follow_reference(self, node: Node) -> Node:
        """Return the target of a `$ref`, or the node itself."""
        while "$ref" in node:
            place: Any = self._root
            for part in node["$ref"].removeprefix("#/").split("/"):
                place = place[part]
            node = place
        return node


def _simple(schema: Node) -> bool:
    """Whether a schema can be described in a few words."""
    return not ({"properties", "anyOf", "allOf"} & set(schema)) and schema.get("type") != "array"


def _fill_path(path: str, parameters: list[Member]) -> str:
    """Fill the examples of its parameters into a path."""
    for each in parameters:
        path = path.replace("{" + each.name + "}", each.example)
    return path


def _breakable(path: str) -> Markup:
    """Allow a line break after each slash of a path."""
    return Markup("/<wbr>").join(map(escape, path.split("/")))


@cache
def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["breakable"] = _breakable
    return environment.get_template("docs_page.html.j2")

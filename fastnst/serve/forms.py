"""Bodies of requests that are forms with a picture in them (multipart/form-data, RFC 7578), read strictly."""

from dataclasses import dataclass, field

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from fastnst.serve.problems import BadRequestError, Field, InvalidParameterError

FILES = ("image", "mask")
_MOST_PARTS = 32
_LONGEST_FIELD = 4096  # bytes
_LONGEST_HEADER = 16_384  # bytes; names of files may be long, and mean nothing


@dataclass
class Form:
    """Options as texts, and files by the names of their fields."""

    options: list[tuple[str, str]] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)


def boundary_of(content_type: str) -> bytes:
    """What is between the parts; BadRequestError if the header does not say."""
    boundary = parse_options_header(content_type)[1].get(b"boundary", b"")
    if not 0 < len(boundary) <= 70:
        raise BadRequestError("the Content-Type multipart/form-data has no boundary of 1 to 70 characters; give one")
    return boundary


def read_form(body: bytes, boundary: bytes) -> Form:
    """The parts of a body.

    Raises BadRequestError for one that is damaged, cut off or has too many or too large parts, InvalidParameterError
    for a file that is given twice.
    """
    reader = _Reader(body)
    try:
        reader.read(boundary)
    except FormParserError as error:
        raise BadRequestError("the form is damaged; send it as multipart/form-data, RFC 7578") from error
    if not reader.ended:
        raise BadRequestError("the form is cut off: its last boundary is missing; send all of it")
    return reader.form


class _Reader:
    """One body on its way through the parser, which tells where its parts begin and end."""

    def __init__(self, body: bytes) -> None:
        self.body, self.form, self.ended = body, Form(), False
        self.parts = 0

    def read(self, boundary: bytes) -> None:
        parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_begin": self._begin_header,
                "on_header_field": lambda data, start, end: self.header.extend(data[start:end]),
                "on_header_value": lambda data, start, end: self.value.extend(data[start:end]),
                "on_header_end": self._end_header,
                "on_part_data": self._add,
                "on_part_end": self._end,
                "on_end": self._end_form,
            },
            max_header_size=_LONGEST_HEADER,
        )
        parser.write(self.body)

    def _begin(self) -> None:
        self.parts += 1
        if self.parts > _MOST_PARTS:
            raise BadRequestError(f"the form has more than {_MOST_PARTS} parts; leave out the rest")
        self.name = b""
        self.data = bytearray()

    def _begin_header(self) -> None:
        self.header, self.value = bytearray(), bytearray()

    def _end_header(self) -> None:
        if self.header.lower() == b"content-disposition":
            kind, options = parse_options_header(bytes(self.value))
            self.name = options.get(b"name", b"") if kind == b"form-data" else b""

    def _add(self, data: bytes, start: int, end: int) -> None:
        if self.name.decode("latin-1") not in FILES and len(self.data) + end - start > _LONGEST_FIELD:
            raise BadRequestError(f"a field of the form has more than {_LONGEST_FIELD} bytes; none needs so many")
        self.data += data[start:end]

    def _end(self) -> None:
        try:
            name = self.name.decode()
            if name in FILES:
                self._take_file(name)
            elif name:
                self.form.options.append((name, self.data.decode()))
            else:
                raise BadRequestError("a part of the form has no name; give it as Content-Disposition: form-data")
        except UnicodeDecodeError as error:
            raise BadRequestError("a field of the form is not UTF-8; send text as UTF-8") from error

    def _take_file(self, name: str) -> None:
        if name in self.form.files:
            message = f"{name} is given twice; send one"
            raise InvalidParameterError(message, fields=[Field(name, message)])
        self.form.files[name] = bytes(self.data)

    def _end_form(self) -> None:
        self.ended = True

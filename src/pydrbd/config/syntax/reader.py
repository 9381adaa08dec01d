"""Text -> statements by a grammar of this folder; shared by the readers of both dialects.

A text is either read whole or refused with one `ConfigError`; size and depth are bounded, so that no text takes long.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib.resources import files

from lark import Lark, Token, Tree
from lark.exceptions import UnexpectedCharacters, UnexpectedToken

from pydrbd.config.errors import SYNTAX, ConfigError, Place, shown
from pydrbd.config.layout import Dialect
from pydrbd.config.syntax.limits import DEEPEST_SECTION, LONGEST_TEXT
from pydrbd.config.syntax.statements import Section, Setting, Word
from pydrbd.config.syntax.trouble import explain

ToWord = Callable[[Token, str], Word]
ToStatements = Callable[["Tree[Token]", str], list[Setting]]


@cache
def _grammar(dialect: Dialect) -> Lark:
    name = "grammar06.lark" if dialect is Dialect.V06 else "grammar84.lark"
    text = (files("pydrbd.config.syntax") / name).read_text(encoding="utf-8")
    return Lark(
        text, parser="lalr", lexer="basic" if dialect is Dialect.V06 else "contextual", maybe_placeholders=False
    )


def read(text: str, file: str, dialect: Dialect, to_word: ToWord, to_settings: ToStatements) -> Section:
    """Return the statements of `text` as the body of a section without a keyword.

    `to_word` makes a word of a token; `to_settings` makes settings of a subtree that is neither a section nor hidden
    by `skip`.
    """
    if len(text) > LONGEST_TEXT:
        raise ConfigError(Place(file), "the file is larger than 1 MiB; that is no drbd.conf", exit_code=SYNTAX)
    grammar = _grammar(dialect)
    try:
        tree = grammar.parse(text)
    except UnexpectedToken as error:
        raise explain(grammar.lex(text), error.token, file, dialect) from None
    except UnexpectedCharacters as error:
        place = Place(file, error.line, error.column)
        raise ConfigError(place, f"{error.char!r} is not expected here", exit_code=SYNTAX) from None
    return _Conversion(file, to_word, to_settings).section(Word("", Place(file)), (), tree.children, 0)


class _Conversion:
    """From lark's trees to statements, for one file."""

    def __init__(self, file: str, to_word: ToWord, to_settings: ToStatements) -> None:
        self._file = file
        self._to_word = to_word
        self._to_settings = to_settings

    def section(
        self, keyword: Word, names: tuple[Word, ...], children: list[Tree[Token] | Token], depth: int
    ) -> Section:
        if depth > DEEPEST_SECTION:
            sentence = f"sections are nested deeper than {DEEPEST_SECTION}"
            raise ConfigError(keyword.place, sentence, exit_code=SYNTAX)
        body: list[Setting | Section] = []
        for child in children:
            if isinstance(child, Token) or child.data == "skip":
                continue
            if child.data == "section":
                header, *inner = child.children
                words = [self._to_word(word, self._file) for word in _tokens(header)]
                _refuse_header_of_two_lines(words)
                body.append(self.section(words[0], tuple(words[1:]), inner, depth + 1))
            else:
                body.extend(self._to_settings(child, self._file))
        return Section(keyword, names, tuple(body))


def _refuse_header_of_two_lines(words: list[Word]) -> None:
    """Refuse a section whose name is not on its keyword's line: what looks like a keyword is a setting without `;`."""
    line = words[0].place.line
    if words[-1].place.line != line:
        said = shown(" ".join(word.text for word in words if word.place.line == line))
        raise ConfigError(words[0].place, f"';' is missing after {said}", exit_code=SYNTAX)


def _tokens(tree: Tree[Token] | Token) -> list[Token]:
    return [tree] if isinstance(tree, Token) else [child for child in tree.children if isinstance(child, Token)]


def words_of(tree: Tree[Token], file: str, to_word: ToWord) -> list[Word]:
    """Return the words of a subtree's first child, the rule `words`."""
    return [to_word(token, file) for token in _tokens(tree.children[0])]
